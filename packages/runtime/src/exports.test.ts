/** Disks that NBD clients see: they are guests like any other, and what an export took it gives back on every way out. */
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { disarmFault, faultReached, releaseHang } from "@heirloom/block";
import { NbdClient } from "@heirloom/nbd";
import type { Disk, DiskExport, DiskServer } from "@heirloom/runtime";
import { expect, test } from "vitest";
import {
  cluster,
  ended,
  firstDifference,
  granulesIn,
  granulesOf,
  inScene,
  MiB,
  pattern,
  refusalOf,
  type Scene,
  seeded,
  union,
} from "./scene.fixture.ts";

const length = 4 * MiB;

async function serve(scene: Scene): Promise<DiskServer> {
  return scene.runtime.serveNbd({ listen: [{ path: scene.path("nbd.sock") }] });
}

async function clientOf(exported: DiskExport, contexts: readonly string[] = []): Promise<NbdClient> {
  return NbdClient.connect(exported.uris[0], { contexts: ["base:allocation", ...contexts] });
}

async function readAll(client: NbdClient): Promise<Buffer> {
  const bytes = Buffer.alloc(client.length);
  await client.read(bytes, 0);
  return bytes;
}

const busy = (disk: Disk): boolean[] => disk.bitmaps.list().map((bitmap) => bitmap.busy);

test("what clients write is in the bitmap, and a backup during it is the instant of its freeze", () => {
  let shadow: Buffer = Buffer.alloc(0);
  let image = "";
  return inScene(
    async (scene) => {
      const disk = await scene.disk("a", length, 1);
      image = scene.path("a.raw");
      await disk.bitmaps.add("daily", { granularity: cluster });
      const server = await serve(scene);
      const exported = await server.add({ disk, writable: true });
      await using client = await clientOf(exported);
      const random = seeded(3);
      let going = true;
      const write = async (): Promise<void> => {
        while (going) {
          const offset = Math.floor(random() * (length - 9000));
          await client.write(randomBytes(1 + Math.floor(random() * 9000)), offset);
        }
      };
      const writers = [write(), write(), write(), write()];
      for (let round = 0; round < 5; round++) {
        const target = scene.target(length);
        const sync = round === 0 ? "full" : "incremental";
        const base = round === 0 ? undefined : scene.bytes(`target${round - 1}.raw`);
        const job = await scene.runtime.backup({ disk, target, bitmap: "daily", bitmapMode: "on-success", sync });
        const frozen = shadow;
        const changed = round === 0 ? [] : [...disk.bitmaps.extents("daily")];
        expect(await ended(job)).toEqual({ status: "completed", error: null });
        const restored = Buffer.from(base ?? scene.bytes(`target${round}.raw`));
        const copied = scene.bytes(`target${round}.raw`);
        for (const extent of changed)
          restored.set(copied.subarray(extent.offset, extent.offset + extent.length), extent.offset);
        expect(firstDifference(restored, frozen), `restored point ${round}`).toBe(-1);
        writeFileSync(scene.path(`target${round}.raw`), restored);
      }
      going = false;
      await Promise.all(writers);
      await client.flush();
      const now = await readAll(client);
      const dirty = new Set(granulesOf(disk, "daily"));
      for (let granule = 0; granule * cluster < length; granule++) {
        const range = [granule * cluster, (granule + 1) * cluster] as const;
        if (!dirty.has(granule)) expect(firstDifference(now.subarray(...range), shadow.subarray(...range))).toBe(-1);
      }
    },
    { observeFreeze: () => (shadow = readFileSync(image)) },
  );
});

