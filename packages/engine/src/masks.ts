/** Sets of clusters of one word, as bits. */

/** Bits of the clusters `[from, to)`, all of one word. */
export function maskOf(from: number, to: number): number {
  const count = to - from;
  return count === 32 ? -1 : ((1 << count) - 1) << (from & 31);
}

export function countOf(mask: number): number {
  let left = mask - ((mask >>> 1) & 0x55555555);
  left = (left & 0x33333333) + ((left >>> 2) & 0x33333333);
  return Math.imul((left + (left >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
}

/** Number of the lowest bit; the mask is not 0. */
export function lowestOf(mask: number): number {
  return 31 - Math.clz32(mask & -mask);
}

/** Number of the first bit at or after `from` that is not set, at most 32. */
export function runEnd(mask: number, from: number): number {
  const clear = ~mask >>> from;
  return clear === 0 ? 32 : from + lowestOf(clear);
}
