/** A guest on a thread of its own that writes sectors at random, as fast as it can, until it is terminated. Counts in shared memory. */
import { parentPort, workerData } from "node:worker_threads";
import { openDisk } from "@heirloom/engine";

const { counts, index, seed, length } = workerData;
parentPort?.once("message", (handle) => {
  const disk = openDisk(handle);
  const sectors = length / 512;
  const data = new Uint8Array(512);
  let state = seed >>> 0;
  for (let turn = 1; ; turn++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const sector = Math.floor((state / 2 ** 32) * sectors);
    data.fill((index % 255) + 1);
    disk.write(data, sector * 512);
    Atomics.store(counts, index, turn);
    Atomics.notify(counts, index);
  }
});
