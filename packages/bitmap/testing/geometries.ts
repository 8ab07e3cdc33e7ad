/** Random bitmaps and random ranges in them, small enough for the model, at the places where arithmetic goes wrong. */

import fc from "fast-check";

export interface Geometry {
  readonly length: number;
  readonly granularity: number;
}

/** From no granule to more than a region of levels two and three, the last granule often cut off. */
export const geometries: fc.Arbitrary<Geometry> = fc
  .tuple(
    fc.integer({ min: 9, max: 31 }),
    fc.oneof(fc.constantFrom(0, 1, 31, 32, 33, 63, 64, 65, 1023, 1024, 1025, 32768, 32769), fc.nat(100_000)),
    fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }),
  )
  .map(([power, granules, cut]) => {
    const granularity = 2 ** power;
    return {
      granularity,
      length: Math.max(0, granules * granularity - Math.floor(cut * granularity)),
    };
  });

/** Byte ranges of at most `granulesMax` granules inside the disk, around multiples of powers of two and its end. */
export function rangesIn(geometry: Geometry, granulesMax: number): fc.Arbitrary<{ offset: number; length: number }> {
  const { length: end, granularity } = geometry;
  const anchors = [0, 32, 1024, 32768, 2 ** 30, 2 ** 31, 2 ** 32, 3 * 2 ** 30].map((granule) => granule * granularity);
  const anchor = fc.oneof(fc.constantFrom(...anchors.filter((offset) => offset <= end), end), fc.maxSafeNat());
  const near = fc.integer({ min: -40 * granularity, max: 40 * granularity });
  const extent = fc.oneof(
    fc.constantFrom(0, 1, granularity),
    fc.nat(granularity * 3),
    fc.nat(granulesMax * granularity),
  );
  return fc.tuple(anchor, near, extent).map(([at, shift, wanted]) => {
    const inside = at <= end ? at : at % (end + 1);
    const offset = Math.min(end, Math.max(0, inside + shift));
    return { offset, length: Math.min(wanted, end - offset) };
  });
}
