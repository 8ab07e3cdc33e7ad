/** Points in time as disks: what can be done with them, what goes with them, and what they hold on to. */
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { Worker } from "node:worker_threads";
import { expect, test } from "vitest";
import { Guests } from "./guests.fixture.ts";
import { cluster, ended, firstDifference, inScene, MiB, pattern, refusalOf } from "./scene.fixture.ts";

const length = 8 * MiB + 512;

test("a backup of a snapshot is the instant, while guests write and old data goes to a disk", async () => {
  const shadows: Uint8Array[] = [];
  let file = "";
  await inScene(
    async (scene) => {
      const disk = await scene.disk("a", length, 1);
      file = scene.path("a.raw");
      const scratch = await scene.disk("scratch", length);
      const guests = new Guests(scene.runtime, [disk], 7);
      await guests.writing();
      const view = disk.view({ target: scratch, spill: { memory: 64 * 4096, file: 0 } });
      const snapshot = await scene.runtime.attach({ driver: "snapshot", view }, { name: "then" });
      expect(snapshot.length).toBe(length);
      const all = new Uint8Array(length);
      await snapshot.read(all, 0);
      expect(firstDifference(all, shadows[0])).toBe(-1);
      const target = scene.target(length);
      const job = await scene.runtime.backup({ disk: snapshot, target });
      expect(await ended(job)).toEqual({ status: "completed", error: null });
      expect(firstDifference(readFileSync(target.filename), shadows[0])).toBe(-1);
      await guests.stop();
      await snapshot.read(all, 0);
      expect(firstDifference(all, shadows[0])).toBe(-1);
      await snapshot.detach();
      await view.success();
      await scratch.detach();
    },
    { observeFreeze: ({ views }) => void shadows.push(...views.map(() => readFileSync(file))) },
  );
});

test("a snapshot is not written, and goes with its view; its clients are cut off", () =>
  inScene(async (scene) => {
    const disk = await scene.disk("a", length, 1);
    const view = disk.view();
    const snapshot = await scene.runtime.attach({ driver: "snapshot", view }, { name: "then" });
    await expect(snapshot.write(new Uint8Array(512), 0)).rejects.toMatchObject({ errno: 95 });
    await expect(snapshot.writeZeroes(0, 512)).rejects.toMatchObject({ errno: 95 });
    await snapshot.discard(0, 2 * cluster); // dropped: it was not asked for
    const server = await scene.runtime.serveNbd({ listen: [{ path: scene.path("nbd") }] });
    await server.add({ disk: snapshot });
    await view.success();
    expect(scene.runtime.disks.map(({ name }) => name)).toEqual(["a"]);
    expect(server.exports).toEqual([]);
    expect((await refusalOf(() => scene.runtime.attach({ driver: "snapshot", view }))).code).toBe("ERR_VIEW_ENDED");
    await disk.detach();
  }));

test("a disk that goes by force takes its points in time and their snapshots with it", () =>
  inScene(async (scene) => {
    const disk = await scene.disk("a", length, 1);
    const scratch = await scene.disk("scratch", length);
    const view = disk.view({ target: scratch });
    await scene.runtime.attach({ driver: "snapshot", view }, { name: "then" });
    expect((await refusalOf(() => scratch.detach())).desc).toBe(`Disk 'scratch' is in use by view '${view.id}'`);
    await disk.detach({ force: true });
    await scene.until(() => scene.runtime.disks.length === 1);
    await scratch.detach();
  }));

test("limited to what a bitmap says: it is looked at once, and stays free", () =>
  inScene(async (scene) => {
    const disk = await scene.disk("a", length, 1);
    const other = await scene.disk("b", MiB, 1);
    await other.bitmaps.add("short");
    await disk.bitmaps.add("daily");
    await disk.write(new Uint8Array(1), 2 * cluster);
    const view = disk.view({ limit: { disk, name: "daily" } });
    await view.ready;
    await disk.write(new Uint8Array(1), 4 * cluster);
    await disk.bitmaps.remove("daily");
    const part = new Uint8Array(512);
    await view.read(part, 2 * cluster);
    await expect(view.read(part, 4 * cluster)).rejects.toMatchObject({ errno: 13 });
    await view.fail();
    const limited = (of: typeof disk, name: string): Promise<{ code: string }> =>
      refusalOf(() => disk.view({ limit: { disk: of, name } }).ready);
    expect((await limited(disk, "daily")).code).toBe("ERR_BITMAP_NOT_FOUND");
    expect((await limited(other, "short")).code).toBe("ERR_BITMAP_SIZES");
  }));