test("an exported bitmap is busy until the export is gone, and goes on recording", () =>
  inScene(async (scene) => {
    const disk = await scene.disk("a", length, 1);
    await disk.bitmaps.add("daily", { granularity: cluster });
    await disk.write(new Uint8Array(1), 0);
    const server = await serve(scene);
    const exported = await server.add({ disk, writable: true, bitmaps: ["daily", "daily"] });
    expect(busy(disk)).toEqual([true]);
    const refused = await refusalOf(() =>
      scene.runtime.backup({ disk, target: scene.target(length), bitmap: "daily" }),
    );
    expect(refused.code).toBe("ERR_BITMAP_BUSY");
    const again = await refusalOf(() => server.add({ disk, name: "b", writable: true, bitmaps: ["daily"] }));
    expect(again.code).toBe("ERR_BITMAP_BUSY");
    {
      await using client = await clientOf(exported, ["qemu:dirty-bitmap:daily"]);
      await client.write(new Uint8Array(1), 5 * cluster);
      const dirty: number[] = [];
      for await (const extent of client.blockStatus("qemu:dirty-bitmap:daily", 0, length)) {
        if (extent.flags === 1) dirty.push(...granulesIn(extent.offset, extent.length, cluster));
      }
      expect(dirty).toEqual([0, 5]);
      expect((await refusalOf(() => exported.remove())).code).toBe("ERR_EXPORT_IN_USE");
      expect(busy(disk)).toEqual([true]);
    }
    await scene.until(() => exported.clients === 0);
    await exported.remove();
    expect(busy(disk)).toEqual([false]);
    expect(granulesOf(disk, "daily")).toEqual(union([0, 5]));
    await scene.event("BLOCK_EXPORT_DELETED", { id: "a" });
    expect(scene.runtime.inspect().exports).toEqual([]);
  }));

test("an export that is refused has taken nothing", () =>
  inScene(async (scene) => {
    const disk = await scene.disk("a", length, 1);
    await disk.bitmaps.add("daily");
    await disk.bitmaps.add("weekly");
    const server = await serve(scene);
    const bitmaps = ["daily", "weekly"];
    const refusals: [string, object][] = [
      ["ERR_NBD_OPTION", { name: "x".repeat(4097), bitmaps }],
      ["ERR_NBD_OPTION", { name: "a\0b", bitmaps }],
      ["ERR_NBD_OPTION", { description: "x".repeat(4097), bitmaps }],
      ["ERR_BITMAP_NOT_FOUND", { bitmaps: [...bitmaps, "monthly"] }],
      ["ERR_BITMAP_STATE", { writable: false, bitmaps }],
    ];
    for (const [code, options] of refusals) {
      expect((await refusalOf(() => server.add({ disk, writable: true, ...options }))).code).toBe(code);
      expect(busy(disk), code).toEqual([false, false]);
      expect(server.exports).toEqual([]);
    }
    await server.add({ disk, writable: true });
    expect((await refusalOf(() => server.add({ disk, writable: true, bitmaps }))).code).toBe("ERR_EXPORT_EXISTS");
    expect((await refusalOf(() => server.add({ disk, name: "b", id: "a", bitmaps }))).code).toBe("ERR_EXPORT_EXISTS");
    expect(busy(disk)).toEqual([false, false]);
    expect((await refusalOf(() => server.add({ disk: "nobody" }))).code).toBe("ERR_NODE_NOT_FOUND");
    await scene.runtime.disk("a").detach({ force: true });
    expect(server.exports).toEqual([]);
  }));

test("an export that comes while its server closes is refused, or goes with it: nothing stays taken", () =>
  inScene(async (scene) => {
    const disk = await scene.disk("a", length, 1);
    await disk.bitmaps.add("daily");
    for (let round = 0; round < 6; round++) {
      const server = await scene.runtime.serveNbd({ listen: [{ path: scene.path(`${round}.sock`) }] });
      if (round % 2 === 1) await server.add({ disk, name: "other", writable: true });
      const added = refusalOf(() => server.add({ disk, writable: true, bitmaps: ["daily"] }));
      for (let turn = 0; turn < round; turn++) await Promise.resolve();
      await server.close();
      await added;
      expect(busy(disk)).toEqual([false]);
      expect(scene.runtime.inspect().exports).toEqual([]);
    }
    await disk.detach();
  }));

