// A guest on a thread of its own: 4 KiB writes at random places of a disk, one after the other, each one timed. It sleeps until
// `phase` is above 0, writes until it changes, and reports. Ends at -1.
import { parentPort, workerData } from "node:worker_threads";
import { openDisk } from "./heirloom.mjs";
import { Histogram } from "./sampling.mjs";
import { noise } from "./stage.mjs";

const { handle, control, length, seed } = workerData;
const disk = openDisk(handle);
const buffer = noise(4096, 99);
const blocks = length / 4096;
let state = seed;

function nextOffset() {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return ((state >>> 0) % blocks) * 4096;
}

function measure(phase) {
  const histogram = new Histogram();
  const begin = performance.now();
  let last = begin;
  let longestAt = 0;
  while (Atomics.load(control, 0) === phase) {
    for (let many = 0; many < 32; many++) {
      const errno = disk.io.write(buffer, nextOffset());
      if (errno !== 0) throw new Error(`guest write: errno ${errno}`);
      const now = performance.now();
      // From the end of the last one: a thread that loses its core between two writes is a late guest as well.
      const ns = (now - last) * 1e6;
      if (ns > histogram.max) longestAt = now - begin;
      histogram.add(ns);
      last = now;
    }
  }
  return {
    phase,
    elapsedMs: last - begin,
    counts: histogram.counts,
    max: histogram.max,
    total: histogram.total,
    longestAt,
  };
}

parentPort.postMessage({ phase: 0 });
for (;;) {
  Atomics.wait(control, 0, 0);
  const phase = Atomics.load(control, 0);
  if (phase === -1) break;
  if (phase === 0) continue;
  parentPort.postMessage(measure(phase));
}
disk.close();
parentPort.close();
