/** A target that hangs for ever costs its own job's target, and nothing else. */
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { disarmFault, faultReached, releaseHang } from "@heirloom/block";
import { expect, test } from "vitest";
import { cluster, ended, firstDifference, granulesOf, inScene, MiB, refusalOf, Scene } from "./scene.fixture.ts";

const length = 2 * MiB;
const hangs = [{ kind: "write", nth: 2, always: true, action: { hang: true } }] as const;

for (const how of ["an attached disk", "a target of the job's own"] as const) {
  test(`${how}: the cancel is answered at once, the bitmap is free, only that target stays taken`, () =>
    inScene(async (scene) => {
      const { runtime } = scene;
      const disk = await scene.disk("a", length, 1);
      await disk.bitmaps.add("daily");
      for (const granule of [1, 2, 9]) await disk.write(new Uint8Array(1), granule * cluster);
      const shadow = scene.bytes("a.raw");
      const own = how === "a target of the job's own";
      const image = scene.image("t.raw", length);
      const hung = { driver: "fault", file: image, rules: hangs };
      const target = own ? hung : await runtime.attach(hung, { name: "t" });
      const again = own ? { driver: "file", filename: scene.path("t.raw") } : target;
      const job = await runtime.backup({ disk, target, bitmap: "daily", maxChunk: cluster, jobId: "stuck" });
      const { node } = job.target;
      await faultReached(node, 0);
      await disk.write(new Uint8Array(1).fill(1), 5 * cluster);
      const from = performance.now();
      job.cancel();
      expect(job.info.status).toBe("aborting");
      expect(await ended(job)).toEqual({ status: "cancelled", error: "Operation canceled" });
      expect(performance.now() - from).toBeLessThan(1500);
      expect(granulesOf(disk, "daily")).toEqual([1, 2, 5, 9]);
      expect(disk.bitmaps.get("daily").busy).toBe(false);
      await scene.event("JOB_STATUS_CHANGE", { id: "stuck", status: "null" });

      const refused = await refusalOf(() => runtime.backup({ disk, target: again, bitmap: "daily" }));
      expect(refused.code).toBe("ERR_TARGET_LETTING_GO");
      expect(refused.desc).toMatch(/^Node '.+' is busy: job 'stuck' has ended and is still letting go of it$/);
      expect(disk.bitmaps.get("daily").busy).toBe(false);

      const other = scene.target(length);
      expect(
        await ended(
          await runtime.backup({ disk, target: other, sync: "full", bitmap: "daily", bitmapMode: "on-success" }),
        ),
      ).toEqual({ status: "completed", error: null });
      shadow[5 * cluster] = 1;
      expect(firstDifference(scene.bytes("target0.raw"), shadow)).toBe(-1);

      disarmFault(node, 0);
      releaseHang(node);
      await scene.until(() => runtime.inspect().lettingGo.length === 0);
      const free = await runtime.backup({ disk, target: again });
      expect(await ended(free)).toEqual({ status: "completed", error: null });
      expect(firstDifference(scene.bytes("t.raw"), shadow)).toBe(-1);
    }));
}

test("guests are not held by it, and a disk that has nothing to do with it comes and goes", () =>
  inScene(async (scene) => {
    const disk = await scene.disk("a", length, 2);
    const target = await scene.faulty("t", length, hangs);
    const job = await scene.runtime.backup({ disk, target, maxChunk: cluster });
    await faultReached(target.node, 0);
    for (let offset = 0; offset < length; offset += cluster) await disk.write(new Uint8Array(cluster).fill(1), offset);
    expect(job.info.status).toBe("running"); // the spill has room for all of it
    const other = await scene.disk("b", length, 3);
    expect((await (await scene.runtime.backup({ disk: other, target: scene.target(length) })).done).status).toBe(
      "completed",
    );
    await other.detach();
    job.cancel();
    await job.done;
    await disk.detach(); // bounded, although the job's thread still has it
  }));

