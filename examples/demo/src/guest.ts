/** A guest: a worker thread that opens the disk by its handle and writes until it is told to stop. */
import { parentPort, workerData } from "node:worker_threads";
import { Random } from "@heirloom/example-seed";
import { type DiskHandle, openDisk } from "@heirloom/runtime";
import { now } from "./clock.ts";
import { GuestMemory } from "./guest-memory.ts";
import type { Area } from "./image.ts";
import { requestBytesMax, Workload } from "./workload.ts";

export interface GuestData {
  readonly guest: number;
  readonly guests: number;
  readonly seed: number;
  readonly areas: readonly Area[];
  readonly memory: SharedArrayBuffer;
}

function runGuest({ guest, guests, seed, areas, memory: buffer }: GuestData, handle: DiskHandle): void {
  using disk = openDisk(handle);
  const memory = new GuestMemory(guests, buffer);
  const workload = new Workload(seed, guest, areas);
  const noise = new Random(seed + guest).bytes(requestBytesMax * 2);
  const stamp = new DataView(noise.buffer);
  const begun = now();
  let written = 0;
  while (!memory.stopped) {
    for (let left = workload.burst(); left > 0 && !memory.stopped; left--) {
      const { kind, offset, length, unmap } = workload.next(now() - begun);
      const at = (written * 4099) % requestBytesMax;
      stamp.setFloat64(at, ++written); // no two writes are of the same bytes
      const phase = memory.phase;
      const start = now();
      if (kind === 0) disk.write(noise.subarray(at, at + length), offset);
      else if (kind === 1) disk.discard(offset, length);
      else disk.writeZeroes(offset, length, unmap);
      const end = now();
      if (phase !== memory.phase) continue;
      memory.count(guest, phase, kind, Math.max(0, end - start - memory.observedWithin(start, end)), length);
    }
    memory.think(workload.pause());
  }
}

parentPort?.once("message", (handle: DiskHandle) => runGuest(workerData as GuestData, handle));
