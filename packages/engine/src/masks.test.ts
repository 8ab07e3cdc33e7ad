import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { countOf, lowestOf, maskOf, runEnd } from "../dist/masks.js";

const bitsOf = (mask: number): number[] =>
  Array.from({ length: 32 }, (_, bit) => bit).filter((bit) => (mask & (1 << bit)) !== 0);
const mask = fc.oneof(
  fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }),
  fc.constantFrom(0, -1, 1, -(2 ** 31), 0x7fffffff),
);

describe("masks of one word's clusters", () => {
  it("hold the clusters of a range, wherever the word is (property)", () => {
    fc.assert(
      fc.property(fc.nat(2 ** 26 - 1), fc.nat(31), fc.integer({ min: 1, max: 32 }), (word, from, count) => {
        const to = Math.min(32, from + count);
        const base = word * 32;
        expect(bitsOf(maskOf(base + from, base + to))).toEqual(Array.from({ length: to - from }, (_, at) => from + at));
      }),
    );
    expect(maskOf(64, 64)).toBe(0);
  });

  it("are counted (property)", () => {
    fc.assert(
      fc.property(mask, (bits) => {
        expect(countOf(bits)).toBe(bitsOf(bits).length);
      }),
    );
  });

  it("have a lowest bit, and runs that end where a bit is missing (property)", () => {
    fc.assert(
      fc.property(mask, fc.nat(31), (bits, from) => {
        if (bits !== 0) expect(lowestOf(bits)).toBe(bitsOf(bits)[0]);
        let end = from;
        while (end < 32 && (bits & (1 << end)) !== 0) end++;
        expect(runEnd(bits, from)).toBe(end);
      }),
    );
  });
});
