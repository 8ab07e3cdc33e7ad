/**
 * A resumable backup after a power loss: what was not synced is gone. The files are put back as they were at a moment in the middle
 * of the backup, with the record of another boot, and the target as if nothing had been flushed to it.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { closeFile, O_RDWR, openFile } from "../../packages/block/dist/index.js";
import { encodeDirectory } from "../../packages/journal/dist/directory.js";
import { marksAt, marksSlotBytes } from "../../packages/journal/dist/layout.js";
import { encodeMarks } from "../../packages/journal/dist/mark-record.js";
import { usedPart } from "../../packages/journal/dist/record.js";
import { readSidecar } from "../../packages/journal/dist/recover.js";
import { writeDirectory } from "../../packages/journal/dist/steps.js";
import { FileStorage } from "../../packages/journal/dist/storage.js";
import { createRuntime, type Disk, type Job, type Runtime } from "../../packages/runtime/dist/index.js";

const cluster = 65536;
const MiB = 2 ** 20;
const length = 8 * MiB;
/** Regions of 1 MiB. */
const journal = { allowTmpfs: true, bound: 64 * MiB, settleMs: 60_000 };

let place: string;
let image: string;
let target: string;
let runtime: Runtime;
let disk: Disk;
beforeEach(async () => {
  place = mkdtempSync(join(tmpdir(), "power-loss-"));
  [image, target] = ["vm.img", "backup.img"].map((name) => join(place, name)) as [string, string];
  for (const file of [image, target]) {
    writeFileSync(file, "");
    truncateSync(file, length);
  }
  await attach();
  await disk.bitmaps.add("daily", { persistent: true });
  await disk.write(new Uint8Array(length).fill(1), 0);
});
afterEach(async () => {
  await runtime.close();
  rmSync(place, { recursive: true });
});

async function attach(): Promise<void> {
  runtime = createRuntime({ guestDelayMax: 20_000, spill: { allowTmpfs: true, floor: 0 } });
  disk = await runtime.attach({ driver: "file", filename: image }, { journal });
}
const overwrite = (at: number): Promise<void> => disk.write(new Uint8Array(cluster).fill(2), at * cluster);

/** A backup that stands still in the middle: a few clusters are on its target, the others are not. */
async function halfDone(flushEvery: number, syncSpill = false): Promise<{ job: Job; shadow: Buffer; copied: number }> {
  if (!syncSpill) await disk.flush();
  const shadow = readFileSync(image);
  const file = { driver: "file", filename: target };
  const options = {
    bitmap: "daily",
    resumable: true,
    syncSpill,
    maxWorkers: 1,
    speed: cluster,
    flushEvery,
    maxChunk: cluster,
  };
  const job = await runtime.backup({ disk, target: file, ...options });
  await until(() => job.info.offset > 0);
  job.pause();
  return { job, shadow, copied: job.info.offset };
}