test("the names of an export that is being removed may be used again, and its clients are not the new one's", () =>
  inScene(async (scene) => {
    const rules = [{ kind: "read", action: { delayMs: 300 } }] as const;
    const disk = await scene.faulty("a", length, rules, 1);
    const server = await serve(scene);
    const first = await server.add({ disk, writable: true });
    const slow = await clientOf(first);
    const read = refusalOf(() => slow.read(new Uint8Array(512), 0));
    await scene.until(() => first.clients === 1);
    await new Promise((resolve) => setImmediate(resolve));
    const gone = first.remove({ force: true });
    const second = await server.add({ disk, name: "a", id: "second", writable: true });
    await using client = await clientOf(second);
    await gone;
    await read;
    expect(second.clients).toBe(1);
    expect((await refusalOf(() => second.remove())).code).toBe("ERR_EXPORT_IN_USE");
    await client.flush();
  }));

test.for(["its session's thread", "helpers"])(
  "a point in time stays what it was while a client writes the disk as hard as it can, read by %s",
  (how) =>
    inScene(async (scene) => {
      const rules = [{ kind: "any", armed: false, action: { error: "EIO" } }] as const;
      const disk = how === "helpers" ? await scene.faulty("a", length, rules, 1) : await scene.disk("a", length, 1);
      await disk.bitmaps.add("daily", { granularity: cluster });
      for (const granule of [0, 3, 9]) await disk.write(new Uint8Array(1).fill(7), granule * cluster);
      await disk.discard(10 * cluster, 4 * cluster);
      const server = await serve(scene);
      const live = await server.add({ disk, writable: true });
      await using guest = await clientOf(live);
      const frozen = scene.bytes("a.raw");
      const view = disk.view({ bitmap: "daily", all: true });
      await view.ready;
      const shown = await server.add({ view });
      expect(shown.writable).toBe(false);
      await using reader = await clientOf(shown, ["qemu:dirty-bitmap:daily"]);
      const random = seeded(5);
      let going = true;
      const write = async (): Promise<void> => {
        while (going) {
          const offset = Math.floor(random() * (length - 3 * cluster));
          const size = 1 + Math.floor(random() ** 3 * 3 * cluster);
          const kind = random();
          if (kind < 0.7) await guest.write(randomBytes(size), offset);
          else if (kind < 0.85) await guest.trim(offset, size);
          else await guest.writeZeroes(offset, size, { noHole: random() < 0.5 });
        }
      };
      const writers = [write(), write(), write(), write()];
      const buffer = Buffer.alloc(length);
      for (let round = 0; round < 60; round++) {
        const offset = Math.floor(random() * (length - 1));
        const size = 1 + Math.floor(random() ** 2 * (length - offset - 1));
        await reader.read(buffer.subarray(0, size), offset);
        expect(
          firstDifference(buffer.subarray(0, size), frozen.subarray(offset, offset + size)),
          `round ${round}`,
        ).toBe(-1);
        for await (const extent of reader.blockStatus("base:allocation", 0, length)) {
          if ((extent.flags & 2) === 0) continue;
          const zeroes = frozen.subarray(extent.offset, extent.offset + extent.length);
          expect(
            zeroes.every((byte) => byte === 0),
            `zeroes at ${extent.offset}`,
          ).toBe(true);
        }
      }
      const dirty: number[] = [];
      for await (const extent of reader.blockStatus("qemu:dirty-bitmap:daily", 0, length)) {
        if (extent.flags === 1) dirty.push(...granulesIn(extent.offset, extent.length, cluster));
      }
      expect(dirty).toEqual(union([0, 3, 9], [10, 11, 12, 13]));
      expect(firstDifference(await readAll(reader), frozen)).toBe(-1);
      going = false;
      await Promise.all(writers);
      await view.success();
      expect((await refusalOf(() => reader.read(buffer, 0))).code).not.toBe("none");
      await guest.flush();
      expect(scene.runtime.inspect().exports).toHaveLength(1);
    }),
);

