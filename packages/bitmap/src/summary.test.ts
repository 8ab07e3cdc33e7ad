import { SharedBitmap } from "@heirloom/bitmap";
import fc from "fast-check";
import { expect, test } from "vitest";
import { rangesIn } from "../testing/geometries.ts";
import { withHookedAtomics } from "../testing/hooked-atomics.ts";

// 40000 granules: 1250 leaf words, 40 words above, then 2, then 1.
const granularity = 512;
const length = 40_000 * granularity;
const geometry = { length, granularity };

/** `test` reads the leaf alone and `count` goes by the summaries: they differ where a summary says less than its leaf. */
function leafIsCovered(bitmap: SharedBitmap, ranges: readonly { offset: number; length: number }[]): boolean {
  const set = new Set<number>();
  for (const range of ranges) {
    for (
      let granule = Math.floor(range.offset / granularity);
      granule * granularity < range.offset + range.length;
      granule++
    ) {
      if (bitmap.test(granule * granularity)) set.add(granule);
    }
  }
  return bitmap.count() === set.size * granularity;
}

const dirty = fc.array(rangesIn(geometry, 300), { minLength: 1, maxLength: 4 });

test("between any two Atomics of a mark, each bit that is set can be found by a scan", () => {
  fc.assert(
    fc.property(dirty, (ranges) => {
      const bitmap = SharedBitmap.create(length, granularity);
      let looked = 0;
      const look = (): void => {
        looked++;
        if (!leafIsCovered(bitmap, ranges)) throw new Error("a summary says less than its leaf");
      };
      withHookedAtomics(look, () => {
        for (const range of ranges) bitmap.set(range.offset, range.length);
      });
      if (ranges.some((range) => range.length > 0)) expect(looked).toBeGreaterThan(0);
    }),
    { numRuns: 100 },
  );
});

test("a thread that dies between any two Atomics of a mark hides nothing, and others mark on", () => {
  const ranges = [
    { offset: 33_000 * granularity, length: 1 },
    { offset: 2_000 * granularity, length: 70 * granularity },
    { offset: 10_000 * granularity, length: 3_000 * granularity },
  ];
  const death = new Error("this thread dies here");
  for (const range of ranges) {
    let deaths = 0;
    for (let died = true; died;) {
      const bitmap = SharedBitmap.create(length, granularity);
      const die = (operation: number): void => {
        if (operation === deaths) throw death;
      };
      died = false;
      try {
        withHookedAtomics(die, () => bitmap.set(range.offset, range.length));
      } catch (error) {
        if (error !== death) throw error;
        died = true;
        deaths++;
      }
      expect(leafIsCovered(bitmap, ranges)).toBe(true);
      bitmap.set(range.offset, range.length);
      expect([...bitmap.extents()].length).toBe(1);
      expect(bitmap.all(range.offset, range.length)).toBe(true);
      expect(leafIsCovered(bitmap, ranges)).toBe(true);
    }
    expect(deaths).toBeGreaterThan(3);
  }
});

test("a thread that dies in reset hides nothing, and reset can be called again", () => {
  for (let deaths = 0, died = true; died; deaths++) {
    const buffer = new SharedArrayBuffer(SharedBitmap.regionBytes(length, granularity)[0]);
    const bitmap = SharedBitmap.create(length, granularity, () => ({ buffer, byteOffset: 0 }));
    const ranges = [1_500, 2_600, 33_333, 39_999].map((granule) => ({
      offset: granule * granularity,
      length: granularity,
    }));
    for (const range of ranges) bitmap.set(range.offset, range.length);
    died = false;
    try {
      withHookedAtomics(
        (operation) => {
          if (operation === deaths) throw new RangeError("dies here");
        },
        () => bitmap.reset(),
      );
    } catch {
      died = true;
    }
    expect(leafIsCovered(bitmap, ranges)).toBe(true);
    bitmap.reset();
    expect(Buffer.from(buffer).every((byte) => byte === 0)).toBe(true);
  }
});

test("marks that another thread makes between any two Atomics of a mark, a clear or a merge stay", () => {
  const source = SharedBitmap.create(length, granularity);
  source.set(5_000 * granularity, 200 * granularity);
  const operations: ((bitmap: SharedBitmap) => void)[] = [
    (bitmap) => bitmap.set(5_000 * granularity, 200 * granularity),
    (bitmap) => bitmap.set(5_001 * granularity, 1),
    (bitmap) => bitmap.clear(5_000 * granularity, 200 * granularity),
    (bitmap) => bitmap.merge(source),
  ];
  for (const operation of operations) {
    // Neighbours in the same words and under the same summary words, outside of what the operation may clear.
    for (const neighbour of [4_999, 5_200, 5_111 + 1_024, 39_999]) {
      let at = 0;
      for (let steps = 1; at < steps; at++) {
        const bitmap = SharedBitmap.create(length, granularity);
        bitmap.set(5_010 * granularity, 185 * granularity);
        steps = 0;
        const hook = (step: number): void => {
          steps = step + 1;
          if (step === at) bitmap.set(neighbour * granularity, 1);
        };
        withHookedAtomics(hook, () => operation(bitmap));
        expect(bitmap.nextDirty(neighbour * granularity)).toBe(neighbour * granularity);
        expect(
          [...bitmap.extents()].some(
            (run) => run.offset <= neighbour * granularity && neighbour * granularity < run.offset + run.length,
          ),
        ).toBe(true);
      }
      expect(at).toBeGreaterThan(1);
    }
  }
});

test("a mark of what is dirty already, or beside it, looks at a word or two and writes at most one", () => {
  const bitmap = SharedBitmap.create(2 ** 40, 65536);
  bitmap.set(2 ** 39, 4096);
  const operations = (offset: number): number => {
    let count = 0;
    withHookedAtomics(
      () => count++,
      () => bitmap.set(offset, 4096),
    );
    return count;
  };
  expect(operations(2 ** 39)).toBe(1);
  expect(operations(2 ** 39 + 65536)).toBe(3);
});

test("an empty bitmap of 2^32 granules is scanned with one look a region", () => {
  const bitmap = SharedBitmap.create(2 ** 32 * 512, 512);
  let looks = 0;
  withHookedAtomics(
    () => looks++,
    () => expect(bitmap.count()).toBe(0),
  );
  // From the first word of each region up to its top: five levels for each of four regions.
  expect(looks).toBeLessThanOrEqual(4 * 5);
});
