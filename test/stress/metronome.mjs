/** A thread that sleeps and writes down how much too long: the machine's share of any delay that a guest sees. */
import { workerData } from "node:worker_threads";
import { clock, noiseBucketMs, noiseBuckets, noiseStart, stoppedWord } from "./board.mjs";

const control = new Int32Array(workerData.control);
const sleepMs = 4;
let bucket = 0;
let last = clock();
while (Atomics.load(control, stoppedWord) === 0) {
  Atomics.wait(control, stoppedWord, 0, sleepMs);
  const now = clock();
  const over = Math.max(0, Math.round((now - last - sleepMs) * 1000));
  // An oversleep counts for every bucket that it lasted through.
  for (
    let at = Math.max(Math.floor(last / noiseBucketMs), Math.floor(now / noiseBucketMs) - noiseBuckets + 1);
    at <= Math.floor(now / noiseBucketMs);
    at++
  ) {
    const word = noiseStart + (at % noiseBuckets);
    if (at > bucket) Atomics.store(control, word, 0);
    bucket = Math.max(bucket, at);
    if (over > Atomics.load(control, word)) Atomics.store(control, word, over);
  }
  last = now;
}
