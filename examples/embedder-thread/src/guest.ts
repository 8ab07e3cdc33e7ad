/**
 * The guest: an embedder's own thread. It opens the disk that it is handed and writes, synchronously, until it is told to
 * stop. No promise and no message per request: a write is a function call.
 */
import assert from "node:assert/strict";
import { parentPort, workerData } from "node:worker_threads";
import { Random } from "@heirloom/example-seed";
import { type DiskHandle, openDisk } from "@heirloom/runtime";

export interface GuestData {
  readonly handle: DiskHandle;
  readonly seed: number;
  /** Word 0: 1 to stop. Word 1: writes so far. */
  readonly words: Int32Array;
}

const { handle, seed, words } = workerData as GuestData;
const random = new Random(seed);
const disk = openDisk(handle);
const block = random.bytes(4096);
const seen = new Uint8Array(4096);
const blocks = Math.floor(disk.length / block.length);

while (Atomics.load(words, 0) === 0) {
  block[random.below(block.length)] = random.below(256);
  const offset = random.below(blocks) * block.length;
  const kind = random.below(100);
  if (kind === 0) {
    disk.discard(offset, block.length);
  } else if (kind === 1) {
    disk.writeZeroes(offset, block.length, true);
    disk.read(seen, offset);
    assert(
      seen.every((byte) => byte === 0),
      "zeroes read as zeroes",
    );
  } else {
    disk.write(block, offset);
    if (kind === 2) {
      disk.read(seen, offset);
      assert.deepEqual(seen, block, "a guest reads what it wrote last");
    }
  }
  Atomics.add(words, 1, 1);
}
disk.flush();
disk.close(); // from here on the thread is no guest of the disk
parentPort?.postMessage("closed");
