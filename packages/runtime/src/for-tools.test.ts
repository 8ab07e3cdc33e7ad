/** What tools that speak QEMU's protocol ask of the runtime beyond what an embedder does. */
import { type HeirloomError, type RuntimeEvent } from "@heirloom/runtime";
import { expect, test } from "vitest";
import { ended, inScene, MiB, refusalOf } from "./scene.fixture.ts";

const length = MiB;

test("a persistent bitmap is refused on a disk that stores none, before its name is looked at", () =>
  inScene(async (scene) => {
    const disk = await scene.disk("a", length, undefined, { journal: false });
    for (const name of ["b", "x".repeat(1024)]) {
      expect(await refusalOf(() => disk.bitmaps.add(name, { persistent: true }))).toMatchObject({
        code: "ERR_BITMAP_NOT_STORABLE",
        desc: "Can't store persistent bitmaps to a: Operation not supported",
      });
    }
    expect(disk.bitmaps.list()).toEqual([]);
  }));

test("a transaction says which action was refused, and refuses for a reason of the caller's in its turn", () =>
  inScene(async (scene) => {
    const { runtime } = scene;
    const disk = await scene.disk("a", length);
    const because = new RangeError("no such node");
    const add = (name: string) => ({ type: "bitmap-add", disk, name }) as const;
    await expect(runtime.transaction([add("b"), { type: "abort", because }, add("b")])).rejects.toBe(because);
    const refused = await runtime.transaction([add("b"), add("c"), add("b"), { type: "abort", because }]).then(
      () => undefined,
      (error: unknown) => error as HeirloomError,
    );
    expect(refused).toMatchObject({ code: "ERR_BITMAP_EXISTS", action: 2 });
    expect(disk.bitmaps.list()).toEqual([]);
  }));

test("successors are listed where they are asked for, newest first; a bitmap that abdicated has its heir's place", () =>
  inScene(async (scene) => {
    const { runtime } = scene;
    const disk = await scene.disk("a", length, 1);
    await disk.bitmaps.add("old");
    await disk.write(new Uint8Array(1), 0);
    const target = scene.target(length);
    const job = await runtime.backup({ disk, bitmap: "old", target, autoFinalize: false });
    await disk.bitmaps.add("new");
    await disk.write(new Uint8Array(2), 65535);
    const seen = disk.bitmaps.list({ successors: true });
    expect(seen.map(({ name, count, recording, busy }) => [name, count, recording, busy])).toEqual([
      ["new", 131072, true, false],
      ["", 131072, true, false],
      ["old", 65536, true, true],
    ]);
    expect(disk.bitmaps.list().map(({ name }) => name)).toEqual(["new", "old"]);
    await scene.event("BLOCK_JOB_PENDING");
    job.finalize();
    await job.done;
    await disk.bitmaps.add("newest");
    expect(disk.bitmaps.list({ successors: true }).map(({ name }) => name)).toEqual(["newest", "new", "old"]);
  }));

test("listeners hear of events before the call that brings them about returns", () =>
  inScene(async (scene) => {
    const { runtime } = scene;
    const disk = await scene.disk("a", length, 1);
    const heard: RuntimeEvent[] = [];
    const stop = runtime.onEvent((event) => heard.push(event));
    const job = await runtime.backup({ disk, sync: "none", target: scene.target(length), jobId: "j" });
    job.pause();
    expect(heard.filter(({ name }) => name === "JOB_STATUS_CHANGE").map(({ data }) => data.status)).toEqual([
      "created",
      "running",
      "paused",
    ]);
    stop();
    job.cancel();
    await job.done;
    expect(heard.at(-1)?.data.status).toBe("paused");
  }));

test("a cancel without force leaves a job alone that a user has paused; complete is never accepted", () =>
  inScene(async (scene) => {
    const disk = await scene.disk("a", length, 1);
    const job = await scene.runtime.backup({ disk, sync: "none", target: scene.target(length), jobId: "j" });
    expect(await refusalOf(() => job.complete())).toMatchObject({
      desc: "Job 'j' in state 'running' cannot accept command verb 'complete'",
    });
    job.pause();
    expect(await refusalOf(() => job.cancel({ force: false }))).toMatchObject({
      desc: "The block job for device 'j' is currently paused",
    });
    job.resume();
    job.cancel({ force: false });
    expect(await ended(job)).toEqual({ status: "cancelled", error: "Operation canceled" });
  }));

