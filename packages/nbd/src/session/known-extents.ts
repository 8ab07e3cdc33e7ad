/**
 * What a helper found out about a range, as it lies in payload memory: for each extent its length and its bits, two
 * 64-bit numbers. For nodes whose `status` may wait.
 */
import { EIO, type Errno, type StatusExtent } from "@heirloom/block";
import type { StatusSource } from "./block-status.ts";
import { EXTENTS_MAX } from "./limits.ts";

const NUMBERS = 2;
const ZERO = 1;
const ALLOCATED = 2;

/** Payload memory for one range. */
export const KNOWN_BYTES: number = EXTENTS_MAX * NUMBERS * 8;

/** Helper: asks about a range, as far as there is room. @returns the errno, or minus the count of extents */
export function findExtents(source: StatusSource, offset: number, length: number, found: Float64Array): number {
  const extent: StatusExtent = { length: 0, zero: false, allocated: false };
  let count = 0;
  for (let at = offset; at < offset + length && count < EXTENTS_MAX; at += extent.length) {
    const errno = source.status(at, offset + length - at, extent);
    if (errno !== 0) return errno;
    found[count * NUMBERS] = extent.length;
    found[count * NUMBERS + 1] = (extent.zero ? ZERO : 0) | (extent.allocated ? ALLOCATED : 0);
    count++;
  }
  return -count;
}

/** Session: answers from what was found. */
export class KnownExtents implements StatusSource {
  readonly #found: Float64Array;
  readonly #count: number;
  readonly #offset: number;
  /** Bytes from the offset on that are known. */
  readonly length: number;

  constructor(found: Float64Array, count: number, offset: number) {
    this.#found = found;
    this.#count = count;
    this.#offset = offset;
    let length = 0;
    for (let index = 0; index < count; index++) length += found[index * NUMBERS];
    this.length = length;
  }

  status(offset: number, length: number, extent: StatusExtent): Errno {
    let start = this.#offset;
    for (let index = 0; index < this.#count; index++) {
      const end = start + this.#found[index * NUMBERS];
      if (offset < end) {
        const bits = this.#found[index * NUMBERS + 1];
        extent.length = Math.min(length, end - offset);
        extent.zero = (bits & ZERO) !== 0;
        extent.allocated = (bits & ALLOCATED) !== 0;
        return 0;
      }
      start = end;
    }
    return EIO; // nobody asks past what is known
  }
}