for (const kept of [false, true]) {
  test(`its source is detached and attached again meanwhile${kept ? ", with what its journal keeps" : ""}, through a window as well`, () =>
    inScene(async (scene) => {
      const { runtime } = scene;
      const options = { name: "a", journal: { allowTmpfs: true } };
      const attached = await runtime.attach(scene.image("a.raw", length, 8), options);
      await attached.bitmaps.add("daily", { persistent: kept });
      for (const granule of [1, 2, 9]) await attached.write(new Uint8Array(1), granule * cluster);
      const window = await runtime.attach({ driver: "raw", file: attached }, { name: "window" });
      const targets = [await scene.faulty("t", length, hangs), await scene.faulty("u", length, hangs)];
      const jobs = [
        await runtime.backup({ disk: attached, target: targets[0], bitmap: "daily", maxChunk: cluster }),
        await runtime.backup({ disk: window, target: targets[1], maxChunk: cluster }),
      ];
      for (const { node } of targets) await faultReached(node, 0);
      for (const job of jobs) {
        job.cancel();
        expect((await job.done).status).toBe("cancelled");
      }
      await window.detach();
      const inBetween = await runtime.attach({ driver: "raw", file: attached }, { name: "window" });
      await inBetween.detach();
      const from = performance.now();
      await attached.detach();
      expect(performance.now() - from).toBeLessThan(3000);
      const disk = await runtime.attach({ driver: "file", filename: scene.path("a.raw") }, options);
      expect(runtime.inspect().lettingGo.length).toBe(2);
      if (kept) expect(granulesOf(disk, "daily")).toEqual([1, 2, 9]);
      else expect(disk.bitmaps.list()).toEqual([]);
      const shadow = scene.bytes("a.raw");
      expect(await ended(await runtime.backup({ disk, target: scene.target(length) }))).toEqual({
        status: "completed",
        error: null,
      });
      expect(firstDifference(scene.bytes("target0.raw"), shadow)).toBe(-1);
      await disk.detach();
      for (const { node } of targets) releaseHang(node);
      await scene.until(() => runtime.inspect().lettingGo.length === 0);
      for (const target of targets) await target.detach();
      await scene.until(() => runtime.inspect().memory.shared === 0);
    }));
}

test("a point in time that it was copied from goes, and its disk stays locked", () =>
  inScene(async (scene) => {
    const { runtime } = scene;
    const disk = await scene.disk("a", length, 10);
    await using view = disk.view();
    const snapshot = await runtime.attach({ driver: "snapshot", view }, { name: "instant" });
    const target = await scene.faulty("t", length, hangs);
    const job = await runtime.backup({ disk: snapshot, target, maxChunk: cluster });
    await faultReached(target.node, 0);
    job.cancel();
    await job.done;
    await snapshot.detach();
    expect(runtime.disks.map(({ name }) => name)).toEqual(["a", "t"]);
    const spec = { driver: "file", filename: scene.path("a.raw") };
    expect((await refusalOf(() => runtime.attach(spec, { name: "other" }))).code).toBe("ERR_IMAGE_LOCKED");
    releaseHang(target.node);
    await scene.until(() => runtime.inspect().lettingGo.length === 0);
  }));

test("a disk that is itself the target which hangs stays taken, name and image", () =>
  inScene(async (scene) => {
    const { runtime } = scene;
    const disk = await scene.disk("a", length, 9);
    const target = await scene.faulty("t", length, hangs);
    const job = await runtime.backup({ disk, target, maxChunk: cluster });
    await faultReached(target.node, 0);
    job.cancel();
    await job.done;
    await target.detach(); // bounded
    const spec = { driver: "file", filename: scene.path("t.raw") };
    expect((await refusalOf(() => runtime.attach(spec, { name: "t" }))).code).toBe("ERR_NODE_EXISTS");
    expect((await refusalOf(() => runtime.attach(spec, { name: "other" }))).code).toBe("ERR_TARGET_LETTING_GO");
    releaseHang(target.node);
    await scene.until(() => !runtime.disks.some(({ name }) => name === "t"));
    await (await runtime.attach(spec, { name: "t" })).detach();
  }));

