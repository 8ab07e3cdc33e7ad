/**
 * Where a region's words come from: a fresh SharedArrayBuffer, or a piece of somebody's arena. Checked here, once,
 * because a region over memory that is too small or not zeroed would lose marks without a word.
 */

import { BitmapError } from "./bitmap-error.ts";
import type { RegionLayout } from "./layout.ts";

/** A piece of shared memory that holds one region; `byteOffset` is a multiple of 4, better of 64 (a cache line). */
export interface BitmapRegion {
  readonly buffer: SharedArrayBuffer;
  readonly byteOffset: number;
}

/** Gives zeroed memory for one region. */
export type Allocate = (byteLength: number) => BitmapRegion;

/** A SharedArrayBuffer of its own per region: zeroed by the kernel, and no page of it exists before it is touched. */
export function allocateFresh(byteLength: number): BitmapRegion {
  return { buffer: new SharedArrayBuffer(byteLength), byteOffset: 0 };
}

/** Allocates every region, or throws with the size that could not be had. */
export function allocateRegions(layouts: readonly RegionLayout[], allocate: Allocate): BitmapRegion[] {
  return layouts.map((layout) => {
    try {
      return allocate(layout.bytes);
    } catch (cause) {
      if (!(cause instanceof RangeError)) throw cause;
      throw new BitmapError("out-of-memory", `create bitmap: no memory for a region of ${layout.bytes} bytes`, {
        cause,
      });
    }
  });
}

/** The words of a region, after looking that they are there. */
export function mapRegion(
  operation: string,
  layout: RegionLayout,
  region: BitmapRegion,
): Int32Array<SharedArrayBuffer> {
  const { buffer, byteOffset } = region;
  if (!(buffer instanceof SharedArrayBuffer)) {
    throw new BitmapError("invalid-region", `${operation}: expected a region in a SharedArrayBuffer`);
  }
  if (!(Number.isSafeInteger(byteOffset) && byteOffset >= 0 && byteOffset % 4 === 0)) {
    throw new BitmapError(
      "invalid-region",
      `${operation}: expected a region at a multiple of 4 bytes, got ${byteOffset}`,
    );
  }
  if (byteOffset + layout.bytes > buffer.byteLength) {
    throw new BitmapError(
      "invalid-region",
      `${operation}: expected ${layout.bytes} bytes from ${byteOffset} on, the buffer has ${buffer.byteLength}`,
    );
  }
  return new Int32Array(buffer, byteOffset, layout.words);
}
