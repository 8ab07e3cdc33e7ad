/** Points in time that a user reads: exact under writes, ended by a word or by none. */
import { readFileSync } from "node:fs";
import type { Disk, View } from "@heirloom/runtime";
import { expect, test } from "vitest";
import { Guests } from "./guests.fixture.ts";
import { cluster, firstDifference, granulesOf, inScene, MiB, refusalOf, Scene, seeded } from "./scene.fixture.ts";

const length = 8 * MiB + 512;

async function readAll(view: View): Promise<Uint8Array> {
  const image = new Uint8Array(await view.length());
  await view.read(image, 0);
  return image;
}

async function extentsOf(view: View): Promise<{ offset: number; length: number }[]> {
  const extents = [];
  for await (const extent of view.extents()) extents.push(extent);
  return extents;
}

async function dirty(disk: Disk, granules: readonly number[]): Promise<void> {
  for (const granule of granules) await disk.write(new Uint8Array(1).fill(3), granule * cluster);
}

test.each([1, 2])("reads what the disk held at the freeze, while guests write (seed %i)", async (seed) => {
  const shadows: Uint8Array[] = [];
  let file = "";
  await inScene(
    async (scene) => {
      const disk = await scene.disk("a", length, seed);
      file = scene.path("a.raw");
      const guests = new Guests(scene.runtime, [disk], seed * 1000);
      await guests.writing();
      const view = disk.view();
      expect(await view.length()).toBe(length);
      expect(await extentsOf(view)).toEqual([{ offset: 0, length }]);
      const other = disk.view(); // a second one, of a later instant
      await other.ready;
      for (let pass = 0; pass < 2; pass++) expect(firstDifference(await readAll(view), shadows[0])).toBe(-1);
      const random = seeded(seed);
      for (let read = 0; read < 50; read++) {
        const offset = Math.floor(random() * (length - 1));
        const part = new Uint8Array(1 + Math.floor(random() ** 2 * Math.min(300_000, length - offset - 1)));
        await other.read(part, offset);
        expect(firstDifference(part, shadows[1].subarray(offset, offset + part.length))).toBe(-1);
      }
      await view.success();
      expect(firstDifference(await readAll(other), shadows[1])).toBe(-1);
      await other.fail();
      await guests.stop();
    },
    { observeFreeze: ({ views }) => void shadows.push(...views.map(() => readFileSync(file))) },
  );
});

test("many points in time in a row, each read at once while guests write over it", async () => {
  const size = 2 * MiB + 512;
  let shadow = new Uint8Array(0);
  let file = "";
  await inScene(
    async (scene) => {
      const disk = await scene.disk("a", size, 9);
      file = scene.path("a.raw");
      const guests = new Guests(scene.runtime, [disk], 9000);
      await guests.writing();
      for (let round = 0; round < 40; round++) {
        const view = disk.view();
        expect(firstDifference(await readAll(view), shadow), `round ${round}`).toBe(-1);
        await view.success();
      }
      await guests.stop();
    },
    { observeFreeze: () => (shadow = readFileSync(file)) },
  );
});

test("limited to a bitmap: its extents, and nothing outside of their clusters", () =>
  inScene(async (scene) => {
    const disk = await scene.disk("a", length, 3);
    await disk.bitmaps.add("b", { granularity: 4096 });
    await disk.write(new Uint8Array(5000).fill(1), 3 * cluster + 4096);
    const shadow = scene.bytes("a.raw");
    const view = disk.view({ bitmap: "b" });
    expect(await extentsOf(view)).toEqual([{ offset: 3 * cluster + 4096, length: 8192 }]);
    await disk.write(new Uint8Array(cluster).fill(2), 3 * cluster);
    const part = new Uint8Array(8192);
    await view.read(part, 3 * cluster + 4096);
    expect(firstDifference(part, shadow.subarray(3 * cluster + 4096, 3 * cluster + 4096 + 8192))).toBe(-1);
    await expect(view.read(part, 9 * cluster)).rejects.toMatchObject({ name: "BlockError", errno: 13 });
    await expect(view.read(part, length - 100)).rejects.toMatchObject({ name: "BlockError", errno: 22 });
    await view.fail();
    const all = disk.view({ bitmap: "b", all: true });
    const now = scene.bytes("a.raw");
    await dirty(disk, [20]);
    expect(firstDifference(await readAll(all), now)).toBe(-1);
    expect((await extentsOf(all))[0]).toEqual({ offset: 3 * cluster, length: cluster });
    await all.success();
    expect(granulesOf(disk, "b")).toEqual([20 * 16]);
  }));

