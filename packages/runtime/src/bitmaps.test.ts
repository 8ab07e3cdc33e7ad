import { readFileSync, statSync } from "node:fs";
import { BlockError, faultCount, releaseHang } from "@heirloom/block";
import type { Disk } from "@heirloom/runtime";
import { describe, expect, test } from "vitest";
import {
  cluster,
  firstDifference,
  granulesIn,
  granulesOf,
  inScene,
  MiB,
  refusalOf,
  seeded,
  union,
} from "./scene.fixture.ts";

async function write(disk: Disk, offset: number, length: number): Promise<void> {
  await disk.write(new Uint8Array(length).fill(9), offset);
}

describe("adding, removing, clearing, enabling, disabling", () => {
  test("a bitmap begins clean, records writes, and is listed newest first", () =>
    inScene(async ({ runtime }) => {
      const disk = await runtime.attach({ driver: "memory", size: MiB }, { name: "a" });
      await disk.bitmaps.add("one");
      await disk.bitmaps.add("two", { granularity: 4096, disabled: true });
      await write(disk, 100_000, 10);
      expect(disk.bitmaps.list()).toEqual([
        {
          name: "two",
          count: 0,
          granularity: 4096,
          recording: false,
          busy: false,
          persistent: false,
          inconsistent: false,
          state: "disabled",
        },
        {
          name: "one",
          count: cluster,
          granularity: cluster,
          recording: true,
          busy: false,
          persistent: false,
          inconsistent: false,
          state: "recording",
        },
      ]);
      await disk.bitmaps.enable("two");
      await disk.bitmaps.enable("two"); // idempotent
      await disk.bitmaps.disable("one");
      await disk.bitmaps.disable("one");
      await write(disk, 0, 512);
      expect(granulesOf(disk, "one")).toEqual([1]);
      expect(granulesOf(disk, "two")).toEqual([0]);
      await disk.bitmaps.clear("one");
      expect(disk.bitmaps.get("one").count).toBe(0);
      await disk.bitmaps.remove("one");
      expect(disk.bitmaps.list().map(({ name }) => name)).toEqual(["two"]);
    }));

  test("count is bytes of whole granules, and may exceed the disk", () =>
    inScene(async ({ runtime }) => {
      const disk = await runtime.attach({ driver: "memory", size: 512 });
      await disk.bitmaps.add("b");
      await write(disk, 0, 512);
      expect(disk.bitmaps.get("b").count).toBe(65536);
    }));

  test("the refusals have QEMU's texts, a stable code, and change nothing", () =>
    inScene(async ({ runtime }) => {
      const disk = await runtime.attach({ driver: "memory", size: MiB }, { name: "a" });
      const { bitmaps } = disk;
      await bitmaps.add("b");
      const granularity = "Granularity must be power of 2 and at least 512";
      const long = "n".repeat(1024);
      const cases: [() => Promise<void>, string, string][] = [
        [() => bitmaps.add("b"), "ERR_BITMAP_EXISTS", "Bitmap already exists: b"],
        [() => bitmaps.add(""), "ERR_BITMAP_NAME", "Bitmap name cannot be empty"],
        [() => bitmaps.add(long), "ERR_BITMAP_NAME", `Bitmap name too long: ${long}`],
        [() => bitmaps.add("x", { granularity: 0 }), "ERR_BITMAP_GRANULARITY", granularity],
        [() => bitmaps.add("x", { granularity: 256 }), "ERR_BITMAP_GRANULARITY", granularity],
        [() => bitmaps.add("x", { granularity: 1000 }), "ERR_BITMAP_GRANULARITY", granularity],
        [() => bitmaps.remove("x"), "ERR_BITMAP_NOT_FOUND", "Dirty bitmap 'x' not found"],
        [() => bitmaps.clear("x"), "ERR_BITMAP_NOT_FOUND", "Dirty bitmap 'x' not found"],
        [() => bitmaps.enable("x"), "ERR_BITMAP_NOT_FOUND", "Dirty bitmap 'x' not found"],
        [() => bitmaps.merge("b", ["x"]), "ERR_BITMAP_NOT_FOUND", "Dirty bitmap 'x' not found"],
        [() => bitmaps.merge("b", [{ disk: { name: "z" }, name: "x" }]), "ERR_NODE_NOT_FOUND", "Node 'z' not found"],
      ];
      for (const [work, code, desc] of cases) expect(await refusalOf(work)).toMatchObject({ code, desc });
      expect((await refusalOf(() => bitmaps.add("b"))).message).toBe("bitmap add: Bitmap already exists: b");
      expect(bitmaps.list().map(({ name }) => name)).toEqual(["b"]);
      await bitmaps.add("\u0001/% é");
      await bitmaps.add("n".repeat(1023), { granularity: 2 ** 31 });
      expect(bitmaps.get("n".repeat(1023)).granularity).toBe(2 ** 31);
      const unknown = await refusalOf(() => runtime.transaction([{ type: "bitmap-add", disk: "z", name: "b" }]));
      expect(unknown).toMatchObject({ code: "ERR_NODE_NOT_FOUND", desc: "Cannot find device='z' nor node-name='z'" });
    }));

  test("a bitmap too fine for its disk is refused with the granularity that fits", () =>
    inScene(async ({ runtime }) => {
      const disk = await runtime.attach({ driver: "null-co", size: 2 ** 50 });
      expect(await refusalOf(() => disk.bitmaps.add("b", { granularity: 512 }))).toMatchObject({
        code: "ERR_BITMAP_TOO_LARGE",
        desc: `Granularity 512 is too fine for ${2 ** 50} bytes: use at least 8192`,
      });
    }));

  test("while a job has the bitmap every command on it is refused, with the same text", () =>
    inScene(async (scene) => {
      const disk = await scene.disk("a", MiB, 1);
      await disk.bitmaps.add("b");
      await disk.bitmaps.add("other");
      const job = await scene.runtime.backup({
        disk,
        target: scene.target(MiB),
        bitmap: "b",
        sync: "full",
        bitmapMode: "on-success",
        autoFinalize: false,
      });
      const { bitmaps } = disk;
      const busy = {
        code: "ERR_BITMAP_BUSY",
        desc: "Bitmap 'b' is currently in use by another operation and cannot be used",
      };
      for (const work of [
        () => bitmaps.remove("b"),
        () => bitmaps.clear("b"),
        () => bitmaps.enable("b"),
        () => bitmaps.disable("b"),
        () => bitmaps.merge("b", ["other"]),
        () => bitmaps.merge("other", ["b"]),
        () => scene.runtime.backup({ disk, target: scene.target(MiB), bitmap: "b" }),
        () => disk.view({ bitmap: "b" }).ready,
      ]) {
        expect(await refusalOf(work)).toMatchObject(busy);
      }
      expect(await refusalOf(() => bitmaps.add("b"))).toMatchObject({ code: "ERR_BITMAP_EXISTS" });
      expect(bitmaps.get("b")).toMatchObject({ busy: true, recording: true, state: "frozen" });
      job.cancel();
      await job.done;
      expect(bitmaps.get("b")).toMatchObject({ busy: false, recording: true });
    }));
});

