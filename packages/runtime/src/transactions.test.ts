/** Several commands at one instant, all or none (reference 4). */
import type { Disk, TransactionAction } from "@heirloom/runtime";
import { expect, test } from "vitest";
import { cluster, ended, firstDifference, granulesOf, inScene, MiB, refusalOf } from "./scene.fixture.ts";

const length = 2 * MiB;

async function write(disk: Disk, granule: number): Promise<void> {
  await disk.write(new Uint8Array(1).fill(1), granule * cluster);
}

test("an empty one succeeds; an abort action aborts", () =>
  inScene(async ({ runtime }) => {
    expect(await runtime.transaction([])).toEqual([]);
    const disk = await runtime.attach({ driver: "memory", size: length });
    const aborted = { code: "ERR_TRANSACTION_ABORTED", message: "transaction: Transaction aborted using Abort action" };
    expect(
      await refusalOf(() => runtime.transaction([{ type: "bitmap-add", disk, name: "b" }, { type: "abort" }])),
    ).toMatchObject(aborted);
    expect(disk.bitmaps.list()).toEqual([]);
  }));

test("whatever fails last, nothing of what came before it has happened", () =>
  inScene(async (scene) => {
    const { runtime } = scene;
    const disk = await scene.disk("a", length, 1);
    for (const name of ["kept", "source", "off"]) await disk.bitmaps.add(name, { disabled: name === "off" });
    await write(disk, 1);
    const before = disk.bitmaps.list();
    const actions: TransactionAction[] = [
      { type: "bitmap-add", disk, name: "new" },
      { type: "bitmap-clear", disk, name: "kept" },
      { type: "bitmap-disable", disk, name: "source" },
      { type: "bitmap-enable", disk, name: "off" },
      { type: "bitmap-merge", disk, target: "off", sources: ["source", "new"] },
      { type: "bitmap-remove", disk, name: "source" },
      { type: "backup", disk, target: scene.target(length), sync: "full", bitmap: "kept", bitmapMode: "always" },
    ];
    for (let count = 1; count <= actions.length; count++) {
      const refused = await refusalOf(() =>
        runtime.transaction([...actions.slice(0, count), { type: "bitmap-clear", disk, name: "missing" }]),
      );
      expect(refused).toMatchObject({ code: "ERR_BITMAP_NOT_FOUND", desc: "Dirty bitmap 'missing' not found" });
      expect(disk.bitmaps.list()).toEqual(before);
    }
    expect(scene.events).toEqual([]);
    await write(disk, 2);
    expect([granulesOf(disk, "kept"), granulesOf(disk, "source"), granulesOf(disk, "off")]).toEqual([
      [1, 2],
      [1, 2],
      [],
    ]);
  }));

test("what follows from the order of actions", () =>
  inScene(async (scene) => {
    const { runtime } = scene;
    const disk = await scene.disk("a", length, 2);
    await disk.bitmaps.add("x");
    const add = { type: "bitmap-add", disk, name: "x" } as const;
    const remove = { type: "bitmap-remove", disk, name: "x" } as const;
    const clear = { type: "bitmap-clear", disk, name: "x" } as const;
    const backup = {
      type: "backup",
      disk,
      target: scene.target(length),
      sync: "full",
      bitmap: "x",
      bitmapMode: "on-success",
    } as const;
    const busy = {
      code: "ERR_BITMAP_BUSY",
      desc: "Bitmap 'x' is currently in use by another operation and cannot be used",
    };
    expect(await refusalOf(() => runtime.transaction([remove, add]))).toMatchObject({
      code: "ERR_BITMAP_EXISTS",
      desc: "Bitmap already exists: x",
    });
    expect(await refusalOf(() => runtime.transaction([remove, clear]))).toMatchObject(busy);
    expect(await refusalOf(() => runtime.transaction([remove, remove]))).toMatchObject(busy);
    expect(await refusalOf(() => runtime.transaction([backup, clear]))).toMatchObject(busy);
    await runtime.transaction([
      { ...add, name: "y" },
      { ...remove, name: "y" },
    ]);
    await runtime.transaction([clear, remove]);
    expect(disk.bitmaps.list()).toEqual([]);
  }));

