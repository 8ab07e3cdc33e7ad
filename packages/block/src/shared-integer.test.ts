import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { loadSharedInteger, SHARED_INTEGER_WORDS, storeSharedInteger } from "@heirloom/block";
import fc from "fast-check";
import { expect, test } from "vitest";
import { blockUrl } from "./remote-node.fixture.ts";

test("every integer from 0 to 2^53-1 is kept, next to others", () => {
  const words = new Int32Array(new SharedArrayBuffer(3 * SHARED_INTEGER_WORDS * 4));
  fc.assert(
    fc.property(fc.maxSafeNat(), fc.maxSafeNat(), (one, two) => {
      storeSharedInteger(words, 0, one);
      storeSharedInteger(words, SHARED_INTEGER_WORDS, two);
      expect([loadSharedInteger(words, 0), loadSharedInteger(words, SHARED_INTEGER_WORDS)]).toEqual([one, two]);
      expect(loadSharedInteger(words, 2 * SHARED_INTEGER_WORDS)).toBe(0);
    }),
  );
  expect(() => storeSharedInteger(words, 0, -1)).toThrow("from 0 to 2^53-1");
});

test("a reader never sees half of a value that another thread writes", async () => {
  const words = new Int32Array(new SharedArrayBuffer((SHARED_INTEGER_WORDS + 1) * 4));
  // Both halves of every value are equal, so a torn one shows.
  const program = `
    const { workerData: { blockUrl, words, stop } } = require("node:worker_threads");
    import(blockUrl).then(({ storeSharedInteger }) => {
      for (let half = 0; Atomics.load(words, stop) === 0; half = (half + 1) % 2 ** 21) {
        storeSharedInteger(words, 0, half * 2 ** 32 + half);
      }
    });`;
  const writer = new Worker(program, { eval: true, workerData: { blockUrl, words, stop: SHARED_INTEGER_WORDS } });
  const exit = once(writer, "exit");
  while (loadSharedInteger(words, 0) === 0) await new Promise((resolve) => setImmediate(resolve));
  const values = new Set<number>();
  for (let count = 0; count < 500_000; count++) {
    const value = loadSharedInteger(words, 0);
    if (Math.floor(value / 2 ** 32) !== value % 2 ** 32) throw new Error(`torn: ${value}`);
    values.add(value);
  }
  Atomics.store(words, SHARED_INTEGER_WORDS, 1);
  await exit;
  expect(values.size).toBeGreaterThan(1);
});