describe("what marks", () => {
  const granularity = 4096;

  test("each kind of change marks exactly the granules it touches, on the main thread's path", () =>
    inScene(async (scene) => {
      const length = 4 * MiB + 512;
      const disk = await scene.disk("a", length, 2);
      await disk.bitmaps.add("b", { granularity });
      const random = seeded(11);
      const model = new Set<number>();
      for (let round = 0; round < 60; round++) {
        const offset = Math.floor(random() * length);
        const size = Math.min(length - offset, Math.floor(random() ** 3 * 300_000));
        const kind = Math.floor(random() * 3);
        if (kind === 0) await write(disk, offset, size);
        else if (kind === 1) await disk.discard(offset, size);
        else await disk.writeZeroes(offset, size, { unmap: random() < 0.5 });
        if (size > 0) for (const granule of granulesIn(offset, size, granularity)) model.add(granule);
      }
      expect(granulesOf(disk, "b")).toEqual(union([...model]));
    }));

  test("a failing write, discard or write of zeroes marks; what is refused before the device does not", () =>
    inScene(async (scene) => {
      const action = { error: "EIO" } as const;
      const rules = [
        { kind: "write", action },
        { kind: "discard", action },
        { kind: "write-zeroes", action },
      ] as const;
      const disk = await scene.faulty("a", MiB, rules, 3);
      await disk.bitmaps.add("b", { granularity });
      for (const work of [
        () => write(disk, 0, 512),
        () => disk.discard(2 * granularity, 1),
        () => disk.writeZeroes(4 * granularity, 1),
      ]) {
        expect(await refusalOf(work)).toMatchObject({ code: "ERR_IO" });
      }
      expect(granulesOf(disk, "b")).toEqual([0, 2, 4]);
      for (const work of [
        () => write(disk, MiB, 1),
        () => write(disk, MiB - 1, 2),
        () => disk.discard(-1, 1),
        () => disk.writeZeroes(0.5, 1),
      ]) {
        await expect(work()).rejects.toThrow(BlockError);
      }
      await disk.write(new Uint8Array(0), 300_000);
      await disk.discard(300_000, 0);
      await disk.writeZeroes(300_000, 0);
      await disk.read(new Uint8Array(512), 300_000);
      await disk.flush();
      expect(granulesOf(disk, "b")).toEqual([0, 2, 4]);
    }));

  test("a read-only disk refuses writes and marks nothing", () =>
    inScene(async (scene) => {
      const disk = await scene.runtime.attach({ ...scene.image("a.raw", MiB, 4), readOnly: true });
      await disk.bitmaps.add("b");
      expect(await refusalOf(() => write(disk, 0, 512))).toMatchObject({ code: "ERR_IO" });
      expect(disk.bitmaps.get("b").count).toBe(0);
    }));
});

