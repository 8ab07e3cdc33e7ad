import { isZero } from "@heirloom/block";
import fc from "fast-check";
import { expect, test } from "vitest";

test("one byte that is not zero is found wherever it is, in plain and in shared memory", () => {
  // The native compare goes in steps of 256 KiB: their borders are where a mistake would hide.
  const border = fc.tuple(fc.constantFrom(1, 2), fc.integer({ min: -1, max: 1 })).map(([n, d]) => n * 262_144 + d);
  const position = fc.oneof(fc.integer({ min: 0, max: 700_000 }), border);
  fc.assert(
    fc.property(position, position, fc.integer({ min: 1, max: 255 }), fc.boolean(), (length, at, byte, shared) => {
      const bytes = new Uint8Array(shared ? new SharedArrayBuffer(length + 20) : new ArrayBuffer(length + 20)).fill(1);
      const view = bytes.subarray(7, 7 + length).fill(0);
      expect(isZero(view)).toBe(true);
      if (length === 0) return;
      view[at % length] = byte;
      expect(isZero(view)).toBe(false);
    }),
    { numRuns: 150 },
  );
});

test("the bytes of -0.0 are not zero", () => {
  expect(isZero(new Uint8Array(Float64Array.of(0, -0, 0).buffer))).toBe(false);
});
