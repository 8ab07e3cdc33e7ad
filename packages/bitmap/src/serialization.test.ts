import { SharedBitmap } from "@heirloom/bitmap";
import fc from "fast-check";
import { expect, test } from "vitest";
import { geometries, rangesIn } from "../testing/geometries.ts";
import { GranuleSet } from "../testing/granule-set.ts";

/** Bits LSB first in little-endian 64-bit words, at least one word: made with Buffer and bigint alone. */
function words64(model: GranuleSet): Buffer {
  const granules = Math.ceil(model.length / model.granularity);
  const bytes = Buffer.alloc(Math.max(1, Math.ceil(granules / 64)) * 8);
  for (const granule of model.granules) {
    const at = Math.floor(granule / 64) * 8;
    bytes.writeBigUInt64LE(bytes.readBigUInt64LE(at) | (1n << BigInt(granule % 64)), at);
  }
  return bytes;
}

test("bits are written as little-endian 64-bit words, and reading them gives the same bitmap", () => {
  const cases = geometries.chain((geometry) => fc.tuple(fc.constant(geometry), fc.array(rangesIn(geometry, 500))));
  fc.assert(
    fc.property(cases, ([{ length, granularity }, ranges]) => {
      const bitmap = SharedBitmap.create(length, granularity);
      const model = new GranuleSet(length, granularity);
      for (const range of ranges) {
        bitmap.set(range.offset, range.length);
        model.set(range.offset, range.length);
      }
      const bytes = bitmap.serialize();
      expect(Buffer.from(bytes).equals(words64(model))).toBe(true);
      // At an odd place of a larger buffer, as it comes out of a file.
      const odd = Buffer.concat([Buffer.alloc(1), bytes]).subarray(1);
      const loaded = SharedBitmap.deserialize(odd, length, granularity);
      expect(loaded.equals(bitmap)).toBe(true);
      expect([...loaded.extents()]).toEqual(model.extents(0));
    }),
    { numRuns: 150 },
  );
});

test("granules 0, 9 and 64 of 65 are 01 02 and, in the next word, 01", () => {
  const bitmap = SharedBitmap.create(65 * 512, 512);
  for (const granule of [0, 9, 64]) bitmap.set(granule * 512, 1);
  expect(Buffer.from(bitmap.serialize()).toString("hex")).toBe("0102000000000000" + "0100000000000000");
});

test("an empty disk is one word of zeroes", () => {
  expect(Buffer.from(SharedBitmap.create(0, 512).serialize()).toString("hex")).toBe("0000000000000000");
  expect(SharedBitmap.deserialize(new Uint8Array(8), 0, 512).isEmpty()).toBe(true);
});

test("bits of a second region follow those of the first", () => {
  const bitmap = SharedBitmap.create((2 ** 30 + 100) * 512, 512);
  bitmap.set(2 ** 30 * 512 + 3 * 512, 1);
  const bytes = bitmap.serialize();
  expect(bytes.length).toBe(2 ** 27 + 16);
  expect(bytes[2 ** 27]).toBe(0b1000);
  expect(Buffer.from(bytes.subarray(0, 4096)).equals(Buffer.alloc(4096))).toBe(true);
});

test("bytes of another size are refused, with the size that was expected", () => {
  for (const size of [0, 8, 15, 17, 24]) {
    expect(() => SharedBitmap.deserialize(new Uint8Array(size), 65 * 512, 512)).toThrow(
      expect.objectContaining({
        code: "invalid-bits",
        message: `load bitmap: expected 16 bytes for 65 granules, got ${size}`,
      }),
    );
  }
});

test("a bit past the end of the disk is refused, wherever it is", () => {
  for (let bit = 0; bit < 128; bit++) {
    const bytes = new Uint8Array(16);
    bytes[bit >> 3] = 1 << (bit & 7);
    const load = (): SharedBitmap => SharedBitmap.deserialize(bytes, 77 * 512 - 5, 512);
    if (bit < 77) expect(load().test(Math.min(bit * 512, 77 * 512 - 6))).toBe(true);
    else expect(load).toThrow(expect.objectContaining({ code: "invalid-bits" }));
  }
});
