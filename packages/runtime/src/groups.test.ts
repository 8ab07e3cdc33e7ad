/** Backups of several disks that succeed at one instant, or not at all (completion-mode grouped, reference 4). */
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { EIO, faultReached, releaseHang } from "@heirloom/block";
import type { BackupOptions, Disk, Job, TransactionAction } from "@heirloom/runtime";
import { expect, test } from "vitest";
import { guestThread } from "./guests.fixture.ts";
import { cluster, ended, granulesOf, inScene, MiB, refusalOf, type Scene } from "./scene.fixture.ts";

const length = 2 * MiB;
const grouped = { completionMode: "grouped" } as const;
const names = ["a", "b", "c"];

/** Three disks with a bitmap each, of which granule 1 is dirty; the target of the last hangs in its second write. */
async function members(scene: Scene): Promise<{ disks: Disk[]; slow: Disk }> {
  const disks = await Promise.all(names.map((name, index) => scene.disk(name, length, index)));
  for (const disk of disks) {
    await disk.bitmaps.add("daily");
    await disk.write(new Uint8Array(1), cluster);
  }
  const slow = await scene.faulty("slow", length, [{ kind: "write", nth: 2, once: true, action: { hang: true } }]);
  return { disks, slow };
}

function startAll(
  scene: Scene,
  disks: readonly Disk[],
  slow: Disk,
  options: (name: string) => Partial<BackupOptions> = () => ({}),
): Promise<Job[]> {
  const actions = disks.map((disk, index): TransactionAction => ({
    type: "backup",
    disk,
    jobId: `job-${disk.name}`,
    target: index === disks.length - 1 ? slow : scene.target(length),
    sync: "full",
    bitmap: "daily",
    bitmapMode: "on-success",
    maxChunk: cluster,
    maxWorkers: 1,
    ...options(disk.name),
  }));
  return scene.runtime.transaction(actions, grouped);
}

async function allWait(scene: Scene, slow: Disk): Promise<void> {
  await faultReached(slow.node, 0);
  for (const name of ["a", "b"]) await scene.event("JOB_STATUS_CHANGE", { id: `job-${name}`, status: "waiting" });
}

test("members that are done wait for the last; then all succeed, in reverse order of creation", () =>
  inScene(async (scene) => {
    const { disks, slow } = await members(scene);
    const jobs = await startAll(scene, disks, slow);
    await allWait(scene, slow);
    for (const disk of disks) {
      expect(disk.bitmaps.get("daily").state).toBe("frozen");
      await disk.write(new Uint8Array(1), 4 * cluster);
    }
    expect(await refusalOf(() => jobs[0].finalize())).toMatchObject({
      code: "ERR_JOB_STATE",
      desc: "Job 'job-a' in state 'waiting' cannot accept command verb 'finalize'",
    });
    releaseHang(slow.node);
    for (const job of jobs) expect(await ended(job)).toEqual({ status: "completed", error: null });
    for (const disk of disks) expect(granulesOf(disk, "daily")).toEqual([4]);
    const order = scene.events
      .filter(({ name, data }) => name === "JOB_STATUS_CHANGE" && data.status === "pending")
      .map(({ data }) => data.id);
    expect(order).toEqual(["job-c", "job-b", "job-a"]);
    expect(scene.runtime.inspect().groups).toEqual([]);
  }));

test("one fails: those that wait are undone too, and every bitmap is reclaimed", () =>
  inScene(async (scene) => {
    const { disks, slow } = await members(scene);
    const jobs = await startAll(scene, disks, slow);
    await allWait(scene, slow);
    for (const disk of disks) await disk.write(new Uint8Array(1), 4 * cluster);
    releaseHang(slow.node, EIO);
    expect(await ended(jobs[2])).toEqual({ status: "failed", error: "Input/output error" });
    for (const job of jobs.slice(0, 2))
      expect(await ended(job)).toEqual({ status: "cancelled", error: "Operation canceled" });
    for (const disk of disks) expect(granulesOf(disk, "daily")).toEqual([1, 4]);
    await scene.event("JOB_STATUS_CHANGE", { id: "job-a", status: "null" });
    expect(scene.story("job-a").slice(2)).toEqual([
      "J(waiting)",
      "J(aborting)",
      "BLOCK_JOB_CANCELLED",
      "J(concluded)",
      "J(null)",
    ]);
    expect(scene.story("job-c").slice(2)).toEqual([
      "BLOCK_JOB_ERROR write report",
      "J(aborting)",
      "BLOCK_JOB_COMPLETED",
      "J(concluded)",
      "J(null)",
    ]);
  }));

test("one is cancelled: all are", () =>
  inScene(async (scene) => {
    const { disks, slow } = await members(scene);
    const jobs = await startAll(scene, disks, slow);
    await allWait(scene, slow);
    jobs[0].cancel();
    for (const job of jobs) expect(await ended(job)).toEqual({ status: "cancelled", error: "Operation canceled" });
    for (const disk of disks) expect(granulesOf(disk, "daily")).toEqual([1]);
    releaseHang(slow.node);
  }));

