/**
 * Sixty-four small disks whose guests all start at once, as in a classroom or a build farm. All of them are backed up at
 * one instant, in full and then twice incrementally, while every guest goes on writing. At each freeze a hook copies the
 * images with the gates closed; each backup must equal that copy, byte for byte.
 */
import assert from "node:assert/strict";
import { copyFileSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Random, seedFromArguments } from "@heirloom/example-seed";
import { createRuntime, type Disk, type TransactionAction } from "@heirloom/runtime";

const disks = 64;
const diskBytes = 2 * 1024 * 1024;
const rounds = 3;

const seed = seedFromArguments();
const directory = mkdtempSync(join(tmpdir(), "heirloom-boot-storm-"));
const image = (name: string): string => join(directory, `${name}.raw`);
const shadow = (name: string): string => join(directory, `${name}.shadow`);
const backup = (name: string): string => join(directory, `${name}.backup`);

await using runtime = createRuntime({
  spill: { memory: 1024 * 1024, file: 0 },
  observeFreeze: ({ jobs }) => {
    for (const { disk } of jobs) copyFileSync(image(disk), shadow(disk));
  },
});

const fleet: Disk[] = [];
for (let number = 0; number < disks; number++) {
  const name = `vm${String(number).padStart(2, "0")}`;
  const disk = await runtime.attach({ driver: "file", filename: image(name), create: { length: diskBytes } }, { name });
  await disk.bitmaps.add("daily", { granularity: 65536 });
  fleet.push(disk);
}

const stop = new AbortController();
let requests = 0;
const guests = Promise.all(fleet.map((disk, number) => boot(disk, new Random(seed * 1000 + number), stop.signal)));

try {
  for (let round = 0; round < rounds; round++) {
    const begun = performance.now();
    const before = requests;
    const actions = fleet.map((disk): TransactionAction => ({
      type: "backup",
      disk,
      bitmap: "daily",
      ...(round === 0 ? { sync: "full", bitmapMode: "on-success" } : {}),
      target: {
        driver: "file",
        filename: backup(disk.name),
        ...(round === 0 ? { create: { length: diskBytes } } : {}),
      },
      maxWorkers: 1,
    }));
    const jobs = await runtime.transaction(actions);
    const results = await Promise.all(jobs.map((job) => job.done));
    const tookMs = performance.now() - begun;
    for (const result of results) assert.equal(result.status, "completed", `${result.id}: ${result.error}`);
    for (const { name } of fleet) {
      assert(
        readFileSync(backup(name)).equals(readFileSync(shadow(name))),
        `${name}: the backup is what the disk held`,
      );
    }
    const copied = results.reduce((sum, result) => sum + result.offset, 0);
    console.log(
      `${round === 0 ? "full" : "incremental"}: ${disks} disks frozen at one instant, ` +
        `${(copied / 2 ** 20).toFixed(1)} MiB copied in ${(tookMs / 1000).toFixed(2)} s beside ${requests - before} guest writes; ` +
        "all equal to their disks at the freeze",
    );
  }
} finally {
  stop.abort();
  await guests;
}
await runtime.close();
rmSync(directory, { recursive: true });

/** A guest that starts: a few large writes (unpacking), then small ones all over (logs, caches), with pauses. */
async function boot(disk: Disk, random: Random, signal: AbortSignal): Promise<void> {
  const large = random.bytes(64 * 1024);
  for (let piece = 0; piece < 4 && !signal.aborted; piece++) {
    await disk.write(large, random.below((diskBytes - large.length) / 512) * 512);
    requests++;
  }
  const small = random.bytes(4096);
  while (!signal.aborted) {
    small[0] = random.below(256);
    await disk.write(small, random.below(diskBytes / 4096) * 4096);
    requests++;
    await new Promise((resolve) => setTimeout(resolve, random.below(20)));
  }
}