test("names that programs make up are taken where they are said to be, and are as unique as others", () =>
  inScene(async ({ runtime }) => {
    const spec = { driver: "null-co", size: length };
    await runtime.attach(spec, { name: "#block1", generated: true });
    expect(await refusalOf(() => runtime.attach(spec, { name: "#block2" }))).toMatchObject({ code: "ERR_NODE_NAME" });
    expect(await refusalOf(() => runtime.attach(spec, { name: "#block1", generated: true }))).toMatchObject({
      code: "ERR_NODE_EXISTS",
    });
    expect(await refusalOf(() => runtime.attach(spec, { name: "1", generated: true }))).toMatchObject({
      code: "ERR_NODE_NAME",
    });
  }));

test("compressed targets are refused, and so is a filter's name that could not be one", () =>
  inScene(async (scene) => {
    const { runtime } = scene;
    const disk = await scene.disk("a", length, 1);
    const target = await scene.disk("t", length);
    expect(await refusalOf(() => runtime.backup({ disk, target, compress: true }))).toMatchObject({
      code: "ERR_BACKUP_COMPRESSION",
    });
    expect(await refusalOf(() => runtime.backup({ disk, target, filterNodeName: "1" }))).toMatchObject({
      desc: "Could not create node: Invalid node-name: '1'",
    });
    expect(await refusalOf(() => runtime.backup({ disk, target, filterNodeName: "t" }))).toMatchObject({
      desc: "Could not create node: Duplicate nodes with node-name='t'",
    });
  }));

test("an export may show another disk's bitmap of the same length, which is busy meanwhile and its disk in use", () =>
  inScene(async (scene) => {
    const { runtime } = scene;
    const disk = await scene.disk("a", length, 1);
    const scratch = await scene.disk("scratch", length);
    const short = await scene.disk("short", length / 2);
    await scratch.bitmaps.add("since");
    await short.bitmaps.add("since");
    const server = await runtime.serveNbd({ listen: [{ path: scene.path("nbd") }] });
    expect(await refusalOf(() => server.add({ disk, bitmaps: [{ disk: scratch, name: "missing" }] }))).toMatchObject({
      desc: "Dirty bitmap 'missing' not found",
    });
    expect(await refusalOf(() => server.add({ disk, bitmaps: [{ disk: short, name: "since" }] }))).toMatchObject({
      code: "ERR_BITMAP_SIZES",
    });
    const exported = await server.add({ disk, bitmaps: [{ disk: scratch, name: "since" }], id: "e" });
    expect(scratch.bitmaps.get("since").busy).toBe(true);
    expect(scratch.users.exports).toEqual(["e"]);
    expect(await refusalOf(() => scratch.detach())).toMatchObject({ code: "ERR_DISK_IN_USE" });
    await exported.remove();
    expect(scratch.bitmaps.get("since").busy).toBe(false);
    await scratch.detach();
    expect(await refusalOf(() => server.add({ disk, bitmaps: [{ disk: scratch, name: "since" }] }))).toMatchObject({
      code: "ERR_DISK_STATE",
    });
  }));

test("what a job writes is refused as a source where the runtime was told so, and only there", () =>
  inScene(async (outer) => {
    for (const backupOfTargets of [true, false]) {
      await inScene(
        async (scene) => {
          const { runtime } = scene;
          const disk = await scene.disk("a", length, 1);
          const target = await scene.disk("t", length);
          await runtime.backup({ disk, target, sync: "none" });
          const refused = await refusalOf(() => runtime.backup({ disk: target, target: outer.target(length) }));
          expect(refused.desc).toBe(
            backupOfTargets ? "it was not refused" : "Node 't' is busy: block device is in use by block job: backup",
          );
        },
        { backupOfTargets },
      );
    }
  }));

test("a disk says who uses it", () =>
  inScene(async (scene) => {
    const { runtime } = scene;
    const disk = await scene.disk("a", length, 1);
    await runtime.attach({ driver: "raw", file: disk }, { name: "w" });
    const job = await runtime.backup({ disk, sync: "none", target: scene.target(length), jobId: "j" });
    const view = disk.view();
    await view.ready;
    expect(disk.users).toEqual({ jobs: ["j"], views: [view.id], exports: [], windows: ["w"] });
    await view.fail();
    job.cancel();
    await job.done;
    expect(disk.users).toEqual({ jobs: [], views: [], exports: [], windows: ["w"] });
  }));
