/**
 * A virtual machine monitor in small: its own worker thread serves the guest's disk with synchronous calls, and the main
 * thread takes backups meanwhile. Each must equal a copy of the image that a hook makes at the freeze, gates closed.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { copyFileSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { seedFromArguments } from "@heirloom/example-seed";
import { createRuntime } from "@heirloom/runtime";
import type { GuestData } from "./guest.ts";

const diskBytes = 64 * 1024 * 1024;
const rounds = 4;

const seed = seedFromArguments();
const directory = mkdtempSync(join(tmpdir(), "heirloom-embedder-thread-"));
const image = join(directory, "vm.raw");
const shadow = join(directory, "shadow.raw");
const backup = join(directory, "backup.raw");

// The spill is for old data that guests overwrite before it was copied: enough for all of this disk.
await using runtime = createRuntime({
  spill: { memory: diskBytes, file: 0 },
  observeFreeze: () => copyFileSync(image, shadow),
});
const disk = await runtime.attach({ driver: "file", filename: image, create: { length: diskBytes } });
await disk.bitmaps.add("daily");

const words = new Int32Array(new SharedArrayBuffer(8));
const guest = new Worker(new URL("./guest.js", import.meta.url), {
  workerData: { handle: disk.handle(), seed, words } satisfies GuestData,
});
runtime.register(guest); // so that its death would be noticed: its views break, its gates open
const exited = once(guest, "exit");
guest.on("error", (error) => {
  throw error;
});

try {
  await written(2000);
  for (let round = 0; round < rounds; round++) {
    const before = Atomics.load(words, 1);
    const job = await runtime.backup({
      disk,
      bitmap: "daily",
      ...(round === 0 ? { sync: "full", bitmapMode: "on-success" } : {}),
      target: { driver: "file", filename: backup, ...(round === 0 ? { create: { length: diskBytes } } : {}) },
    });
    const result = await job.done;
    assert.equal(result.status, "completed", result.error ?? "");
    assert(readFileSync(backup).equals(readFileSync(shadow)), "the backup is what the disk held at the freeze");
    const kind = round === 0 ? "full" : "incremental";
    console.log(
      `${kind.padEnd(11)} ${(result.offset / 2 ** 20).toFixed(1).padStart(5)} MiB, frozen in ${result.freezeMs.toFixed(3)} ms, ` +
        `${Atomics.load(words, 1) - before} guest requests meanwhile; equal to the disk at the freeze`,
    );
    await written(500);
  }
} finally {
  Atomics.store(words, 0, 1);
  await exited;
}
console.log(`${Atomics.load(words, 1)} guest requests in all`);
await disk.detach(); // would be refused while a thread has the disk open
await runtime.close();
rmSync(directory, { recursive: true });

async function written(count: number): Promise<void> {
  const enough = Atomics.load(words, 1) + count;
  while (Atomics.load(words, 1) < enough) await new Promise((resolve) => setTimeout(resolve, 1));
}