test("one that is finalized by hand holds all in pending, and finalizing any finalizes all", () =>
  inScene(async (scene) => {
    const { disks, slow } = await members(scene);
    const jobs = await startAll(scene, disks, slow, (name) => ({ autoFinalize: name !== "b" }));
    await allWait(scene, slow);
    releaseHang(slow.node);
    for (const job of jobs) await scene.event("JOB_STATUS_CHANGE", { id: job.id, status: "pending" });
    expect(scene.events.filter(({ name }) => name === "BLOCK_JOB_PENDING").map(({ data }) => data.id)).toEqual([
      "job-b",
    ]);
    for (const disk of disks) expect(disk.bitmaps.get("daily").state).toBe("frozen");
    jobs[2].finalize();
    for (const job of jobs) expect((await job.done).status).toBe("completed");
    for (const disk of disks) expect(granulesOf(disk, "daily")).toEqual([]);
  }));

test("cancelled in pending: all are", () =>
  inScene(async (scene) => {
    const { disks, slow } = await members(scene);
    const jobs = await startAll(scene, disks, slow, () => ({ autoFinalize: false }));
    await faultReached(slow.node, 0);
    releaseHang(slow.node);
    for (const job of jobs) await scene.event("JOB_STATUS_CHANGE", { id: job.id, status: "pending" });
    jobs[1].cancel();
    for (const job of jobs) expect((await job.done).status).toBe("cancelled");
    for (const disk of disks) expect(granulesOf(disk, "daily")).toEqual([1]);
  }));

test("a member that is refused: none starts, and nothing is frozen", () =>
  inScene(async (scene) => {
    const { disks, slow } = await members(scene);
    const before = disks.map((disk) => disk.bitmaps.list());
    const refused = await refusalOf(() =>
      startAll(scene, disks, slow, (name) => (name === "c" ? { bitmap: "x" } : {})),
    );
    expect(refused).toMatchObject({ code: "ERR_BITMAP_NOT_FOUND", desc: "Bitmap 'x' could not be found" });
    expect(disks.map((disk) => disk.bitmaps.list())).toEqual(before);
    expect(await refusalOf(() => startAll(scene, disks, slow, () => ({ jobId: "same" })))).toMatchObject({
      code: "ERR_JOB_EXISTS",
    });
    expect(
      await refusalOf(() => startAll(scene, disks, slow, (name) => (name === "a" ? { target: slow } : {}))),
    ).toMatchObject({ code: "ERR_NODE_BUSY" });
    expect(scene.runtime.jobs).toEqual([]);
    for (const disk of disks) await disk.detach();
  }));

test("one instant: what was written to one disk before another is never missing from the first alone", () =>
  inScene(async (scene) => {
    const one = await scene.disk("a", length, 1);
    // Some writes of the second take long: at most freezes one is under way there, and must be waited for.
    const two = await scene.faulty("b", length, [{ kind: "write", every: 3, action: { delayMs: 1 } }], 2);
    for (const disk of [one, two]) {
      await disk.writeZeroes(0, length);
      await disk.bitmaps.add("daily", { granularity: 4096 });
    }
    // A thread writes each number to A, then to B, at a place of its own.
    const stop = new Int32Array(new SharedArrayBuffer(4));
    const body = `
      const { once } = require("node:events");
      const [handle2] = await once(port, "message");
      const other = openDisk(handle2);
      const stop = new Int32Array(data.stop);
      const buffer = new Uint8Array(8);
      const number = new DataView(buffer.buffer);
      for (let count = 1; Atomics.load(stop, 0) === 0; count++) {
        number.setFloat64(0, count);
        const place = (count % 512) * 4096;
        disk.write(buffer, place);
        other.write(buffer, place);
        if (count === 300) port.postMessage("warm");
      }
      disk.close();
      other.close();
      process.exit(0);`;
    const worker = guestThread(scene.runtime, one, body, { stop: stop.buffer });
    worker.postMessage(two.handle());
    await once(worker, "message");
    const targets = [scene.target(length), scene.target(length)];
    for (let round = 0; round < 12; round++) {
      const first = round === 0;
      const jobs = await scene.runtime.transaction(
        [one, two].map((disk, index) => ({
          type: "backup",
          disk,
          target: first ? targets[index] : { driver: "file", filename: targets[index].filename },
          bitmap: "daily",
          ...(first ? ({ sync: "full", bitmapMode: "on-success" } as const) : {}),
        })),
        grouped,
      );
      for (const job of jobs) expect(await ended(job)).toEqual({ status: "completed", error: null });
      const [atOne, atTwo] = targets.map(({ filename }) => numbersOf(readFileSync(filename)));
      // Of all places at most one is in the middle of its two writes, and there A is ahead.
      const different = atOne.map((number, index) => number - atTwo[index]).filter((difference) => difference !== 0);
      expect(different.length).toBeLessThanOrEqual(1);
      expect(different.every((difference) => difference > 0)).toBe(true);
      expect(Math.max(...atOne)).toBeGreaterThan(0);
      expect(Math.max(...atOne) - Math.min(...atOne.filter((number) => number > 0))).toBeLessThan(512); // a cut: no gaps
    }
    Atomics.store(stop, 0, 1);
    await once(worker, "exit");
  }));

function numbersOf(image: Uint8Array): number[] {
  const view = new DataView(image.buffer, image.byteOffset, image.byteLength);
  return Array.from({ length: 512 }, (_, index) => view.getFloat64(index * 4096));
}