test("a point in time that was given up answers EIO, and never what came after it", () =>
  inScene(async (scene) => {
    const disk = await scene.disk("a", length, 1);
    const server = await serve(scene);
    const live = await server.add({ disk, writable: true });
    const view = disk.view({ guestDelayMax: 1, spill: { memory: 4 * cluster, file: 0 } });
    await view.ready;
    const shown = await server.add({ view });
    await using guest = await clientOf(live);
    await using reader = await clientOf(shown);
    const buffer = Buffer.alloc(cluster);
    await reader.read(buffer, 20 * cluster);
    expect(firstDifference(buffer, pattern(length, 1).subarray(20 * cluster, 21 * cluster))).toBe(-1);
    await guest.write(Buffer.alloc(16 * cluster, 1), 0);
    await guest.trim(20 * cluster, 8 * cluster);
    for (const size of [1, 4096, cluster, 2 * cluster, 8 * cluster]) {
      const read = refusalOf(() => reader.read(Buffer.alloc(size), 20 * cluster));
      expect(await read, `a read of ${size}`).toMatchObject({ code: "ERR_NBD_IO" });
    }
    const status = async (): Promise<void> => {
      for await (const _ of reader.blockStatus("base:allocation", 20 * cluster, cluster));
    };
    expect((await refusalOf(status)).code).toBe("ERR_NBD_IO");
    await view.fail();
  }));

test("a forced detach cuts off clients of the disk and of its points in time; without force it names them", () =>
  inScene(async (scene) => {
    const disk = await scene.disk("a", length, 1);
    await disk.bitmaps.add("daily");
    const server = await serve(scene);
    const exported = await server.add({ disk, writable: true, bitmaps: ["daily"] });
    const view = disk.view({});
    await view.ready;
    const shown = await server.add({ view, name: "point" });
    const clients = [await clientOf(exported), await clientOf(shown)];
    const refused = await refusalOf(() => disk.detach());
    expect(refused.code).toBe("ERR_DISK_IN_USE");
    expect(refused.desc).toContain("export 'a'");
    await disk.detach({ force: true });
    expect(scene.runtime.disks).toEqual([]);
    expect(server.exports).toEqual([]);
    for (const client of clients) expect((await refusalOf(() => client.flush())).code).not.toBe("none");
    for (const client of clients) await client.close();
  }));

test("a server closes once, however often it is told; the runtime closes those that are open", async () => {
  await inScene(async (scene) => {
    const disk = await scene.disk("a", length, 1);
    const server = await serve(scene);
    await server.add({ disk, writable: true });
    await Promise.all([server.close(), server.close({ force: true }), server.close()]);
    await server.close();
    const code = (await refusalOf(() => server.add({ disk }))).code;
    expect(code).toBe("ERR_SERVER_CLOSED");
    const other = await serve(scene);
    const exported = await other.add({ disk, writable: true });
    const client = await clientOf(exported);
    await client.write(Buffer.alloc(512, 3), 0);
    await scene.runtime.close();
    expect(
      scene
        .bytes("a.raw")
        .subarray(0, 512)
        .every((byte) => byte === 3),
    ).toBe(true);
    expect((await refusalOf(() => client.flush())).code).not.toBe("none");
    await client.close();
  });
});

test("an export whose server closes while a guest holds the gate is refused, and its bitmap is free", () =>
  inScene(async (scene) => {
    const disk = await scene.faulty("a", length, [{ kind: "write", once: true, action: { hang: true } }], 1);
    await disk.bitmaps.add("daily");
    const server = await serve(scene);
    const written = disk.write(new Uint8Array(512), 0);
    await faultReached(disk.node, 0);
    const added = refusalOf(() => server.add({ disk, writable: true, bitmaps: ["daily"] }));
    await server.close();
    releaseHang(disk.node);
    await written;
    expect((await added).code).toBe("ERR_SERVER_CLOSED");
    expect(busy(disk)).toEqual([false]);
    expect(scene.runtime.inspect().exports).toEqual([]);
  }));

