// A thread that marks ranges drawn from its seed, and says after each how many it has marked.
import { isMainThread, workerData } from "node:worker_threads";
import { SharedBitmap } from "@heirloom/bitmap";

/** The ranges of one seed: the same in the thread that marks and in the test that checks. */
export function* rangesOf(seed, length, granularity) {
  let state = seed >>> 0;
  const random = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
  for (;;) {
    const offset = Math.floor(random() * length);
    const wanted = random() < 0.05 ? random() * 400 * granularity : random() * 2 * granularity;
    yield { offset, length: Math.min(Math.ceil(wanted), length - offset) };
  }
}

if (!isMainThread && workerData?.marking !== undefined) {
  const { handle, seed, rounds, progress, index } = workerData.marking;
  const bitmap = SharedBitmap.from(handle);
  const done = new Int32Array(progress);
  let round = 0;
  for (const { offset, length } of rangesOf(seed, handle.length, handle.granularity)) {
    if (round++ === rounds) break;
    bitmap.set(offset, length);
    Atomics.store(done, index, round);
    Atomics.notify(done, index);
  }
}
