/** Resumable backups through the API, on real files. Kills are in test/crash; here a stop is clean, or the sidecar is left as a kill leaves it. */
import { copyFileSync, existsSync, readdirSync, readFileSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { faultReached, releaseHang } from "@heirloom/block";
import {
  type BackupOptions,
  createRuntime,
  type Disk,
  inspectSidecar,
  type Job,
  type Runtime,
} from "@heirloom/runtime";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { cluster, MiB, pattern, Scene } from "./scene.fixture.ts";

const length = 8 * MiB;
const journal = { allowTmpfs: true };

let scene: Scene;
let image: string;
let target: string;
const open = new Set<Runtime>();
beforeEach(() => {
  scene = new Scene({}, "disk");
  [image, target] = ["vm.img", "backup.img"].map((name) => join(scene.directory, name)) as [string, string];
  for (const file of [image, target]) {
    writeFileSync(file, "");
    truncateSync(file, length);
  }
});
afterEach(async () => {
  for (const runtime of open) await runtime.close();
  open.clear();
  await scene.close();
});

interface Running {
  readonly runtime: Runtime;
  readonly disk: Disk;
  close(): Promise<void>;
}

async function attach(now: () => number = Date.now): Promise<Running> {
  const runtime = createRuntime({ guestDelayMax: 20_000, spill: { allowTmpfs: true, floor: 0 }, now });
  open.add(runtime);
  const disk = await runtime.attach({ driver: "file", filename: image }, { journal });
  const close = async (): Promise<void> => {
    open.delete(runtime);
    await runtime.close();
  };
  return { runtime, disk, close };
}

async function backup(
  { runtime, disk }: Running,
  options: Partial<Omit<BackupOptions, "disk" | "target">> = {},
): Promise<Job> {
  return runtime.backup({
    disk,
    target: { driver: "file", filename: target },
    bitmap: "daily",
    resumable: true,
    maxWorkers: 1,
    speed: 65536, // a cluster a second: it does not end by itself while a test looks
    ...options,
  });
}

/** A disk with content, a bitmap that says that all of it changed, and what the freeze of a job held. */
async function begin(
  options: Parameters<typeof backup>[1] = {},
): Promise<{ running: Running; job: Job; shadow: Buffer }> {
  const running = await attach();
  await running.disk.bitmaps.add("daily", { persistent: true });
  await running.disk.write(pattern(4 * MiB, 1), 0);
  const shadow = readFileSync(image);
  return { running, job: await backup(running, options), shadow };
}

async function until(condition: () => boolean): Promise<void> {
  for (const deadline = Date.now() + 20_000; !condition();) {
    if (Date.now() > deadline) throw new Error("it did not come about in 20 s");
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

const spills = (): string[] => readdirSync(scene.directory).filter((name) => name.endsWith(".spill"));
const dirty = (disk: Disk): number[] =>
  [...disk.bitmaps.extents("daily")].flatMap(({ offset, length: bytes }) =>
    Array.from({ length: bytes / cluster }, (_, index) => offset / cluster + index),
  );
const first64 = Array.from({ length: 64 }, (_, index) => index);

describe("a resumable backup whose disk is detached", () => {
  it("waits, paused and frozen, at the next attach, and ends with the point in time that it began with", async () => {
    const { running, job, shadow } = await begin();
    await running.disk.write(pattern(cluster, 9), 20 * cluster); // after the freeze
    expect(statSync(join(scene.directory, spills()[0])).mode & 0o777).toBe(0o600);
    await running.close();
    expect((await job.done).status).toBe("left");

    const again = await attach();
    const [found] = again.runtime.jobs;
    expect(found.info).toMatchObject({ id: job.id, status: "paused", error: null });
    expect(again.runtime.inspect().jobs[0]).toMatchObject({ state: "paused" });
    expect(again.disk.bitmaps.get("daily")).toMatchObject({ state: "frozen", busy: true, count: 4 * MiB });
    await again.disk.write(pattern(cluster, 10), 30 * cluster); // before it is resumed: its view stands
    await again.runtime.resume(found, { target: { driver: "file", filename: target } });
    found.setSpeed(0);
    expect((await found.done).status).toBe("completed");
    expect(readFileSync(target).equals(shadow)).toBe(true);
    expect(dirty(again.disk)).toEqual([20, 30]);
    await again.close();
    expect(spills()).toEqual([]);
  });

  it("goes on over several attaches without being resumed in between", async () => {
    const { running, shadow } = await begin();
    await running.close();
    for (const place of [1, 2, 3]) {
      const between = await attach();
      await between.disk.write(pattern(cluster, 20 + place), place * cluster);
      await between.close();
    }
    const last = await attach();
    await last.runtime.resume(last.runtime.jobs[0], { target: { driver: "file", filename: target } });
    last.runtime.jobs[0].setSpeed(0);
    expect((await last.runtime.jobs[0].done).status).toBe("completed");
    expect(readFileSync(target).equals(shadow)).toBe(true);
    expect(dirty(last.disk)).toEqual([1, 2, 3]);
  });

  it("is cancelled by a cancel: its bitmap is reclaimed, and its spill is gone", async () => {
    const { running } = await begin();
    await running.close();
    const again = await attach();
    await again.disk.write(pattern(cluster, 3), 100 * cluster);
    const [found] = again.runtime.jobs;
    found.cancel();
    expect((await found.done).status).toBe("cancelled");
    expect(dirty(again.disk)).toEqual([...first64, 100]);
    await again.close();
    expect(spills()).toEqual([]);
    const third = await attach();
    expect(third.runtime.jobs).toEqual([]);
    expect(dirty(third.disk)).toEqual([...first64, 100]);
  });

  it("is reclaimed when it is told to use another target", async () => {
    const { running } = await begin();
    await running.close();
    const other = join(scene.directory, "other.img");
    copyFileSync(target, other);
    const again = await attach();
    const [found] = again.runtime.jobs;
    await expect(again.runtime.resume(found, { target: { driver: "file", filename: other } })).rejects.toMatchObject({
      code: "ERR_JOB_TARGET",
      message: expect.stringContaining("was given up") as string,
    });
    expect((await found.done).status).toBe("failed");
    expect(dirty(again.disk)).toEqual(first64);
  });

  it("cannot be resumed while its target is not there; it can be once that is attached", async () => {
    const { running, shadow } = await begin();
    await running.close();
    const again = await attach();
    const [found] = again.runtime.jobs;
    expect(() => found.resume()).toThrow(`waits for its target '${target}'`);
    await again.runtime.attach({ driver: "file", filename: target }, { name: "elsewhere", journal: false });
    found.resume();
    found.setSpeed(0);
    expect((await found.done).status).toBe("completed");
    expect(readFileSync(target).equals(shadow)).toBe(true);
  });

  it("is reclaimed when nobody resumes it in time, over restarts", async () => {
    const { running } = await begin({ resumeTimeout: 60_000 });
    await running.close();
    const second = await attach();
    await second.close();
    const third = await attach(() => Date.now() + 61_000);
    const left = third.runtime.jobs.map((job) => job.done);
    await Promise.all(left);
    expect(third.runtime.jobs).toEqual([]);
    expect(dirty(third.disk)).toEqual(first64);
  });

  it("is reclaimed when its spill is full, and the guest goes on", async () => {
    const { running } = await begin({ spill: { file: 16 * cluster, allowTmpfs: true, floor: 0 }, guestDelayMax: 20 });
    await running.close();
    const again = await attach();
    const [found] = again.runtime.jobs;
    for (let place = 63; place >= 20; place--) await again.disk.write(pattern(cluster, place), place * cluster);
    const { status, error } = await found.done;
    expect([status, error]).toEqual(["failed", expect.stringContaining("the spill was full")]);
    expect(dirty(again.disk)).toEqual(first64);
  });
});

describe("refused in a sentence", () => {
  it.each<[string, Partial<BackupOptions>, string]>([
    ["with one that is not persistent", { bitmap: "memory" }, "it needs a persistent bitmap"],
    [
      "to a target that is gone with the process",
      { target: { driver: "memory", size: length } },
      "its target cannot be told again",
    ],
    ["with work at its end", { onCopied: async () => {} }, "'onCopied' is gone after a restart"],
    ["without room for what guests overwrite", { spill: { file: 0 } }, "it has no spill file"],
  ])("%s", async (_name, options, sentence) => {
    const { runtime, disk } = await attach();
    await disk.bitmaps.add("daily", { persistent: true });
    await disk.bitmaps.add("memory");
    const file = { driver: "file", filename: target };
    await expect(runtime.backup({ disk, target: file, bitmap: "daily", resumable: true, ...options })).rejects.toThrow(
      sentence,
    );
    expect(spills()).toEqual([]);
    expect(disk.bitmaps.get("daily").state).toBe("recording");
  });

  it("a spill that is not made is no backup, and nothing is frozen", async () => {
    const running = await attach();
    await running.disk.bitmaps.add("daily", { persistent: true });
    const spill = { directory: join(scene.directory, "missing") };
    await expect(backup(running, { spill })).rejects.toMatchObject({ code: "ERR_SPILL" });
    expect(running.disk.bitmaps.get("daily").state).toBe("recording");
    expect(existsSync(target)).toBe(true);
  });
});

it("what is on the target is recorded as flushed after the flush, and not before", async () => {
  const running = await attach();
  await running.disk.bitmaps.add("daily", { persistent: true });
  await running.disk.write(pattern(4 * MiB, 1), 0);
  const rule = { kind: "flush", nth: 1, always: true, action: { hang: true } };
  const faulty = { driver: "fault", file: { driver: "file", filename: target }, rules: [rule] };
  const { runtime, disk } = running;
  const options = { bitmap: "daily", resumable: true, maxWorkers: 1, speed: cluster, maxChunk: cluster, flushEvery: 1 };
  const job = await runtime.backup({ disk, target: faulty, ...options });
  const flushed = (): number => {
    const { directory } = inspectSidecar({ filename: image, length }) ?? {};
    const { offset } = directory?.bitmaps[0].job?.flushed ?? { offset: 0 };
    return readFileSync(`${image}.heirloom`)
      .subarray(offset + 32, offset + 512)
      .reduce((sum, byte) => sum + byte, 0);
  };
  await faultReached(job.target.node, 0); // it hangs in its flush
  expect(job.info.offset).toBeGreaterThan(0);
  expect(flushed()).toBe(0);
  releaseHang(job.target.node);
  await until(() => flushed() > 0);
  job.cancel();
  await job.done;
});