test("a spill that fills up behind it breaks the view, and the job fails though its thread hangs", () =>
  inScene(async (scene) => {
    const disk = await scene.disk("a", length, 6);
    await disk.bitmaps.add("b");
    const target = await scene.faulty("t", length, hangs);
    const spill = { memory: 4 * cluster, file: 0 };
    const job = await scene.runtime.backup({
      disk,
      target,
      sync: "full",
      bitmap: "b",
      bitmapMode: "on-success",
      maxChunk: cluster,
      spill,
      guestDelayMax: 5,
    });
    await faultReached(target.node, 0);
    for (let offset = 0; offset < length; offset += cluster) await disk.write(new Uint8Array(cluster).fill(1), offset);
    expect(await ended(job)).toEqual({
      status: "failed",
      error: "the point in time was given up: the spill was full for longer than a guest may wait",
    });
    expect(disk.bitmaps.get("b")).toMatchObject({ busy: false, count: length });
    releaseHang(target.node);
  }));

test("where the guest is to give way, its write waits and fails, and the point in time stands", () =>
  inScene(async (scene) => {
    const disk = await scene.disk("a", length, 7);
    const shadow = scene.bytes("a.raw");
    const target = await scene.faulty("t", length, hangs);
    const spill = { memory: 4 * cluster, file: 0 };
    const job = await scene.runtime.backup({
      disk,
      target,
      maxChunk: cluster,
      spill,
      guestDelayMax: 5,
      onSpillFull: "break-guest-write",
    });
    await faultReached(target.node, 0);
    const answers = [];
    for (let index = 8; index < 32; index++)
      answers.push((await refusalOf(() => disk.write(new Uint8Array(cluster).fill(1), index * cluster))).code);
    expect(answers.slice(0, 2)).toEqual(["none", "none"]);
    expect(answers.at(-1)).toBe("ERR_IO");
    disarmFault(target.node, 0);
    releaseHang(target.node);
    expect(await ended(job)).toEqual({ status: "completed", error: null });
    expect(firstDifference(scene.bytes("t.raw"), shadow)).toBe(-1);
  }));

test("the runtime closes in bounded time, with the bitmap reclaimed before", async () => {
  const scene = new Scene();
  const disk = await scene.disk("a", length, 4);
  const target = await scene.faulty("t", length, hangs);
  const job = await scene.runtime.backup({ disk, target, maxChunk: cluster });
  await faultReached(target.node, 0);
  const from = performance.now();
  await scene.close();
  expect(performance.now() - from).toBeLessThan(10_000);
  expect((await job.done).status).toBe("cancelled");
});

test("and its process can exit", async () => {
  const scene = new Scene();
  try {
    scene.image("a.raw", length, 5);
    const program = `
      import { createRuntime } from "@heirloom/runtime";
      import { faultReached } from "@heirloom/block";
      const runtime = createRuntime();
      const disk = await runtime.attach({ driver: "file", filename: ${JSON.stringify(scene.path("a.raw"))} });
      const target = { driver: "fault", file: { driver: "memory", size: disk.length }, rules: ${JSON.stringify(hangs)} };
      const job = await runtime.backup({ disk, target });
      await faultReached(job.target.node, 0);
      await runtime.close();
      console.log((await job.done).status);`;
    const cwd = fileURLToPath(new URL("..", import.meta.url));
    const { stdout } = await promisify(execFile)(process.execPath, ["--input-type=module", "-e", program], {
      cwd,
      timeout: 20_000,
    });
    expect(stdout).toBe("cancelled\n");
  } finally {
    await scene.close();
  }
});