test("chained merges read what the earlier ones joined", () =>
  inScene(async ({ runtime }) => {
    const one = await runtime.attach({ driver: "memory", size: length }, { name: "one" });
    const two = await runtime.attach({ driver: "memory", size: length }, { name: "two" });
    await one.bitmaps.add("a", { granularity: 4096 });
    await two.bitmaps.add("b");
    await one.bitmaps.add("c", { granularity: 131072, disabled: true });
    await one.write(new Uint8Array(1), 5 * 4096);
    await write(two, 3);
    await runtime.transaction([
      { type: "bitmap-merge", disk: two, target: "b", sources: [{ disk: one, name: "a" }] },
      { type: "bitmap-merge", disk: one, target: "c", sources: [{ disk: "two", name: "b" }, "c"] },
      { type: "bitmap-clear", disk: one, name: "a" },
    ]);
    expect([granulesOf(one, "a"), granulesOf(two, "b"), granulesOf(one, "c")]).toEqual([[], [0, 3], [0, 1]]);
    await write(one, 9);
    expect(granulesOf(one, "a")).toHaveLength(1);
    expect(granulesOf(one, "c")).toEqual([0, 1]);
  }));

test("clear and full backup: the anchor of a chain of incrementals", () =>
  inScene(async (scene) => {
    const disk = await scene.disk("a", length, 3);
    await disk.bitmaps.add("daily");
    for (const granule of [1, 2, 3]) await write(disk, granule);
    const target = scene.target(length);
    const [full] = await scene.runtime.transaction([
      { type: "bitmap-clear", disk, name: "daily" },
      { type: "backup", disk, target, sync: "full" },
    ]);
    await write(disk, 7);
    expect(await ended(full)).toEqual({ status: "completed", error: null });
    expect(granulesOf(disk, "daily")).toEqual([7]);
    const job = await scene.runtime.backup({
      disk,
      bitmap: "daily",
      target: { driver: "file", filename: target.filename },
    });
    expect(await job.done).toMatchObject({ status: "completed", length: cluster });
    expect(firstDifference(scene.bytes("target0.raw"), scene.bytes("a.raw"))).toBe(-1);
  }));

test("add disabled, merge, clear: a bitmap is split at one instant, while guests write", () =>
  inScene(async (scene) => {
    const disk = await scene.disk("a", length, 4);
    await disk.bitmaps.add("now");
    await write(disk, 1);
    let go = true;
    const written = new Set([1]);
    const writing = (async () => {
      for (let granule = 2; go && granule < 32; granule++) {
        await write(disk, granule);
        written.add(granule);
      }
    })();
    await scene.until(() => written.size > 3);
    await scene.runtime.transaction([
      { type: "bitmap-add", disk, name: "then", disabled: true },
      { type: "bitmap-merge", disk, target: "then", sources: ["now"] },
      { type: "bitmap-clear", disk, name: "now" },
    ]);
    go = false;
    await writing;
    const then = granulesOf(disk, "then");
    const now = granulesOf(disk, "now");
    expect(then.length).toBeGreaterThan(2);
    expect([...then, ...now]).toEqual([...written]); // none lost, none in both: each granule was written once
  }));

test("a backup of bits that the same transaction joins: exactly those clusters", () =>
  inScene(async (scene) => {
    const disk = await scene.disk("a", length, 5);
    for (const name of ["monday", "tuesday"]) await disk.bitmaps.add(name);
    await write(disk, 3);
    await disk.bitmaps.disable("monday");
    await write(disk, 9);
    const shadow = scene.bytes("a.raw");
    const target = await scene.disk("t", length);
    const [job] = await scene.runtime.transaction([
      { type: "bitmap-add", disk, name: "both", disabled: true },
      { type: "bitmap-merge", disk, target: "both", sources: ["monday", "tuesday"] },
      { type: "backup", disk, target, sync: "bitmap", bitmap: "both", bitmapMode: "on-success" },
    ]);
    await disk.write(new Uint8Array(cluster).fill(1), 3 * cluster);
    expect(await job.done).toMatchObject({ status: "completed", offset: 2 * cluster, length: 2 * cluster });
    const image = scene.bytes("t.raw");
    for (let index = 0; index < length / cluster; index++) {
      const part = image.subarray(index * cluster, (index + 1) * cluster);
      if (index === 3 || index === 9)
        expect(firstDifference(part, shadow.subarray(index * cluster, (index + 1) * cluster))).toBe(-1);
      else expect(part.every((byte) => byte === 0)).toBe(true);
    }
    expect(disk.bitmaps.get("both")).toMatchObject({ count: 0, recording: false, busy: false });
  }));

test("grouped takes backups only", () =>
  inScene(async ({ runtime }) => {
    const disk = await runtime.attach({ driver: "memory", size: length });
    await disk.bitmaps.add("b");
    const grouped = { completionMode: "grouped" } as const;
    expect(
      await refusalOf(() => runtime.transaction([{ type: "bitmap-clear", disk, name: "b" }], grouped)),
    ).toMatchObject({
      code: "ERR_TRANSACTION_COMPLETION_MODE",
      desc: "Action 'block-dirty-bitmap-clear' does not support Transaction property completion-mode = grouped",
    });
  }));