describe("merging", () => {
  test("fine to coarse rounds out, coarse to fine fills, also across disks", () =>
    inScene(async ({ runtime }) => {
      const one = await runtime.attach({ driver: "memory", size: MiB }, { name: "one" });
      const two = await runtime.attach({ driver: "memory", size: MiB }, { name: "two" });
      await one.bitmaps.add("fine", { granularity: 4096 });
      await two.bitmaps.add("coarse", { granularity: cluster });
      await write(one, 5 * 4096, 1);
      await write(two, 3 * cluster, 1);
      await two.bitmaps.merge("coarse", [{ disk: one, name: "fine" }]);
      expect(granulesOf(two, "coarse")).toEqual([0, 3]);
      await one.bitmaps.merge("fine", [{ disk: two, name: "coarse" }]);
      expect(granulesOf(one, "fine")).toEqual(
        union(granulesIn(0, cluster, 4096), granulesIn(3 * cluster, cluster, 4096)),
      );
      expect(one.bitmaps.get("fine")).toMatchObject({ recording: true, busy: false });
    }));

  test("with itself, with nothing, twice from one source: what it was, joined once", () =>
    inScene(async ({ runtime }) => {
      const disk = await runtime.attach({ driver: "memory", size: MiB });
      await disk.bitmaps.add("a");
      await disk.bitmaps.add("b", { disabled: true });
      await write(disk, 2 * cluster, 1);
      await disk.bitmaps.merge("a", ["a"]);
      await disk.bitmaps.merge("a", []);
      expect(granulesOf(disk, "a")).toEqual([2]);
      await disk.bitmaps.merge("b", ["a", "a", "b"]);
      expect(granulesOf(disk, "b")).toEqual([2]);
      expect(disk.bitmaps.get("b").recording).toBe(false);
      expect(granulesOf(disk, "a")).toEqual([2]);
      await write(disk, 5 * cluster, 1);
      expect([granulesOf(disk, "a"), granulesOf(disk, "b")]).toEqual([[2, 5], [2]]);
    }));

  test("one bad source, and the target is what it was", () =>
    inScene(async ({ runtime }) => {
      const disk = await runtime.attach({ driver: "memory", size: MiB });
      const small = await runtime.attach({ driver: "memory", size: MiB / 2 });
      for (const name of ["target", "good"]) await disk.bitmaps.add(name);
      await small.bitmaps.add("small");
      await disk.bitmaps.disable("target");
      await write(disk, 0, 1);
      expect(
        await refusalOf(() => disk.bitmaps.merge("target", ["good", { disk: small, name: "small" }])),
      ).toMatchObject({
        code: "ERR_BITMAP_SIZES",
        desc: `Bitmaps are of different sizes (destination size is ${MiB}, source size is ${MiB / 2}) and can't be merged`,
      });
      expect(await refusalOf(() => disk.bitmaps.merge("target", ["good", "missing"]))).toMatchObject({
        code: "ERR_BITMAP_NOT_FOUND",
      });
      expect(disk.bitmaps.get("target")).toMatchObject({ count: 0, busy: false });
      expect(granulesOf(disk, "good")).toEqual([0]);
    }));

  test("a large bitmap is folded off the main thread, and the reply waits for it", () =>
    inScene(async ({ runtime }) => {
      const disk = await runtime.attach({ driver: "null-co", size: 2 ** 42 });
      await disk.bitmaps.add("fine", { granularity: 65536 }); // 2^26 granules
      await disk.bitmaps.add("sum", { granularity: 65536, disabled: true });
      for (const offset of [0, 2 ** 30, 2 ** 42 - 512]) await write(disk, offset, 512);
      const merged = disk.bitmaps.merge("sum", ["fine"]);
      await write(disk, 2 ** 40, 512); // guests go on
      await merged;
      expect(disk.bitmaps.get("sum")).toMatchObject({ busy: false, count: 3 * 65536 });
      expect(disk.bitmaps.get("fine")).toMatchObject({ busy: false, count: 4 * 65536 });
    }));
});