test("success abdicates; fail, and leaving it without a word, reclaim", () =>
  inScene(async (scene) => {
    const disk = await scene.disk("a", length, 4);
    await disk.bitmaps.add("b");
    await dirty(disk, [1]);
    const failed = disk.view({ bitmap: "b" });
    await failed.ready;
    expect(disk.bitmaps.get("b")).toMatchObject({ busy: true, recording: true, state: "frozen" });
    await dirty(disk, [2]);
    expect(granulesOf(disk, "b")).toEqual([1]);
    await failed.fail();
    await failed.fail();
    expect(granulesOf(disk, "b")).toEqual([1, 2]);

    const left = disk.view({ bitmap: "b" });
    await left.ready;
    await dirty(disk, [3]);
    await left[Symbol.asyncDispose]();
    expect(granulesOf(disk, "b")).toEqual([1, 2, 3]);

    const read = disk.view({ bitmap: "b" });
    await read.ready;
    await dirty(disk, [4]);
    await read.success();
    expect(granulesOf(disk, "b")).toEqual([4]);
    await read[Symbol.asyncDispose](); // after the word: nothing more
    expect(granulesOf(disk, "b")).toEqual([4]);
    expect(await refusalOf(() => read.success())).toMatchObject({ code: "ERR_VIEW_ENDED" });
    await expect(read.read(new Uint8Array(1), 0)).rejects.toThrow("has ended");

    const never = disk.view({ bitmap: "b", bitmapMode: "never" });
    await never.success();
    expect(granulesOf(disk, "b")).toEqual([4]);
    const ended = disk.view({ bitmap: "b" });
    await ended.ready;
    const success = ended.success();
    expect(await refusalOf(() => extentsOf(ended))).toMatchObject({ code: "ERR_VIEW_ENDED" }); // not its heir's
    await success;
    await disk.detach();
  }));

test("what cannot be viewed is refused, and leaving such a view is nothing", () =>
  inScene(async (scene) => {
    const disk = await scene.disk("a", length, 5);
    const missing = disk.view({ bitmap: "x" });
    expect(await refusalOf(() => missing.ready)).toMatchObject({
      code: "ERR_BITMAP_NOT_FOUND",
      message: "view: Dirty bitmap 'x' not found",
    });
    expect(await refusalOf(() => missing.read(new Uint8Array(1), 0))).toMatchObject({ code: "ERR_BITMAP_NOT_FOUND" });
    await missing[Symbol.asyncDispose]();
    expect(await refusalOf(() => disk.view({ bitmapMode: "never" }).ready)).toMatchObject({
      code: "ERR_BACKUP_BITMAP_MODE",
    });
    await disk.detach();
    expect(await refusalOf(() => disk.view().ready)).toMatchObject({ code: "ERR_DISK_STATE" });
  }));

test("a spill that is full: the guest is held for as long as was allowed, then the view is broken and says so", () =>
  inScene(async (scene) => {
    const disk = await scene.disk("a", length, 6);
    await disk.bitmaps.add("b");
    await dirty(
      disk,
      Array.from({ length: 100 }, (_, index) => index),
    );
    const view = disk.view({ bitmap: "b", spill: { memory: cluster, file: 0 }, guestDelayMax: 30 });
    await view.ready;
    const from = performance.now();
    await disk.write(new Uint8Array(4 * cluster).fill(1), 0);
    const held = performance.now() - from;
    expect(held).toBeGreaterThan(25);
    expect(held).toBeLessThan(2000);
    await expect(view.read(new Uint8Array(512), 50 * cluster)).rejects.toMatchObject({
      errno: 5,
      message: expect.stringContaining("spill") as string,
    });
    expect(await refusalOf(() => view.success())).toMatchObject({ code: "ERR_VIEW_BROKEN" });
    expect(disk.bitmaps.get("b")).toMatchObject({ busy: false, count: 100 * cluster });
    const again = performance.now();
    await disk.write(new Uint8Array(4 * cluster).fill(1), 0);
    expect(performance.now() - again).toBeLessThan(1000);
  }));

