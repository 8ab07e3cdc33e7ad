/**
 * What a guest does: bursts of requests in a small window of the disk, which moves on a few times a second, as the working
 * set of a program does. So what changes between two backups is a part of the disk.
 *
 * Two guests at a time share a window, so they meet in clusters. Sizes are 512 bytes to 1 MiB; a third of the requests
 * begins and ends at any sector, a sixth at any byte, and most that are large cross the borders of clusters.
 */
import { Random } from "@heirloom/example-seed";
import type { Area } from "./image.ts";

export interface Request {
  kind: 0 | 1 | 2;
  offset: number;
  length: number;
  unmap: boolean;
}

export const requestBytesMax: number = 1024 * 1024;
const requestBytesMin = 512;
const windowBytes = 2 * 1024 * 1024;
const windowMs = 400;

export class Workload {
  readonly #random: Random;
  readonly #seed: number;
  readonly #pair: number;
  readonly #areas: readonly Area[];
  #slot = -1;
  #window: Area = { offset: 0, length: 0 };
  readonly #request: Request = { kind: 0, offset: 0, length: 0, unmap: false };

  constructor(seed: number, guest: number, areas: readonly Area[]) {
    this.#random = new Random(seed + 7919 * (guest + 1));
    this.#seed = seed;
    this.#pair = guest >> 1;
    this.#areas = areas.filter(({ length }) => length >= 2 * requestBytesMin);
  }

  /** The next request, in an object that the following call fills in anew. @param ms since the guests began */
  next(ms: number): Request {
    this.#moveWindow(Math.floor(ms / windowMs));
    const random = this.#random;
    const request = this.#request;
    const alignment = [1, 512, 512, 4096, 4096, 4096][random.below(6)];
    const { offset, length } = this.#window;
    const wanted = Math.max(alignment, this.#size() - random.below(alignment));
    request.length = Math.min(Math.max(requestBytesMin, wanted - (wanted % alignment)), length);
    const at = random.below(length - request.length + 1);
    request.offset = offset + Math.max(0, at - ((offset + at) % alignment));
    const choice = random.below(100);
    request.kind = choice < 92 ? 0 : choice < 96 ? 1 : 2;
    request.unmap = choice >= 98;
    return request;
  }

  /** Requests up to the next pause. */
  burst(): number {
    return 1 + this.#random.below(24);
  }
  /** Milliseconds. */
  pause(): number {
    return 1 + this.#random.below(3);
  }

  /** Bytes: mostly small. */
  #size(): number {
    const random = this.#random;
    const choice = random.below(100);
    if (choice < 55) return 4096;
    if (choice < 75) return requestBytesMin + random.below(16 * 1024);
    if (choice < 92) return random.below(64 * 1024);
    if (choice < 98) return random.below(256 * 1024);
    return requestBytesMax;
  }

  /** By the clock and the seed alone, so that both guests of a pair go to the same place. */
  #moveWindow(slot: number): void {
    if (slot === this.#slot) return;
    this.#slot = slot;
    const random = new Random(this.#seed ^ Math.imul(slot * 64 + this.#pair, 0x9e3779b1));
    const total = this.#areas.reduce((sum, { length }) => sum + length, 0);
    let at = random.below(total);
    const area = this.#areas.find(({ length }) => (at -= length) < 0) ?? this.#areas[0];
    const length = Math.min(windowBytes, area.length);
    this.#window = { offset: area.offset + random.below(area.length - length + 1), length };
  }
}
