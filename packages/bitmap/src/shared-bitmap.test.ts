import { SharedBitmap } from "@heirloom/bitmap";
import fc from "fast-check";
import { expect, test } from "vitest";
import { type Geometry, geometries, rangesIn } from "../testing/geometries.ts";
import { GranuleSet } from "../testing/granule-set.ts";

type Step = {
  readonly kind: "set" | "clear" | "look";
  readonly offset: number;
  readonly length: number;
};

function stepsIn(geometry: Geometry, granulesMax: number): fc.Arbitrary<Step[]> {
  const kind = fc.constantFrom("set" as const, "set" as const, "clear" as const, "look" as const);
  const step = fc.tuple(kind, rangesIn(geometry, granulesMax)).map(([what, range]) => ({ kind: what, ...range }));
  return fc.array(step, { maxLength: 20 });
}

/** Whole granules inside a range, or up to the disk's end: what `clear` takes. */
function whole(model: GranuleSet, offset: number, length: number): { offset: number; length: number } {
  const start = Math.min(model.length, Math.ceil(offset / model.granularity) * model.granularity);
  const cut = offset + length;
  const end = cut === model.length ? cut : Math.floor(cut / model.granularity) * model.granularity;
  return { offset: start, length: Math.max(0, end - start) };
}

function take(step: Step, bitmap: SharedBitmap, model: GranuleSet): void {
  const { offset, length } = step;
  if (step.kind === "set") {
    bitmap.set(offset, length);
    model.set(offset, length);
  } else if (step.kind === "clear") {
    const range = whole(model, offset, length);
    bitmap.clear(range.offset, range.length);
    model.clear(range.offset, range.length);
  }
  expect(bitmap.any(offset, length)).toBe(model.any(offset, length));
  expect(bitmap.all(offset, length)).toBe(model.all(offset, length));
  expect(bitmap.nextDirty(offset)).toBe(model.nextDirty(offset));
  expect(bitmap.nextClean(offset)).toBe(model.nextClean(offset));
  expect(bitmap.nextExtent(offset)).toEqual(model.extents(offset)[0]);
  if (offset < model.length) expect(bitmap.test(offset)).toBe(model.test(offset));
  expect([...bitmap.extents()]).toEqual(model.extents(0));
  expect([...bitmap.extents(offset)]).toEqual(model.extents(offset));
  expect(bitmap.count()).toBe(model.count());
  expect(bitmap.isEmpty()).toBe(model.granules.size === 0);
}

test("a bitmap of any length and granularity answers as a set of granules does", () => {
  const cases = geometries.chain((geometry) => fc.tuple(fc.constant(geometry), stepsIn(geometry, 3000)));
  fc.assert(
    fc.property(cases, ([{ length, granularity }, steps]) => {
      const bitmap = SharedBitmap.create(length, granularity);
      const model = new GranuleSet(length, granularity);
      expect(bitmap.granules).toBe(Math.ceil(length / granularity));
      for (const step of steps) take(step, bitmap, model);
    }),
    { numRuns: 300 },
  );
});

test("a bitmap of more than 2^32 granules, in several regions, answers as a set of granules does", () => {
  const geometry = { granularity: 65536, length: (2 ** 32 + 2 ** 30 + 77) * 65536 - 1000 };
  const bitmap = SharedBitmap.create(geometry.length, geometry.granularity);
  expect(bitmap.handle.regions.length).toBe(6);
  fc.assert(
    fc.property(stepsIn(geometry, 500), (steps) => {
      bitmap.reset();
      const model = new GranuleSet(geometry.length, geometry.granularity);
      for (const step of steps) take(step, bitmap, model);
    }),
    { numRuns: 150 },
  );
});

test("a range across the border of two regions is one extent", () => {
  const bitmap = SharedBitmap.create(2 ** 32 * 512, 512);
  const border = 2 ** 30 * 512;
  bitmap.set(border - 700, 1400);
  expect([...bitmap.extents()]).toEqual([{ offset: border - 1024, length: 2048 }]);
  expect(bitmap.all(border - 1024, 2048)).toBe(true);
  expect(bitmap.any(border - 2048, 1024)).toBe(false);
  bitmap.set(3 * border - 512, border + 512);
  expect(bitmap.nextClean(3 * border)).toBe(bitmap.length);
  bitmap.clear(border, 512);
  expect(bitmap.nextExtent(0)).toEqual({ offset: border - 1024, length: 1024 });
});

test("reset leaves nothing but zero bytes, and memory beside the regions is never written", () => {
  const cases = geometries.chain((geometry) => fc.tuple(fc.constant(geometry), stepsIn(geometry, 5000)));
  const guard = 64;
  fc.assert(
    fc.property(cases, ([{ length, granularity }, steps]) => {
      const arenas: Uint8Array[] = [];
      const bitmap = SharedBitmap.create(length, granularity, (byteLength) => {
        const arena = new Uint8Array(new SharedArrayBuffer(byteLength + 2 * guard)).fill(0xa5);
        arena.fill(0, guard, guard + byteLength);
        arenas.push(arena);
        return { buffer: arena.buffer, byteOffset: guard };
      });
      const model = new GranuleSet(length, granularity);
      for (const step of steps) take(step, bitmap, model);
      bitmap.reset();
      expect(bitmap.isEmpty()).toBe(true);
      for (const arena of arenas) {
        const bytes = Buffer.from(arena.buffer, 0, arena.length);
        expect(bytes.subarray(guard, -guard).equals(Buffer.alloc(arena.length - 2 * guard))).toBe(true);
        for (const edge of [bytes.subarray(0, guard), bytes.subarray(-guard)]) {
          expect(edge.equals(Buffer.alloc(guard, 0xa5))).toBe(true);
        }
      }
    }),
    { numRuns: 100 },
  );
});

test("memory that was reset holds a bitmap of another shape", () => {
  const buffer = new SharedArrayBuffer(1 << 20);
  const first = SharedBitmap.create(2 ** 30, 512, () => ({ buffer, byteOffset: 0 }));
  first.set(0, 2 ** 30);
  first.reset();
  const second = SharedBitmap.create(100_000 * 512, 512, () => ({ buffer, byteOffset: 64 }));
  second.set(77_777 * 512, 1);
  expect([...second.extents()]).toEqual([{ offset: 77_777 * 512, length: 512 }]);
});

test("a scan that stands still while others mark yields what is ahead of it", () => {
  const bitmap = SharedBitmap.create(2 ** 30, 65536);
  bitmap.set(65536, 1);
  bitmap.set(2 ** 29, 1);
  const scan = bitmap.extents();
  expect(scan.next().value).toEqual({ offset: 65536, length: 65536 });
  bitmap.set(0, 1);
  bitmap.set(2 ** 28, 1);
  expect([...scan].map((extent) => extent.offset)).toEqual([2 ** 28, 2 ** 29]);
});