test("a device that hangs: the server closes in bounded time, and lets everything go when it goes on", () =>
  inScene(async (scene) => {
    const rules = [{ kind: "write", nth: 2, always: true, action: { hang: true } }] as const;
    const disk = await scene.faulty("a", length, rules, 1);
    await disk.bitmaps.add("daily");
    const server = await serve(scene);
    const exported = await server.add({ disk, writable: true, bitmaps: ["daily"] });
    const client = await clientOf(exported);
    await client.write(new Uint8Array(512), 0);
    const stuck = refusalOf(() => client.write(new Uint8Array(512), 512));
    await faultReached(disk.node, 0);
    const from = performance.now();
    await server.close({ force: true });
    expect(performance.now() - from).toBeLessThan(4000);
    expect((await stuck).code).not.toBe("none");
    expect(busy(disk)).toEqual([true]); // a thread is still in the disk
    disarmFault(disk.node, 0);
    releaseHang(disk.node);
    await scene.event("BLOCK_EXPORT_DELETED", { id: "a" });
    expect(busy(disk)).toEqual([false]);
    await client.close();
    await disk.detach();
  }));

test("a removal that waits for clients is made hard by a forced detach", () =>
  inScene(async (scene) => {
    const rules = [{ kind: "read", action: { hang: true } }] as const;
    const disk = await scene.faulty("a", length, rules, 1);
    const server = await serve(scene);
    const exported = await server.add({ disk, writable: true });
    const client = await clientOf(exported);
    const stuck = refusalOf(() => client.read(new Uint8Array(512), 0));
    await faultReached(disk.node, 0);
    const closed = server.close();
    const from = performance.now();
    const detached = disk.detach({ force: true });
    await stuck;
    expect(performance.now() - from, "cut off at once").toBeLessThan(1000);
    disarmFault(disk.node, 0);
    releaseHang(disk.node);
    await Promise.all([closed, detached]);
    await client.close();
    expect(scene.runtime.disks).toEqual([]);
  }));

/** Runs a program to its end. */
async function run(scene: Scene, body: string): Promise<string> {
  const program = `
    import { createRuntime } from "@heirloom/runtime";
    import { NbdClient } from "@heirloom/nbd";
    import { faultReached } from "@heirloom/block";
    const runtime = createRuntime();
    const rules = ${JSON.stringify([{ kind: "write", nth: 2, always: true, action: { hang: true } }])};
    const image = { driver: "file", filename: ${JSON.stringify(scene.path("a.raw"))} };
    const disk = await runtime.attach({ driver: "fault", file: image, rules }, { name: "a" });
    const server = await runtime.serveNbd({ listen: [{ path: ${JSON.stringify(scene.path("nbd.sock"))} }] });
    const exported = await server.add({ disk, writable: true });
    const client = await NbdClient.connect(exported.uris[0]);
    await client.write(new Uint8Array(512), 0);
    ${body}`;
  const cwd = fileURLToPath(new URL("..", import.meta.url));
  const args = ["--input-type=module", "-e", program];
  return (await promisify(execFile)(process.execPath, args, { cwd, timeout: 20_000 })).stdout;
}

test("a process that has closed its runtime ends by itself, also where a device hangs", { timeout: 60_000 }, () =>
  inScene(async (scene) => {
    scene.image("a.raw", length, 5);
    expect(await run(scene, `await runtime.close(); await client.close(); console.log("closed");`)).toBe("closed\n");
    const hung = `
      client.write(new Uint8Array(512), 512).catch(() => {});
      await faultReached(disk.node, 0);
      await server.close({ force: true });
      await runtime.close();
      await client.close();
      console.log("closed");`;
    expect(await run(scene, hung)).toBe("closed\n");
  }),
);

test("a process that exits without a word does not wait for threads that wait for clients", () =>
  inScene(async (scene) => {
    scene.image("a.raw", length, 5);
    expect(await run(scene, `console.log("exits"); process.exit(0);`)).toBe("exits\n");
  }));
