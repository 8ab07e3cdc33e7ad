import { BitmapError, SharedBitmap } from "@heirloom/bitmap";
import fc from "fast-check";
import { expect, test } from "vitest";
import { geometries, rangesIn } from "../testing/geometries.ts";
import { GranuleSet } from "../testing/granule-set.ts";

const ranges = (length: number, granularity: number) =>
  fc.array(rangesIn({ length, granularity }, 200), { maxLength: 12 });

function bitmapOf(model: GranuleSet): SharedBitmap {
  const bitmap = SharedBitmap.create(model.length, model.granularity);
  for (const extent of model.extents(0)) bitmap.set(extent.offset, extent.length);
  return bitmap;
}

function modelOf(length: number, granularity: number, dirty: { offset: number; length: number }[]): GranuleSet {
  const model = new GranuleSet(length, granularity);
  for (const range of dirty) model.set(range.offset, range.length);
  return model;
}

/** A target and a source, of lengths and granularities of their own (within a factor of 2^6), both with dirty ranges. */
const pairs = geometries.chain(({ length, granularity }) =>
  fc
    .record({
      shift: fc.integer({ min: -6, max: 6 }),
      other: fc.oneof(fc.constant(length), fc.nat(Math.floor(length * 1.5))),
    })
    .chain(({ shift, other }) => {
      const sourceGranularity = Math.min(2 ** 31, Math.max(512, granularity * 2 ** shift));
      const sourceLength = Math.min(other, sourceGranularity * 200_000);
      return fc.record({
        target: ranges(length, granularity).map((dirty) => modelOf(length, granularity, dirty)),
        same: ranges(length, sourceGranularity).map((dirty) => modelOf(length, sourceGranularity, dirty)),
        source: ranges(sourceLength, sourceGranularity).map((dirty) => modelOf(sourceLength, sourceGranularity, dirty)),
      });
    }),
);

test("merge joins bits across granularities: outwards where the target is coarser, filling where it is finer", () => {
  fc.assert(
    fc.property(pairs, ({ target, same }) => {
      const bitmap = bitmapOf(target);
      bitmap.merge(bitmapOf(same));
      for (const extent of same.extents(0)) target.set(extent.offset, extent.length);
      expect([...bitmap.extents()]).toEqual(target.extents(0));
      expect(bitmap.count()).toBe(target.count());
    }),
    { numRuns: 200 },
  );
});

test("fold takes a source of any length and leaves out what lies past the target's end", () => {
  fc.assert(
    fc.property(pairs, ({ target, source }) => {
      const bitmap = bitmapOf(target);
      const before = bitmapOf(source);
      const from = bitmapOf(source);
      bitmap.fold(from);
      for (const extent of source.extents(0)) {
        const end = Math.min(extent.offset + extent.length, target.length);
        if (extent.offset < end) target.set(extent.offset, end - extent.offset);
      }
      expect([...bitmap.extents()]).toEqual(target.extents(0));
      expect(bitmap.count()).toBe(target.count());
      expect(from.equals(before)).toBe(true);
    }),
    { numRuns: 200 },
  );
});

test("a resized copy is clean where it grew and keeps a granule that shrinking cut in two", () => {
  const mib = 2 ** 20;
  const bitmap = SharedBitmap.create(4 * mib, mib);
  bitmap.set(3 * mib, mib);
  expect([...bitmap.resized(3 * mib + 512).extents()]).toEqual([{ offset: 3 * mib, length: 512 }]);
  expect(bitmap.resized(3 * mib).isEmpty()).toBe(true);
  const grown = bitmap.resized(2 ** 40);
  expect([...grown.extents()]).toEqual([{ offset: 3 * mib, length: mib }]);
  expect(bitmap.resized(0).isEmpty()).toBe(true);
  expect(grown.resized(4 * mib).equals(bitmap)).toBe(true);
});

test("a fold into a shorter disk sets no bit past its end", () => {
  const source = SharedBitmap.create(64 * 512, 512);
  source.set(0, 64 * 512);
  const target = SharedBitmap.create(40 * 512 - 9, 512);
  target.fold(source);
  expect(target.count()).toBe(40 * 512);
  expect(target.nextClean(0)).toBe(target.length);
  expect(Buffer.from(target.serialize()).toString("hex")).toBe("ffffffffff000000");
});

test("a bitmap of several regions merges as one does", () => {
  const length = 2 ** 33 * 512;
  const source = SharedBitmap.create(length, 512);
  const border = 2 ** 30 * 512;
  for (const at of [0, border - 512, 5 * border, length - 512]) source.set(at, 512);
  const same = SharedBitmap.create(length, 512);
  same.merge(source);
  expect(same.equals(source)).toBe(true);
  const coarse = SharedBitmap.create(length, 65536);
  coarse.merge(source);
  expect([...coarse.extents()]).toEqual([
    { offset: 0, length: 65536 },
    { offset: border - 65536, length: 65536 },
    { offset: 5 * border, length: 65536 },
    { offset: length - 65536, length: 65536 },
  ]);
});

test("merging bitmaps of disks of different length is refused, with both lengths, and changes nothing", () => {
  const target = SharedBitmap.create(1 << 20, 512);
  const source = SharedBitmap.create((1 << 20) + 1, 512);
  source.set(0, 512);
  let refusal: unknown;
  try {
    target.merge(source);
  } catch (error) {
    refusal = error;
  }
  expect(refusal).toBeInstanceOf(BitmapError);
  expect(refusal).toMatchObject({ code: "length-mismatch" });
  expect(String(refusal)).toMatch(/merge: .*1048577 bytes into 1048576/);
  expect(target.isEmpty()).toBe(true);
});

test("bitmaps are equal in length, granularity and bits, whatever their summaries still say", () => {
  const one = SharedBitmap.create(1 << 30, 4096);
  const other = SharedBitmap.create(1 << 30, 4096);
  expect(one.equals(other)).toBe(true);
  one.set(1 << 29, 1);
  expect(one.equals(other)).toBe(false);
  expect(other.equals(one)).toBe(false);
  one.clear(1 << 29, 4096);
  expect(one.equals(other)).toBe(true);
  expect(one.equals(SharedBitmap.create(1 << 30, 8192))).toBe(false);
  expect(one.equals(SharedBitmap.create((1 << 30) - 1, 4096))).toBe(false);
});