test("targets that cannot be are refused, and nothing is left", () =>
  inScene(async (scene) => {
    const disk = await scene.disk("a", length, 1);
    const short = await scene.disk("short", length - 512);
    const window = await scene.runtime.attach({ driver: "raw", file: disk }, { name: "window" });
    const fixed = await scene.runtime.attach(
      { ...scene.image("fixed.raw", length, 2), readOnly: true },
      { name: "fixed" },
    );
    const codes: string[] = [];
    for (const target of [short, disk, window, fixed]) {
      codes.push((await refusalOf(() => disk.view({ target }).ready)).code);
    }
    expect(codes).toEqual([
      "ERR_INVALID_ARGUMENT",
      "ERR_INVALID_ARGUMENT",
      "ERR_INVALID_ARGUMENT",
      "ERR_NODE_READ_ONLY",
    ]);
    expect((await refusalOf(() => disk.view({ waitForTarget: true }).ready)).code).toBe("ERR_INVALID_ARGUMENT");
    for (const one of [window, short, fixed, disk]) await one.detach();
  }));

test("a guest that waits for a target that fails: its write fails, the disk is as it was, the point in time stands", () =>
  inScene(async (scene) => {
    const disk = await scene.disk("a", length, 1);
    const rules = [{ kind: "write", offset: 0, length: cluster, action: { error: "ENOSPC" } }] as const;
    const scratch = await scene.faulty("scratch", length, rules);
    await disk.bitmaps.add("daily");
    const view = disk.view({ target: scratch, waitForTarget: true, guestDelayMax: Infinity });
    await view.ready;
    await expect(disk.write(new Uint8Array(512), 0)).rejects.toMatchObject({ errno: 28 });
    expect(disk.bitmaps.get("daily").count).toBe(0);
    await disk.write(new Uint8Array(512), cluster);
    const all = new Uint8Array(length);
    await view.read(all, 0);
    expect(firstDifference(all, pattern(length, 1))).toBe(-1);
    expect(view.broken).toBe(undefined);
    await view.success();
    await disk.write(new Uint8Array(512), 0);
  }));

test("a thread that dies while it has a snapshot open breaks the point in time: it may have died with a part in its hands", () =>
  inScene(async (scene) => {
    const disk = await scene.disk("a", length, 1);
    const view = disk.view();
    const snapshot = await scene.runtime.attach({ driver: "snapshot", view }, { name: "then" });
    const program = `
      const { parentPort, workerData } = require("node:worker_threads");
      parentPort.once("message", async (handle) => {
        const [{ loadDrivers }, { openDisk }] = await Promise.all([import(workerData.block), import(workerData.runtime)]);
        await loadDrivers(handle.disk.node);
        openDisk(handle).read(new Uint8Array(512), 0);
        process.exit();
      });`;
    const workerData = {
      block: import.meta.resolve("@heirloom/block"),
      runtime: import.meta.resolve("@heirloom/runtime"),
    };
    const thread = new Worker(program, { eval: true, workerData });
    scene.runtime.register(thread);
    thread.postMessage(snapshot.handle());
    await once(thread, "exit");
    const { data } = await scene.event("VIEW_BROKEN", { view: view.id });
    expect(data).toMatchObject({ disk: "a", reason: "thread-died" });
    await expect(snapshot.read(new Uint8Array(512), 0)).rejects.toMatchObject({ errno: 5 });
    await disk.write(new Uint8Array(512), 0); // the guest goes on
  }));

test("a backup with sync none is read while it runs; after that its snapshot answers EIO until it is taken away", () =>
  inScene(async (scene) => {
    const disk = await scene.disk("a", length, 1);
    const target = await scene.disk("t", length);
    const job = await scene.runtime.backup({ disk, target, sync: "none", readable: true });
    const snapshot = await scene.runtime.attach({ driver: "snapshot", job }, { name: "then" });
    await disk.write(new Uint8Array(3 * cluster), cluster);
    const all = new Uint8Array(length);
    await snapshot.read(all, 0);
    expect(firstDifference(all, pattern(length, 1))).toBe(-1);
    job.cancel();
    expect((await job.done).status).toBe("cancelled");
    await expect(snapshot.read(all, 0)).rejects.toMatchObject({ errno: 5 });
    expect((await refusalOf(() => scene.runtime.backup({ disk, target }))).code).toBe("ERR_TARGET_LETTING_GO");
    await snapshot.detach();
    expect(await ended(await scene.runtime.backup({ disk, target }))).toEqual({ status: "completed", error: null });
    const plain = await scene.runtime.backup({ disk, target, sync: "none" });
    expect((await refusalOf(() => scene.runtime.attach({ driver: "snapshot", job: plain }))).code).toBe(
      "ERR_INVALID_ARGUMENT",
    );
    plain.cancel();
    await plain.done;
  }));
