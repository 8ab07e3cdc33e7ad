/** Resizing a window resizes what it stands on: all of it at one instant, or nothing of it. */
import { readFileSync, statSync } from "node:fs";
import { createRuntime, type Disk } from "@heirloom/runtime";
import { expect, test } from "vitest";
import {
  cluster,
  ended,
  firstDifference,
  granulesOf,
  inScene,
  MiB,
  pattern,
  refusalOf,
  type Scene,
} from "./scene.fixture.ts";

const length = 2 * MiB;
const granularity = 4096;
const offset = 5 * granularity;

interface Stack {
  readonly disk: Disk;
  readonly inner: Disk;
  readonly innermost: Disk;
}
/** A disk, a window to its end, and one on that through a throttle. */
async function stack(scene: Scene): Promise<Stack> {
  const disk = await scene.disk("a", length, 1);
  const inner = await scene.runtime.attach({ driver: "raw", file: disk, offset }, { name: "w" });
  const spec = { driver: "throttle", file: { driver: "raw", file: inner, offset } };
  const innermost = await scene.runtime.attach(spec, { name: "ww" });
  for (const one of [disk, inner, innermost]) await one.bitmaps.add("b", { granularity });
  return { disk, inner, innermost };
}
const lengths = ({ disk, inner, innermost }: Stack): number[] => [disk, inner, innermost].map((one) => one.length);

test("all disks down to the file are as long as the window says, and track what is written there", () =>
  inScene(async (scene) => {
    const disks = await stack(scene);
    await disks.innermost.resize(2 * length);
    expect(lengths(disks)).toEqual([2 * length + 2 * offset, 2 * length + offset, 2 * length]);
    expect(statSync(scene.path("a.raw")).size).toBe(2 * length + 2 * offset);
    expect(granulesOf(disks.disk, "b")).toEqual([]);
    await disks.innermost.write(new Uint8Array(1).fill(1), 2 * length - 1);
    const last = (2 * length) / granularity - 1;
    expect(granulesOf(disks.innermost, "b")).toEqual([last]);
    expect(granulesOf(disks.inner, "b")).toEqual([last + 5]);
    expect(granulesOf(disks.disk, "b")).toEqual([last + 10]);
    await disks.innermost.resize(granularity);
    expect(lengths(disks)).toEqual([11 * granularity, 6 * granularity, granularity]);
    expect(statSync(scene.path("a.raw")).size).toBe(11 * granularity);
    for (const one of [disks.disk, disks.inner, disks.innermost]) expect(granulesOf(one, "b")).toEqual([]);
    // What was cut off and is grown again has changed, for each of them.
    await disks.innermost.resize(2 * granularity);
    expect(granulesOf(disks.disk, "b")).toEqual([11]);
    expect(granulesOf(disks.inner, "b")).toEqual([6]);
    expect(granulesOf(disks.innermost, "b")).toEqual([1]);
  }));

test("refused while anybody uses a disk under it: a backup of that one is whole", () =>
  inScene(async (scene) => {
    const disks = await stack(scene);
    const { disk, inner, innermost } = disks;
    const before = lengths(disks);
    const target = scene.target(length);
    const job = await scene.runtime.backup({ disk, target, jobId: "j", speed: 1, maxChunk: cluster });
    const refused = { code: "ERR_DISK_IN_USE", desc: "Disk 'ww' is a window of 'a', which is in use by job 'j'" };
    for (const to of [0, length, 4 * length])
      expect(await refusalOf(() => innermost.resize(to))).toMatchObject(refused);
    job.setSpeed(0);
    expect(await ended(job)).toEqual({ status: "completed", error: null });
    expect(firstDifference(readFileSync(target.filename), pattern(length, 1))).toBe(-1);
    await using view = inner.view();
    await view.ready;
    expect((await refusalOf(() => innermost.resize(0))).desc).toContain("is in use by view");
    await view.fail();
    inner.handle();
    expect((await refusalOf(() => innermost.resize(0))).desc).toContain("is in use by 1 posted handle");
    const beside = await scene.runtime.attach({ driver: "raw", file: disk, size: 512 }, { name: "beside" });
    expect((await refusalOf(() => beside.resize(0))).desc).toContain("which is in use by disk 'w'");
    expect(lengths(disks)).toEqual(before);
  }));

test("a window of a given size keeps it, and no bit is set for the attempt", () =>
  inScene(async (scene) => {
    const disk = await scene.disk("a", length, 1);
    const window = await scene.runtime.attach({ driver: "raw", file: disk, size: MiB });
    for (const one of [disk, window]) await one.bitmaps.add("b");
    for (const to of [0, length]) expect(await refusalOf(() => window.resize(to))).toMatchObject({ code: "ERR_IO" });
    expect([disk.length, window.length]).toEqual([length, MiB]);
    for (const one of [disk, window]) expect(one.bitmaps.get("b").count).toBe(0);
  }));

test("a window that comes while its disk is resized knows how long that is", () =>
  inScene(async (scene) => {
    const disk = await scene.disk("a", length, 1);
    for (const to of [length / 2, length, 512]) {
      const spec = { driver: "raw", file: disk };
      const [window] = await Promise.all([scene.runtime.attach(spec), disk.resize(to).catch(() => {})]);
      expect([window.length, statSync(scene.path("a.raw")).size]).toEqual([disk.length, disk.length]);
      await window.detach();
      const [, later] = await Promise.all([disk.resize(to), scene.runtime.attach(spec)]);
      expect([later.length, disk.length]).toEqual([to, to]);
      await later.detach();
    }
  }));

test("a persistent bitmap of the disk under it follows, and is there at the next attach", () =>
  inScene(async (scene) => {
    const journal = { allowTmpfs: true };
    const disk = await scene.disk("a", length, 1, { journal });
    await disk.bitmaps.add("daily", { persistent: true, granularity });
    const window = await scene.runtime.attach({ driver: "raw", file: disk, offset });
    await window.resize(MiB);
    await window.write(new Uint8Array(1), MiB - 1);
    await scene.runtime.close();
    const runtime = createRuntime();
    try {
      const again = await runtime.attach({ driver: "file", filename: scene.path("a.raw") }, { journal });
      expect(again.bitmaps.get("daily")).toMatchObject({ inconsistent: false, recording: true });
      expect([again.length, granulesOf(again, "daily")]).toEqual([MiB + offset, [MiB / granularity + 4]]);
    } finally {
      await runtime.close();
    }
  }));
