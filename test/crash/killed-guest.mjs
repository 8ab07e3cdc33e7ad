/** A guest on a thread: writes, discards and zeroes at random within its stripe until it is killed. */
import { parentPort, workerData } from "node:worker_threads";
import { openDisk } from "../../packages/engine/dist/index.js";
import { Random } from "../stress/random.mjs";

const { seed, from, length } = workerData;
parentPort?.once("message", (handle) => {
  const disk = openDisk(handle);
  const random = new Random(seed);
  const buffer = new Uint8Array(128 * 1024);
  parentPort?.postMessage("writing");
  for (let turn = 1; ; turn++) {
    const count = 512 * random.spread(1, 256);
    const offset = from + 512 * random.int(0, (length - count) / 512);
    const kind = random.int(0, 19);
    if (kind === 0) disk.discard(offset, count);
    else if (kind === 1) disk.writeZeroes(offset, count);
    else if (kind === 2) disk.flush();
    else {
      const data = buffer.subarray(0, count);
      data.fill(turn & 0xff);
      data[0] = random.int(0, 255);
      disk.write(data, offset);
    }
  }
});