async function until(condition: () => boolean): Promise<void> {
  for (const deadline = Date.now() + 20_000; !condition();) {
    if (Date.now() > deadline) throw new Error("it did not come about in 20 s");
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** @param change what the power loss did to the files @param marks regions that were not settled */
async function losePower(marks: readonly number[], change: () => void = () => {}): Promise<void> {
  const names = readdirSync(place).filter((name) => name.includes(".heirloom"));
  const files = [image, ...names.map((name) => join(place, name))].map((path) => ({ path, bytes: readFileSync(path) }));
  await runtime.close();
  for (const { path, bytes } of files) writeFileSync(path, bytes);
  const path = `${image}.heirloom`;
  const fd = openFile(path, O_RDWR);
  const storage = new FileStorage(fd);
  const { directory, directorySequence, marksSequence, tag } = readSidecar(storage, path);
  const sequence = directorySequence + 1;
  const rebooted = { ...directory, inUse: true, bootId: "ab".repeat(16) };
  expect(writeDirectory(storage, encodeDirectory(rebooted, tag, sequence), sequence)).toBe(0);
  const record = new Uint8Array(marksSlotBytes);
  encodeMarks(record, marks, tag, marksSequence + 1);
  expect(storage.write(usedPart(record), marksAt + ((marksSequence + 1) % 2) * marksSlotBytes)).toBe(0);
  closeFile(fd);
  change();
  await attach();
}
const spill = (): string => readdirSync(place).find((one) => one.endsWith(".spill")) ?? "none";
const forgetTarget = (): void => writeFileSync(target, new Uint8Array(length));

/** A flush covered at least nothing: what was copied may be there, the rest is not. */
const forgetTargetBut = (bytes: number) => (): void => {
  const found = readFileSync(target);
  writeFileSync(target, found.fill(0, bytes));
};

async function resume(): Promise<{ status: string }> {
  const [job] = runtime.jobs;
  await runtime.resume(job, { target: { driver: "file", filename: target } });
  job.setSpeed(0);
  return job.done;
}
const dirty = (): number[] =>
  [...disk.bitmaps.extents("daily")].flatMap(({ offset, length: bytes }) =>
    Array.from({ length: bytes / cluster }, (_, index) => offset / cluster + index),
  );
const story = (): string => disk.bitmaps.history("daily")[0].reason ?? "";
const all = Array.from({ length: length / cluster }, (_, index) => index);

describe("goes on", () => {
  it("where what was written since is in the spill: all that no flush covers is copied again", async () => {
    const { shadow } = await halfDone(1e9);
    for (const at of [60, 61, 100]) await overwrite(at);
    await losePower([], forgetTarget);
    expect(runtime.jobs[0].info).toMatchObject({ status: "paused", offset: 0 });
    expect((await resume()).status).toBe("completed");
    expect(readFileSync(target).equals(shadow)).toBe(true);
    expect(dirty()).toEqual([60, 61, 100]);
  });

  it("with what a flush covers: that is not copied again", async () => {
    const { shadow, job } = await halfDone(20);
    const sidecar = `${image}.heirloom`;
    const flushed = (): number => {
      const fd = openFile(sidecar, O_RDWR);
      const { directory } = readSidecar(new FileStorage(fd), sidecar);
      const { offset } = directory.bitmaps[0].job?.flushed ?? { offset: 0 };
      const block = new Uint8Array(512);
      new FileStorage(fd).read(block, offset);
      closeFile(fd);
      return block.subarray(32).reduce((sum, byte) => sum + byte.toString(2).replaceAll("0", "").length, 0) * 4096;
    };
    await until(() => flushed() > 0 && flushed() === job.info.offset);
    const first = job.info.offset / cluster;
    await overwrite(0); // on the target: nobody keeps its old data
    await losePower([]);
    expect(runtime.jobs[0].info.offset).toBe(first * cluster);
    expect((await resume()).status).toBe("completed");
    expect(readFileSync(target).equals(shadow)).toBe(true);
    expect(dirty()).toEqual([0]);
  });
});

describe("whose spill is synced goes on", () => {
  it.each([
    ["what no flush covers was overwritten on the disk", [], [0, 1, 60]],
    ["no region was settled", [0, 1, 2, 3, 4, 5, 6, 7], [0, 60, 100]],
    ["nobody wrote anything", [5], []],
  ])("where %s", async (_name, marks, overwritten) => {
    const { shadow } = await halfDone(1e9, true);
    for (const at of overwritten) await overwrite(at);
    await losePower(marks, forgetTarget);
    expect(story()).not.toMatch(/could not go on/);
    expect(runtime.jobs[0].info).toMatchObject({ status: "paused", offset: 0 });
    expect((await resume()).status).toBe("completed");
    expect(readFileSync(target).equals(shadow)).toBe(true);
    const regions = marks.flatMap((region) => all.slice(region * 16, (region + 1) * 16));
    expect(dirty()).toEqual([...new Set([...overwritten, ...regions])].sort((one, other) => one - other));
  });

  it("after a second one as well, and with what a flush covers", async () => {
    const { shadow, job } = await halfDone(20, true);
    await overwrite(0);
    await losePower([0, 6], forgetTargetBut(job.info.offset));
    await overwrite(1);
    await overwrite(99);
    await losePower([0, 1, 6]);
    expect((await resume()).status).toBe("completed");
    expect(readFileSync(target).equals(shadow)).toBe(true);
  });
});

describe("is reclaimed", () => {
  const reclaimed = /its backup could not go on: after the power loss nobody knows what was at/;

  it("where a cluster that was overwritten was on the target without a flush since", async () => {
    await halfDone(1e9);
    await overwrite(0);
    await losePower([], forgetTarget);
    expect(runtime.jobs).toEqual([]);
    expect(story()).toMatch(reclaimed);
    expect(dirty()).toEqual(all);
  });

  it("where an entry of the spill is not what was stored", async () => {
    await halfDone(1e9);
    await overwrite(100);
    await losePower([], () => {
      const name = spill();
      const bytes = readFileSync(join(place, name));
      bytes[4096 + 512 + 17] ^= 1; // the first entry's data
      writeFileSync(join(place, name), bytes);
    });
    expect(runtime.jobs).toEqual([]);
    expect(story()).toMatch(reclaimed);
    expect(readdirSync(place).filter((name) => name.endsWith(".spill"))).toEqual([]);
  });

  it("where a region was not settled, and holds clusters that are stored nowhere", async () => {
    await halfDone(1e9);
    await losePower([5]);
    expect(runtime.jobs).toEqual([]);
    expect(story()).toMatch(reclaimed);
    expect(dirty()).toEqual(all);
  });

  it.each([
    ["is gone", (path: string) => rmSync(path)],
    ["is another one", (path: string) => writeFileSync(path, new Uint8Array(1e6))],
    ["is empty", (path: string) => truncateSync(path, 0)],
  ])("where its spill %s", async (_name, damage) => {
    await halfDone(1e9);
    const name = spill();
    await losePower([], () => damage(join(place, name)));
    expect(runtime.jobs).toEqual([]);
    expect(story()).toMatch(/its backup could not go on: .*spill/);
    expect(dirty()).toEqual(all);
  });
});