test("two views with a bitmap each, and a job beside them", () =>
  inScene(async (scene) => {
    const disk = await scene.disk("a", length, 7);
    for (const name of ["one", "two", "three"]) await disk.bitmaps.add(name);
    await dirty(disk, [1, 2]);
    const at1 = scene.bytes("a.raw");
    const one = disk.view({ bitmap: "one" });
    await one.ready;
    await disk.write(new Uint8Array(cluster).fill(9), cluster);
    const at2 = scene.bytes("a.raw");
    const two = disk.view({ bitmap: "two" });
    const target = scene.target(length);
    const job = await scene.runtime.backup({
      disk,
      target,
      sync: "full",
      bitmap: "three",
      bitmapMode: "on-success",
      speed: 1,
    });
    await disk.write(new Uint8Array(2 * cluster).fill(8), cluster);
    for (const [view, shadow] of [
      [one, at1],
      [two, at2],
    ] as const) {
      const part = new Uint8Array(2 * cluster);
      await view.read(part, cluster);
      expect(firstDifference(part, shadow.subarray(cluster, 3 * cluster))).toBe(-1);
    }
    await one.success();
    await two.fail();
    job.setSpeed(0);
    expect((await job.done).status).toBe("completed");
    expect(firstDifference(readFileSync(target.filename), at2)).toBe(-1);
    expect([granulesOf(disk, "one"), granulesOf(disk, "two"), granulesOf(disk, "three")]).toEqual([
      [1, 2],
      [1, 2],
      [1, 2],
    ]);
  }));

test("a view of a bitmap's disk that closes with its runtime", async () => {
  const scene = new Scene();
  const disk = await scene.disk("a", length, 8);
  await disk.bitmaps.add("b");
  const view = disk.view({ bitmap: "b" });
  await view.ready;
  await scene.close();
  await expect(view.read(new Uint8Array(1), 0)).rejects.toThrow();
  await view[Symbol.asyncDispose]();
});

test("one that another bitmap limits lists that bitmap's extents, and an empty disk has none", () =>
  inScene(async (scene) => {
    const disk = await scene.disk("a", MiB, 1);
    await disk.bitmaps.add("daily");
    await disk.write(new Uint8Array(1), 3 * cluster);
    const listed = async (view: View): Promise<unknown[]> => {
      const extents = [];
      for await (const extent of view.extents()) {
        await view.read(new Uint8Array(extent.length), extent.offset);
        extents.push(extent);
      }
      await view.success();
      return extents;
    };
    const limited = disk.view({ limit: { disk, name: "daily" } });
    await limited.ready;
    await disk.bitmaps.remove("daily");
    expect(await listed(limited)).toEqual([{ offset: 3 * cluster, length: cluster }]);
    const empty = await scene.disk("empty", 0);
    expect(await listed(empty.view())).toEqual([]);
    await empty.detach();
    await disk.detach();
    expect(scene.runtime.inspect().memory.shared).toBe(0);
  }));

test("a read outside of the disk, or of no whole number, is refused at once", () =>
  inScene(async (scene) => {
    const disk = await scene.disk("a", 1000, 1);
    await using view = disk.view();
    for (const offset of [-1, 1, 0.5, Number.NaN, 2 ** 53])
      expect(await refusalOf(() => view.read(new Uint8Array(1000), offset))).toMatchObject({ code: "ERR_REQUEST" });
    await view.read(new Uint8Array(0), 1000);
  }));