describe("granularity and resizing", () => {
  test("by default the node's cluster size within 4 KiB and 64 KiB, 64 KiB where there is none", () =>
    inScene(async (scene) => {
      const disk = await scene.disk("a", MiB, 5);
      await disk.bitmaps.add("b");
      expect(disk.bitmaps.get("b").granularity).toBe(65536);
    }));

  test("grown space is clean and is tracked; shrinking keeps the partial last granule and no more", () =>
    inScene(async (scene) => {
      const disk = await scene.disk("a", 4 * MiB, 6);
      await disk.bitmaps.add("big", { granularity: MiB });
      await disk.bitmaps.add("small", { granularity: 4096, disabled: true });
      await write(disk, 0, 1);
      await write(disk, 4 * MiB - 1, 1);
      await disk.bitmaps.merge("small", ["big"]);
      await disk.resize(3 * MiB + 512);
      expect([disk.length, granulesOf(disk, "big")]).toEqual([3 * MiB + 512, [0, 3]]);
      expect(granulesOf(disk, "small").at(-1)).toBe((3 * MiB) / 4096);
      await expect(write(disk, 3 * MiB + 512, 1)).rejects.toThrow(BlockError);
      await disk.resize(3 * MiB);
      expect(granulesOf(disk, "big")).toEqual([0]);
      await disk.bitmaps.clear("big");
      await disk.resize(6 * MiB);
      expect(granulesOf(disk, "big")).toEqual([]);
      await write(disk, 5 * MiB, 1);
      expect(granulesOf(disk, "big")).toEqual([5]);
      const zeroes = new Uint8Array(MiB).fill(1);
      await disk.read(zeroes, 3 * MiB);
      expect(zeroes.every((byte) => byte === 0)).toBe(true);
      expect(scene.bytes("a.raw").length).toBe(6 * MiB);
      expect(disk.bitmaps.list().map(({ recording, busy }) => [recording, busy])).toEqual([
        [false, false],
        [true, false],
      ]);
    }));

  test("what was cut off and is grown again has changed: it reads as zeroes", () =>
    inScene(async (scene) => {
      const disk = await scene.disk("a", 4 * MiB, 6);
      await disk.bitmaps.add("b", { granularity: MiB });
      await disk.bitmaps.add("off", { granularity: MiB, disabled: true });
      const target = { ...scene.target(4 * MiB), create: { length: 4 * MiB } };
      const full = await scene.runtime.backup({ disk, bitmap: "b", sync: "full", bitmapMode: "on-success", target });
      await full.done;
      await disk.resize(2 * MiB);
      await disk.bitmaps.add("joined", { granularity: MiB });
      await disk.bitmaps.merge("joined", ["b"]);
      await disk.resize(3 * MiB);
      expect([granulesOf(disk, "b"), granulesOf(disk, "off"), granulesOf(disk, "joined")]).toEqual([[2], [], [2]]);
      await disk.resize(6 * MiB); // beyond what it ever was, it is clean
      expect(granulesOf(disk, "b")).toEqual([2, 3]);
      await disk.resize(4 * MiB);
      const incremental = await scene.runtime.backup({
        disk,
        bitmap: "b",
        target: { driver: "file", filename: target.filename },
      });
      expect(await incremental.done).toMatchObject({ status: "completed", length: 2 * MiB });
      expect(firstDifference(readFileSync(target.filename), scene.bytes("a.raw"))).toBe(-1);
      // The next checkpoint is of what is there: nothing of before counts.
      await disk.resize(MiB);
      await disk.bitmaps.clear("b");
      await disk.resize(4 * MiB);
      expect(granulesOf(disk, "b")).toEqual([]);
    }));

  test("what is no size, a user, a window or a posted handle refuse it", () =>
    inScene(async (scene) => {
      const disk = await scene.disk("a", MiB, 7);
      for (const size of [-1, 1.5, Number.NaN]) {
        expect(await refusalOf(() => disk.resize(size))).toMatchObject({
          code: "ERR_INVALID_ARGUMENT",
          desc: "Parameter 'size' expects a >0 size",
        });
      }
      const view = disk.view();
      await view.ready;
      const window = await scene.runtime.attach({ driver: "raw", file: disk, offset: 0, size: 512 }, { name: "w" });
      disk.handle();
      expect(await refusalOf(() => disk.resize(2 * MiB))).toMatchObject({
        code: "ERR_DISK_IN_USE",
        desc: `Disk 'a' is in use by view '${view.id}', disk 'w', 1 posted handle`,
      });
      await view.fail();
      await window.detach();
    }));

  test("one that is refused while a guest hangs leaves the file as long as it was", () =>
    inScene(
      async (scene) => {
        const disk = await scene.faulty("a", MiB, [{ kind: "write", nth: 1, action: { hang: true } }]);
        const write = disk.write(new Uint8Array(512), 0);
        await scene.until(() => faultCount(disk.node, 0) === 1);
        expect(await refusalOf(() => disk.resize(2 * MiB))).toMatchObject({ code: "ERR_GATE_HELD" });
        expect([disk.length, statSync(scene.path("a.raw")).size]).toEqual([MiB, MiB]);
        releaseHang(disk.node);
        await write;
        await disk.resize(2 * MiB);
        expect(statSync(scene.path("a.raw")).size).toBe(2 * MiB);
      },
      { freezeDeadlineMs: 50 },
    ));

  test("many at once are done one after the other: the last one's length is the disk's and the file's", () =>
    inScene(async (scene) => {
      const disk = await scene.disk("a", MiB);
      await disk.bitmaps.add("b");
      const sizes = [3, 1, 5, 2, 4, 1, 6, 3].map((size) => size * MiB);
      await Promise.all(sizes.map((size) => disk.resize(size)));
      expect([disk.length, statSync(scene.path("a.raw")).size]).toEqual([3 * MiB, 3 * MiB]);
      await write(disk, 3 * MiB - 1, 1);
      expect(granulesOf(disk, "b").at(-1)).toBe(47);
    }));

  test("a device that cannot be resized leaves disk and bitmaps as they were", () =>
    inScene(async ({ runtime }) => {
      const disk = await runtime.attach({ driver: "memory", size: MiB });
      await disk.bitmaps.add("b");
      await write(disk, MiB - 1, 1);
      expect(await refusalOf(() => disk.resize(2 * MiB))).toMatchObject({ code: "ERR_IO" });
      expect([disk.length, granulesOf(disk, "b")]).toEqual([MiB, [15]]);
    }));
});
