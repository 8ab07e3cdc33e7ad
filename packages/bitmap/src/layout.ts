/**
 * Where each bit of a bitmap lies.
 *
 * The granules are cut into regions of 2^30, each in memory of its own, so that positions inside a region are small
 * integers. A region is a tree of levels of 32-bit words, leaf first, each level on its own cache lines:
 *
 *   level    one bit is          width (words)          in a full region
 *   0 leaf   1 granule           ceil(granules / 32)    2^25 words = 128 MiB
 *   1        1 word of level 0   ceil(level 0 / 32)     2^20 words =   4 MiB
 *   2        1 word of level 1   ceil(level 1 / 32)     2^15 words = 128 KiB
 *   ...      until a level has one word: the top        level 5
 *
 *   bit `b` of a level lies in word b >>> 5 of it, at b & 31 (LSB first); its parent is bit b >>> 5 one level up.
 *
 * Writers: every thread that marks, all levels, with Atomics only. Clearing writes level 0 alone; `reset` writes all
 * levels and needs exclusive use. Readers: every thread. Ordering: sequentially consistent (Atomics), and parents are
 * set before children (region.ts has the proof). Memory: leaf, and 1/31 of it for the levels above.
 */

import { BitmapError } from "./bitmap-error.ts";

export const LENGTH_MAX: number = 2 ** 53;
export const GRANULARITY_MIN: number = 512;
export const GRANULARITY_MAX: number = 2 ** 31;
export const GRANULES_MAX: number = 2 ** 37;
/** Positions inside a region stay below 2^30: small integers, also one past the end. */
export const REGION_GRANULES: number = 2 ** 30;

const WORD_BYTES = 4;
const LINE_WORDS = 16;

/** One region's levels; index 0 is the leaf, the last one the top. */
export interface RegionLayout {
  readonly granules: number;
  /** First word of each level. */
  readonly bases: readonly number[];
  /** Words of each level. */
  readonly sizes: readonly number[];
  readonly words: number;
  readonly bytes: number;
}

/** Refuses what no bitmap can have; returns the number of granules. */
export function checkGeometry(operation: string, length: number, granularity: number): number {
  if (!(Number.isInteger(length) && length >= 0 && length <= LENGTH_MAX)) {
    throw new BitmapError(
      "invalid-length",
      `${operation}: expected a length of 0 to 2^53 whole bytes, got ${String(length)}`,
    );
  }
  const power = Math.log2(granularity);
  if (!(Number.isInteger(power) && granularity >= GRANULARITY_MIN && granularity <= GRANULARITY_MAX)) {
    throw new BitmapError(
      "invalid-granularity",
      `${operation}: expected a granularity that is a power of two from 512 to 2^31 bytes, got ${String(granularity)}`,
    );
  }
  const granules = Math.ceil(length / granularity);
  if (granules > GRANULES_MAX) {
    let smallest = granularity;
    while (Math.ceil(length / smallest) > GRANULES_MAX) smallest *= 2;
    throw new BitmapError(
      "too-many-granules",
      `${operation}: ${length} bytes at granularity ${granularity} are ${granules} granules, more than 2^37; ` +
        `the smallest granularity that fits is ${smallest}`,
      { smallestGranularity: smallest },
    );
  }
  return granules;
}

/** One layout per region of a bitmap with that many granules; an empty disk has one region of one (clean) granule's room. */
export function regionLayouts(granules: number): RegionLayout[] {
  const layouts: RegionLayout[] = [];
  let left = granules;
  do {
    const here = Math.min(left, REGION_GRANULES);
    layouts.push(regionLayout(here));
    left -= here;
  } while (left > 0);
  return layouts;
}

function regionLayout(granules: number): RegionLayout {
  const bases: number[] = [];
  const sizes: number[] = [];
  let words = 0;
  let bits = Math.max(1, granules);
  do {
    const size = Math.ceil(bits / 32);
    bases.push(words);
    sizes.push(size);
    words += Math.ceil(size / LINE_WORDS) * LINE_WORDS;
    bits = size;
  } while (bits > 1);
  return { granules, bases, sizes, words, bytes: words * WORD_BYTES };
}

/** At load: levels neither overlap nor share a line, the top is one word, and a full region has the sums drawn above. */
function checkLayout(): void {
  for (const granules of [0, 1, 32, 33, 1024, 1025, REGION_GRANULES - 1, REGION_GRANULES]) {
    const { bases, sizes, words, bytes } = regionLayout(granules);
    let end = 0;
    for (const [level, base] of bases.entries()) {
      const size = sizes[level];
      if (base < end || base % LINE_WORDS !== 0 || size < 1)
        throw new Error(`bitmap layout: level ${level} at ${base}`);
      end = base + size;
    }
    if (end > words || sizes.at(-1) !== 1 || bytes !== words * WORD_BYTES) {
      throw new Error(`bitmap layout: ${granules} granules end at word ${end} of ${words}`);
    }
  }
  const full = regionLayout(REGION_GRANULES);
  const sum = 2 ** 27 + 2 ** 22 + 2 ** 17 + 2 ** 12 + 2 ** 7 + 64;
  if (full.bytes !== sum || full.sizes.length !== 6)
    throw new Error(`bitmap layout: a full region is ${full.bytes} bytes`);
}

checkLayout();
