/**
 * What tests of the runtime stand on: a runtime, a directory of real files, what happened so far in order, and a plain
 * model of bits. A scene is closed whatever becomes of its test.
 */
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { FaultRule, NodeSpec } from "@heirloom/block";
import {
  type AttachOptions,
  createRuntime,
  type Disk,
  type JobResult,
  type Runtime,
  type RuntimeEvent,
  type RuntimeOptions,
} from "@heirloom/runtime";

export const cluster = 65536;
export const MiB = 1024 * 1024;

/** Numbers in [0, 1) that a seed decides. */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Bytes of which none is zero, so that no hole passes for data. */
export function pattern(length: number, seed: number): Uint8Array {
  const words = new Uint32Array(Math.ceil(length / 4));
  let state = Math.imul(seed + 1, 0x9e3779b1) >>> 0;
  for (let index = 0; index < words.length; index++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    words[index] = state | 0x01010101;
  }
  return new Uint8Array(words.buffer, 0, length);
}

export class Scene {
  readonly runtime: Runtime;
  readonly directory: string;
  /** What happened so far. */
  readonly events: RuntimeEvent[] = [];
  readonly #waiting = new Set<() => void>();
  #files = 0;

  /** @param where files on a tmpfs, where there is one, since each of many jobs flushes its target; or on a disk */
  constructor(options: RuntimeOptions = {}, where: "memory" | "disk" = "memory") {
    this.directory = mkdtempSync(
      join(where === "memory" && existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "heirloom-runtime-"),
    );
    // A machine that is busy with other tests must not fail these: a guest waits for as long as it takes.
    this.runtime = createRuntime({ guestDelayMax: 20_000, ...options });
    void this.#follow();
  }

  path(name: string): string {
    return join(this.directory, name);
  }
  bytes(name: string): Uint8Array {
    return readFileSync(this.path(name));
  }
  /** An image file with a pattern, or with nothing but a length. */
  image(name: string, length: number, seed?: number): NodeSpec {
    if (seed === undefined) return { driver: "file", filename: this.path(name), create: { length, overwrite: true } };
    writeFileSync(this.path(name), pattern(length, seed));
    return { driver: "file", filename: this.path(name) };
  }
  /** A target that nobody has used before. */
  target(length: number): NodeSpec & { filename: string } {
    return { driver: "file", filename: this.path(`target${this.#files++}.raw`), create: { length } };
  }
  async disk(name: string, length: number, seed?: number, options: AttachOptions = {}): Promise<Disk> {
    return this.runtime.attach(this.image(`${name}.raw`, length, seed), { name, ...options });
  }
  /** An attached disk over a file, of which requests fail, wait or hang by these rules. */
  async faulty(name: string, length: number, rules: readonly FaultRule[], seed?: number): Promise<Disk> {
    return this.runtime.attach({ driver: "fault", file: this.image(`${name}.raw`, length, seed), rules }, { name });
  }

  /** The first event of this name that matches, from the first event of all on. */
  async event(name: string, data: Readonly<Record<string, unknown>> = {}): Promise<RuntimeEvent> {
    let found: RuntimeEvent | undefined;
    await this.until(() => {
      found = this.events.find(
        (event) => event.name === name && Object.entries(data).every(([key, value]) => event.data[key] === value),
      );
      return found !== undefined;
    });
    assert(found !== undefined);
    return found;
  }
  /** Until it holds; asked again after each event, and now and then. */
  async until(holds: () => boolean): Promise<void> {
    while (!holds()) {
      await new Promise<void>((resolve) => {
        const wake = (): void => {
          this.#waiting.delete(wake);
          clearTimeout(timer);
          resolve();
        };
        const timer = setTimeout(wake, 5);
        this.#waiting.add(wake);
      });
    }
  }
  /** What tools see of a job, in order: `J(status)`, and the names of other events. */
  story(job: string): string[] {
    return this.events
      .filter((event) => event.data.id === job || event.data.device === job)
      .map((event) => {
        if (event.name === "JOB_STATUS_CHANGE") return `J(${String(event.data.status)})`;
        const { operation, action } = event.data;
        return event.name === "BLOCK_JOB_ERROR" ? `${event.name} ${String(operation)} ${String(action)}` : event.name;
      });
  }

  async #follow(): Promise<void> {
    for await (const event of this.runtime.events()) {
      this.events.push(event);
      for (const wake of this.#waiting) wake();
    }
  }

  async close(): Promise<void> {
    await this.runtime.close();
    rmSync(this.directory, { recursive: true, force: true });
  }
}

export async function inScene(
  body: (scene: Scene) => Promise<void>,
  options: RuntimeOptions = {},
  where: "memory" | "disk" = "memory",
): Promise<void> {
  const scene = new Scene(options, where);
  try {
    await body(scene);
  } finally {
    await scene.close();
  }
}

/** What of a job's result most tests look at. */
export async function ended(job: { readonly done: Promise<JobResult> }): Promise<Pick<JobResult, "status" | "error">> {
  const { status, error } = await job.done;
  return { status, error };
}

/** A refusal, by what callers look at. */
export async function refusalOf(work: () => unknown): Promise<{ code: string; desc: string; message: string }> {
  try {
    await work();
  } catch (error) {
    const { code, desc, message } = error as { code: string; desc: string; message: string };
    return { code, desc, message };
  }
  return { code: "none", desc: "it was not refused", message: "" };
}

/** Dirty bytes of a bitmap as granule numbers. */
export function granulesOf(disk: Disk, bitmap: string): number[] {
  const { granularity } = disk.bitmaps.get(bitmap);
  const granules: number[] = [];
  for (const { offset, length } of disk.bitmaps.extents(bitmap)) {
    for (let at = offset; at < offset + length; at += granularity) granules.push(at / granularity);
  }
  return granules;
}

/** Granules that a range of bytes touches. */
export function granulesIn(offset: number, length: number, granularity: number): number[] {
  const granules: number[] = [];
  for (let granule = Math.floor(offset / granularity); granule * granularity < offset + length; granule++)
    granules.push(granule);
  return granules;
}

export function union(...lists: ReadonlyArray<readonly number[]>): number[] {
  return [...new Set(lists.flat())].sort((one, other) => one - other);
}

/** Where two images differ first, for a short failure text; -1 if they do not. */
export function firstDifference(one: Uint8Array, other: Uint8Array): number {
  if (Buffer.compare(one, other) === 0) return -1;
  const length = Math.min(one.length, other.length);
  for (let at = 0; at < length; at++) if (one[at] !== other[at]) return at;
  return length;
}
