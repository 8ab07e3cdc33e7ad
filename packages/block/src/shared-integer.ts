/**
 * One number from 0 to 2^53-1 in shared memory that a reader never sees half written.
 *
 *   word  0           1    2     3    4
 *         generation  low0 high0 low1 high1      value = high * 2^32 + low
 *
 * `generation & 1` names the pair that holds; a writer fills the other pair and then moves the generation. A reader
 * takes the generation, the pair, and the generation again. It could see a torn pair only if a second write refilled
 * that pair meanwhile, and that write came after the generation had moved once: the reader sees that it moved and
 * starts over. A writer that dies before its last store has changed nothing.
 *
 * Why not the alternatives: BigInt atomics allocate on every read, and lengths are read for every request; a plain
 * Float64 store may tear by the language's memory model.
 *
 * One writer at a time (resizes and limits are changed by the control plane, one after the other); any readers.
 */
import assert from "node:assert/strict";

/** Words that one integer takes. */
export const SHARED_INTEGER_WORDS = 5;

export function loadSharedInteger(words: Int32Array, index: number): number {
  for (;;) {
    const generation = Atomics.load(words, index);
    const pair = index + 1 + 2 * (generation & 1);
    const low = Atomics.load(words, pair) >>> 0;
    const high = Atomics.load(words, pair + 1);
    if (Atomics.load(words, index) === generation) return high * 2 ** 32 + low;
  }
}

export function storeSharedInteger(words: Int32Array, index: number, value: number): void {
  assert(Number.isSafeInteger(value) && value >= 0, `a shared integer is from 0 to 2^53-1, not ${value}`);
  const generation = Atomics.load(words, index);
  const pair = index + 1 + 2 * ((generation + 1) & 1);
  Atomics.store(words, pair, value | 0);
  Atomics.store(words, pair + 1, Math.floor(value / 2 ** 32));
  Atomics.store(words, index, (generation + 1) | 0);
}
