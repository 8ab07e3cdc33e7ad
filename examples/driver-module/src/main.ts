/**
 * Backups into a storage of one's own: chunk-store.ts is given to the runtime by file URL. Three points in time go into
 * one store, a full one and two incremental ones that begin as copies of the one before. In the end every one of them
 * is opened through the same driver as a disk, and must equal a copy made at its freeze.
 */
import assert from "node:assert/strict";
import { copyFileSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { NodeSpec } from "@heirloom/block";
import { Random, seedFromArguments } from "@heirloom/example-seed";
import { createRuntime } from "@heirloom/runtime";
import { chunkBytes } from "./chunk-store.ts";

const diskBytes = 16 * 1024 * 1024;
const days = ["sunday", "monday", "tuesday"];

const random = new Random(seedFromArguments());
const directory = mkdtempSync(join(tmpdir(), "heirloom-driver-module-"));
const image = join(directory, "vm.raw");
const shadow = (day: string): string => join(directory, `${day}.shadow`);
const store = { driver: new URL("./chunk-store.js", import.meta.url).href, directory: join(directory, "store") };

let today = days[0];
await using runtime = createRuntime({ spill: { file: 0 }, observeFreeze: () => copyFileSync(image, shadow(today)) });
const disk = await runtime.attach({ driver: "file", filename: image, create: { length: diskBytes } });
await disk.bitmaps.add("daily");
await write(200);

for (let number = 0; number < days.length; number++) {
  today = days[number];
  const target: NodeSpec = {
    ...store,
    index: today,
    length: diskBytes,
    ...(number === 0 ? {} : { base: days[number - 1] }),
  };
  const job = await runtime.backup({
    disk,
    bitmap: "daily",
    ...(number === 0 ? { sync: "full", bitmapMode: "on-success" } : {}),
    target,
  });
  await write(20); // while it runs: belongs to the next day
  const result = await job.done;
  assert.equal(result.status, "completed", result.error ?? "");
  console.log(`${today.padEnd(8)} ${result.offset / chunkBytes} chunks copied, ${chunks()} in the store`);
}

for (const day of days) {
  const restored = await runtime.attach({ ...store, index: day, readOnly: true });
  const bytes = new Uint8Array(diskBytes);
  await restored.read(bytes, 0);
  assert(readFileSync(shadow(day)).equals(bytes), `${day} restores to what the disk held`);
  await restored.detach();
}
assert(chunks() < days.length * (diskBytes / chunkBytes), "equal chunks are stored once");
console.log(`all ${days.length} days restore to what the disk held at their freeze`);
await runtime.close();
rmSync(directory, { recursive: true });

async function write(count: number): Promise<void> {
  const block = random.bytes(8192);
  for (let number = 0; number < count; number++) {
    block[random.below(block.length)] = random.below(256);
    await disk.write(block, random.below(diskBytes / block.length) * block.length);
  }
}

function chunks(): number {
  return readdirSync(join(store.directory, "chunks")).length;
}
