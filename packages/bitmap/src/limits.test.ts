import { readFileSync } from "node:fs";
import { BitmapError, type BitmapErrorCode, type BitmapRegion, SharedBitmap } from "@heirloom/bitmap";
import { expect, test } from "vitest";

function refusal(run: () => unknown): BitmapError {
  try {
    run();
  } catch (error) {
    if (error instanceof BitmapError) return error;
    throw error;
  }
  throw new Error("was not refused");
}

function residentKib(): number {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync("/proc/self/status", "utf8"))?.[1]);
}

test("2^37 granules can be marked and scanned without memory for the clean ones", () => {
  const before = residentKib();
  const start = performance.now();
  const length = 2 ** 53;
  const bitmap = SharedBitmap.create(length, 65536);
  expect(bitmap.granules).toBe(2 ** 37);
  expect(bitmap.isEmpty()).toBe(true);
  bitmap.set(length - 1, 1);
  bitmap.set(2 ** 52 - 1, 2);
  expect([...bitmap.extents()]).toEqual([
    { offset: 2 ** 52 - 65536, length: 131072 },
    { offset: length - 65536, length: 65536 },
  ]);
  expect(bitmap.count()).toBe(3 * 65536);
  expect(bitmap.test(length - 1)).toBe(true);
  bitmap.reset();
  expect(bitmap.isEmpty()).toBe(true);
  expect(performance.now() - start).toBeLessThan(1000);
  expect(residentKib() - before).toBeLessThan(16 * 1024);
});

test("one granule more than 2^37 is refused, with the smallest granularity that fits", () => {
  const refused = refusal(() => SharedBitmap.create(2 ** 37 * 512 + 1, 512));
  expect(refused.code).toBe("too-many-granules");
  expect(refused.smallestGranularity).toBe(1024);
  expect(refused.message).toMatch(/^create bitmap: .*the smallest granularity that fits is 1024$/);
  expect(refusal(() => SharedBitmap.create(2 ** 53, 4096)).smallestGranularity).toBe(65536);
  expect(refusal(() => SharedBitmap.regionBytes(2 ** 53, 512)).smallestGranularity).toBe(65536);
});

test("lengths and granularities that no disk has are refused", () => {
  for (const length of [-1, 0.5, Number.NaN, Infinity, 2 ** 53 + 2]) {
    expect(refusal(() => SharedBitmap.create(length, 65536)).code).toBe("invalid-length");
  }
  for (const granularity of [0, -512, 256, 513, 768, 2 ** 32, Number.NaN, Infinity]) {
    expect(refusal(() => SharedBitmap.create(1 << 20, granularity)).code).toBe("invalid-granularity");
  }
});

test("ranges that leave the disk are refused by every operation that takes one, and mark nothing", () => {
  const bitmap = SharedBitmap.create(10_000, 512);
  const ranges = [
    [-1, 1],
    [0, 10_001],
    [10_000, 1],
    [9_999, 2],
    [0, -1],
    [Number.NaN, 1],
    [0, Number.NaN],
  ] as const;
  for (const [offset, length] of ranges) {
    for (const operation of ["set", "clear", "any", "all"] as const) {
      const refused = refusal(() => bitmap[operation](offset, length));
      expect(refused.code).toBe("out-of-range");
      expect(refused.message).toBe(
        `${operation}: expected a range inside the disk's 10000 bytes, got ${length} bytes at ${offset}`,
      );
    }
  }
  expect(refusal(() => bitmap.test(10_000)).code).toBe("out-of-range");
  expect(refusal(() => bitmap.nextDirty(10_001)).code).toBe("out-of-range");
  expect(refusal(() => bitmap.nextClean(-1)).code).toBe("out-of-range");
  expect(bitmap.isEmpty()).toBe(true);
  expect(bitmap.nextDirty(10_000)).toBe(-1);
  expect(bitmap.nextClean(10_000)).toBe(10_000);
});

test("a part of a granule is not cleared, except at the disk's end", () => {
  const bitmap = SharedBitmap.create(10_000, 512);
  bitmap.set(0, 10_000);
  for (const [offset, length] of [
    [1, 511],
    [0, 511],
    [512, 513],
    [9_729, 271],
  ] as const) {
    expect(refusal(() => bitmap.clear(offset, length)).code).toBe("unaligned");
  }
  expect(bitmap.all(0, 10_000)).toBe(true);
  bitmap.clear(9_728, 272);
  expect(bitmap.nextClean(0)).toBe(9_728);
});

test("memory that cannot hold the bitmap is refused before a bit is set", () => {
  const bytes = SharedBitmap.regionBytes(1 << 20, 512)[0];
  const on = (region: BitmapRegion) => () => SharedBitmap.create(1 << 20, 512, () => region);
  const codes: BitmapErrorCode[] = [
    on({ buffer: new SharedArrayBuffer(bytes - 4), byteOffset: 0 }),
    on({ buffer: new SharedArrayBuffer(bytes + 4), byteOffset: 8 }),
    on({ buffer: new SharedArrayBuffer(bytes + 8), byteOffset: 2 }),
    on({ buffer: new SharedArrayBuffer(bytes + 8), byteOffset: -4 }),
    on({ buffer: new ArrayBuffer(bytes) as unknown as SharedArrayBuffer, byteOffset: 0 }),
  ].map((create) => refusal(create).code);
  expect(new Set(codes)).toEqual(new Set(["invalid-region"]));

  const used = SharedBitmap.create(1 << 20, 512);
  used.set(1 << 19, 1);
  expect(refusal(on(used.handle.regions[0])).message).toBe("create bitmap: expected zeroed memory");
  expect(refusal(() => SharedBitmap.from({ ...used.handle, regions: [] })).message).toBe(
    "attach bitmap: expected 1 regions, got 0",
  );
  expect(refusal(() => SharedBitmap.from({ ...used.handle, length: 1 << 30 })).code).toBe("invalid-region");
});

test("memory that is not to be had is an error that names its size", () => {
  const refused = refusal(() =>
    SharedBitmap.create(1 << 20, 512, () => {
      throw new RangeError("Array buffer allocation failed");
    }),
  );
  expect(refused.code).toBe("out-of-memory");
  expect(refused.cause).toBeInstanceOf(RangeError);
  expect(refused.message).toBe("create bitmap: no memory for a region of 384 bytes");
});

test("bits that do not fit into one Uint8Array are not written in part", () => {
  let most = 2 ** 34;
  try {
    most = new Uint8Array(most).length;
  } catch {
    most = 0;
  }
  const bitmap = SharedBitmap.create(2 ** 53, 65536);
  if (most === 0) expect(refusal(() => bitmap.serialize()).code).toBe("out-of-memory");
  else expect(bitmap.serialize().length).toBe(most);
});

test("regions take what the layout's sums say", () => {
  expect(SharedBitmap.regionBytes(0, 512)).toEqual([64]);
  expect(SharedBitmap.regionBytes(2 ** 40, 65536)).toEqual([2 ** 21 + 2 ** 16 + 2 ** 11 + 64 + 64]);
  const full = 2 ** 27 + 2 ** 22 + 2 ** 17 + 2 ** 12 + 2 ** 7 + 64;
  expect(SharedBitmap.regionBytes(2 ** 30 * 512 + 1, 512)).toEqual([full, 64]);
  expect(SharedBitmap.regionBytes(2 ** 53, 65536)).toEqual(Array.from({ length: 128 }, () => full));
});
