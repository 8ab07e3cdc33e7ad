import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import { SharedBitmap } from "@heirloom/bitmap";
import { afterEach, expect, test } from "vitest";
import { GranuleSet } from "../testing/granule-set.ts";
import { rangesOf } from "../testing/marking-thread.mjs";

const granularity = 4096;
const length = 2 ** 21 * granularity - 100;
const entry = fileURLToPath(new URL("../testing/marking-thread.mjs", import.meta.url));
/** HEIRLOOM_SEED replays a failure. */
const seed = Number(process.env.HEIRLOOM_SEED ?? (Date.now() ^ (process.pid << 8)) >>> 0);
const workers: Worker[] = [];

afterEach(async () => {
  await Promise.all(workers.splice(0).map((worker) => worker.terminate()));
});

function startMarking(bitmap: SharedBitmap, index: number, rounds: number, progress: SharedArrayBuffer): Worker {
  const marking = { handle: bitmap.handle, seed: seed + index, rounds, progress, index };
  const worker = new Worker(entry, { workerData: { marking } });
  worker.on("error", (error) => {
    throw error;
  });
  workers.push(worker);
  return worker;
}

function markedBy(index: number, rounds: number): { offset: number; length: number }[] {
  const ranges = rangesOf(seed + index, length, granularity);
  return Array.from({ length: rounds }, () => ranges.next().value);
}

/** One byte a granule, from one scan. */
function scan(bitmap: SharedBitmap): Uint8Array {
  const seen = new Uint8Array(bitmap.granules);
  for (const extent of bitmap.extents()) {
    seen.fill(1, Math.floor(extent.offset / granularity), Math.ceil((extent.offset + extent.length) / granularity));
  }
  return seen;
}

test(`a scan sees every mark that was made before it began, while threads mark on (seed ${seed})`, async () => {
  const rounds = 30_000;
  const threads = 2;
  const bitmap = SharedBitmap.create(length, granularity);
  const merged = SharedBitmap.create(length, granularity * 4);
  const progress = new SharedArrayBuffer(4 * threads);
  const done = new Int32Array(progress);
  const made = Array.from({ length: threads }, (_, index) => markedBy(index, rounds));
  const ends = made.map((_, index) => once(startMarking(bitmap, index, rounds, progress), "exit"));
  let scans = 0;
  for (let finished = false; !finished; scans++) {
    const before = made.map((_, index) => Atomics.load(done, index));
    finished = before.every((count) => count === rounds);
    const seen = scan(bitmap);
    merged.merge(bitmap);
    for (const [index, ranges] of made.entries()) {
      for (const range of ranges.slice(0, before[index])) {
        const last = Math.floor((range.offset + range.length - 1) / granularity);
        for (let granule = Math.floor(range.offset / granularity); granule <= last; granule++) {
          if (seen[granule] !== 1) throw new Error(`scan ${scans}: granule ${granule} is missing (seed ${seed})`);
        }
        if (!merged.all(range.offset, range.length))
          throw new Error(`merge ${scans} missed ${range.offset} (seed ${seed})`);
      }
    }
    if (!finished) Atomics.wait(done, 0, before[0], 100);
  }
  await Promise.all(ends);
  expect(scans).toBeGreaterThan(2);
  const model = new GranuleSet(length, granularity);
  for (const range of made.flat()) model.set(range.offset, range.length);
  expect([...bitmap.extents()]).toEqual(model.extents(0));
  expect(bitmap.count()).toBe(model.count());
});

test(`what is merged into a bitmap that a thread marks joins its marks, and neither is lost (seed ${seed})`, async () => {
  const rounds = 20_000;
  const bitmap = SharedBitmap.create(length, granularity);
  const model = new GranuleSet(length, granularity);
  const progress = new SharedArrayBuffer(4);
  const end = once(startMarking(bitmap, 0, rounds, progress), "exit");
  for (let part = 1; part <= 8; part++) {
    const source = SharedBitmap.create(length, granularity * 2 ** (part % 3));
    for (const range of markedBy(part, 2_000)) source.set(range.offset, range.length);
    bitmap.merge(source);
    for (const extent of source.extents()) model.set(extent.offset, extent.length);
    Atomics.wait(new Int32Array(progress), 0, 0, 1000);
  }
  await end;
  for (const range of markedBy(0, rounds)) model.set(range.offset, range.length);
  expect([...bitmap.extents()]).toEqual(model.extents(0));
});

test(`a thread killed while it marks leaves every bit it set within reach of a scan (seed ${seed})`, async () => {
  for (let kill = 0; kill < 4; kill++) {
    const bitmap = SharedBitmap.create(length, granularity);
    const progress = new SharedArrayBuffer(4 * 4);
    const done = new Int32Array(progress);
    const worker = startMarking(bitmap, kill, Infinity, progress);
    while (Atomics.load(done, kill) < 500 * (kill + 1)) Atomics.wait(done, kill, Atomics.load(done, kill), 100);
    await worker.terminate();
    const seen = scan(bitmap);
    for (let granule = 0; granule < bitmap.granules; granule++) {
      if (bitmap.test(granule * granularity) !== (seen[granule] === 1))
        throw new Error(`granule ${granule}, seed ${seed}`);
    }
    for (const range of markedBy(kill, Atomics.load(done, kill)))
      expect(bitmap.all(range.offset, range.length)).toBe(true);
    bitmap.set(0, length);
    expect([...bitmap.extents()]).toEqual([{ offset: 0, length }]);
  }
});
