import { Worker } from "node:worker_threads";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { EACCES, EINVAL, EIO, setThrottle } from "@heirloom/block";
import { closedWord } from "../dist/gate-layout.js";
import { Mover } from "../dist/mover.js";
import { readView } from "../dist/reader.js";
import { contentOf, difference, jobOf, KiB, Lab, MiB, memoryNode, nodeWith, pattern } from "./lab.fixture.ts";

const timedOut = 110;

describe("a guest's request", () => {
  it("marks every recording bitmap before it writes, at each granularity, and nothing that it does not touch", async () => {
    await using lab = new Lab();
    const { layer, guest, node } = await lab.memory(8 * MiB + 100);
    const bitmaps = [await lab.record(layer, 512), await lab.record(layer, 65536), await lab.record(layer, 2 ** 31)];
    expect(guest.write(pattern(3 * MiB + 7, 1), 65536 - 1)).toBe(0); // four pieces
    expect(guest.discard(5 * MiB, 4096)).toBe(0);
    expect(guest.writeZeroes(8 * MiB + 99, 1, false)).toBe(0);
    const fine = [
      { offset: 65024, length: 3 * MiB + 1024 },
      { offset: 5 * MiB, length: 4096 },
      { offset: 8 * MiB, length: 100 },
    ];
    expect([...bitmaps[0].bitmap.extents()]).toEqual(fine);
    expect([...bitmaps[1].bitmap.extents()]).toEqual([
      { offset: 0, length: 50 * 65536 }, // 65535 + 3 MiB + 7 bytes: 49 whole granules and a part
      { offset: 5 * MiB, length: 65536 },
      { offset: 8 * MiB, length: 100 },
    ]);
    expect([...bitmaps[2].bitmap.extents()]).toEqual([{ offset: 0, length: 8 * MiB + 100 }]);
    expect(difference(contentOf(node, 65535, 3 * MiB + 7), pattern(3 * MiB + 7, 1))).toBe(-1);
  });

  it("that fails on the device still marks; one that is refused before it does not", async () => {
    await using lab = new Lab();
    const rules = [{ kind: "write", action: { error: "EIO" } }];
    const { layer, guest } = await lab.disk({ driver: "fault", file: { driver: "memory", size: MiB }, rules });
    const { bitmap } = await lab.record(layer, 4096);
    expect(guest.write(new Uint8Array(10), MiB - 5)).toBe(EINVAL);
    expect(guest.write(new Uint8Array(0), 5)).toBe(0);
    expect(guest.write(new Uint8Array(10), -1)).not.toBe(0);
    expect(guest.write(new Uint8Array(10), 2 ** 53)).not.toBe(0);
    expect(bitmap.isEmpty()).toBe(true);
    expect(guest.write(new Uint8Array(10), 5)).toBe(EIO);
    expect([...bitmap.extents()]).toEqual([{ offset: 0, length: 4096 }]);
  });

  it("goes in pieces of 1 MiB, so that a transition comes in between", async () => {
    await using lab = new Lab();
    const { layer, guest } = await lab.memory(8 * MiB);
    expect(guest.write(pattern(5 * MiB, 1), 100)).toBe(0);
    expect(guest.discard(0, 3 * MiB)).toBe(0);
    expect(lab.engine.traffic(layer).requests).toBe(5 + 3); // five pieces and three
  });

  it("that counts on a table counts only what is inside the length that the table says", async () => {
    await using lab = new Lab();
    const { layer, guest, node } = await lab.memory(MiB);
    await lab.change(layer, { length: MiB / 2 });
    expect(guest.write(new Uint8Array(4096), MiB / 2 - 4096)).toBe(0);
    expect(guest.write(new Uint8Array(4096), MiB / 2)).toBe(EINVAL);
    expect(guest.writeZeroes(MiB / 2 - 1, 2, true)).toBe(EINVAL);
    // Grown on the device, and not in the table yet: nobody would track a write there.
    await lab.change(layer, { length: MiB });
    expect(node.resize(2 * MiB)).toBe(0);
    expect(guest.write(new Uint8Array(1), MiB)).toBe(EINVAL);
    await lab.change(layer, { length: 2 * MiB });
    expect(guest.write(new Uint8Array(1), MiB)).toBe(0);
  });

  it("is refused once this thread has closed the disk, reads included", async () => {
    await using lab = new Lab();
    const { guest } = await lab.memory(MiB);
    guest.close();
    expect(guest.read(new Uint8Array(1), 0)).not.toBe(0);
    expect(guest.write(new Uint8Array(1), 0)).not.toBe(0);
    expect(guest.discard(0, 1)).not.toBe(0);
    expect(guest.writeZeroes(0, 1, true)).not.toBe(0);
    expect(guest.flush()).not.toBe(0);
  });

  it("waits for its throttle outside of the gate: a transition goes through meanwhile", async () => {
    await using lab = new Lab();
    const { layer, handle } = await lab.disk({
      driver: "throttle",
      file: { driver: "memory", size: MiB },
      bytesPerSecond: 16384,
      burstBytes: 4096,
    });
    const source = `
      import { workerData, parentPort } from "node:worker_threads";
      const { DiskIo } = await import(workerData.io);
      const { ThreadContext } = await import(workerData.context);
      const disk = new DiskIo(workerData.disk, ThreadContext.of(workerData.engine), workerData.participant);
      parentPort.postMessage("ready");
      parentPort.once("message", () => { for (let count = 0; count < 6; count++) disk.write(new Uint8Array(4096), 0); parentPort.postMessage("written"); });
    `;
    const seat = lab.engine.registry.reserve();
    const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(source)}`), {
      workerData: {
        io: new URL("../dist/disk-io.js", import.meta.url).href,
        context: new URL("../dist/thread-context.js", import.meta.url).href,
        disk: layer.stack.address(layer),
        engine: lab.engine.address(),
        participant: seat?.participant,
      },
    });
    const told: string[] = [];
    const next = (): Promise<void> =>
      new Promise((resolve) => worker.once("message", (word: string) => (told.push(word), resolve())));
    await next();
    const written = next();
    worker.postMessage("go");
    // What the burst lets through is written at once; then each write waits 250 ms, and freezes go through all the while.
    const begun = performance.now();
    while (lab.engine.traffic(layer).requests < 1) await new Promise((resolve) => setTimeout(resolve, 1));
    for (let count = 0; count < 5; count++) expect((await lab.change(layer, {})).tries).toBeLessThanOrEqual(2);
    expect(told).toEqual(["ready"]);
    expect(performance.now() - begun).toBeLessThan(240);
    setThrottle(handle, { bytesPerSecond: 0 });
    await written;
    await worker.terminate();
  });
});

describe("a guest that finds the spill full", () => {
  it("breaks the view after guestDelayMax, over all its pieces and views together, and writes", async () => {
    await using lab = new Lab();
    const { layer, guest, node } = await lab.memory(8 * MiB);
    node.write(pattern(8 * MiB, 1), 0);
    const a = await lab.view(layer, { spillMemory: 4096, guestDelayMaxMs: 300 });
    const b = await lab.view(layer, { spillMemory: 2 * MiB + 4096, guestDelayMaxMs: 300 }); // full at the third piece
    const data = pattern(4 * MiB, 2);
    const begun = performance.now();
    expect(guest.write(data, 0)).toBe(0);
    const took = performance.now() - begun;
    expect([a.broken?.reason, b.broken?.reason]).toEqual(["spill-full", "spill-full"]);
    expect(took).toBeGreaterThan(290);
    expect(took).toBeLessThan(590);
    expect(difference(contentOf(node, 0, 4 * MiB), pattern(4 * MiB, 2))).toBe(-1);
  });

  it("fails instead, with the view standing and nothing written, where that was asked for", async () => {
    await using lab = new Lab();
    const { layer, guest, node } = await lab.memory(MiB);
    const old = pattern(MiB, 1);
    node.write(old, 0);
    const { bitmap } = await lab.record(layer, 4096);
    const view = await lab.view(layer, { spillMemory: 2 * 4096, guestDelayMaxMs: 5, breakGuestWrite: true });
    expect(guest.write(new Uint8Array(5 * 4096), 0)).toBe(timedOut);
    expect(view.broken).toBe(undefined);
    expect(difference(contentOf(node), old)).toBe(-1);
    expect(bitmap.isEmpty()).toBe(true);
    expect(Atomics.load(layer.stack.words, closedWord)).toBe(0);
    expect(guest.write(new Uint8Array(4096), 0)).toBe(0); // what was preserved may be written
    await lab.end(view);
    expect(guest.write(new Uint8Array(5 * 4096), 0)).toBe(0);
  });
});

describe("a window of a disk", () => {
  it("is marked by, and marks, the disk under it; at any base and length (property)", async () => {
    await using lab = new Lab();
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 0, max: 200_000 }),
        fc.integer({ min: 1, max: 200_000 }),
        fc.array(
          fc.tuple(
            fc.boolean(),
            fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }),
            fc.integer({ min: 1, max: 30_000 }),
          ),
          { minLength: 1, maxLength: 8 },
        ),
        async (base, size, writes) => {
          const length = 401_111;
          const under = await lab.memory(length);
          const window = await lab.disk(
            { driver: "raw", offset: base, size, file: { driver: "attached", node: under.handle } },
            { layer: under.layer, offset: base },
          );
          const below = (await lab.record(under.layer, 512)).bitmap;
          const above = (await lab.record(window.layer, 512)).bitmap;
          const touched = new Set<number>();
          for (const [inWindow, place, count] of writes) {
            const room = inWindow ? size : length;
            const offset = Math.floor(place * room);
            const bytes = Math.min(count, room - offset);
            expect((inWindow ? window : under).guest.write(pattern(bytes, 1), offset)).toBe(0);
            const at = inWindow ? offset + base : offset;
            for (let byte = at; byte < at + bytes; byte++) touched.add(byte);
          }
          const expected = (from: number, to: number): Set<number> =>
            new Set(
              [...touched].filter((byte) => byte >= from && byte < to).map((byte) => Math.floor((byte - from) / 512)),
            );
          const marked = (bitmap: typeof below): Set<number> => {
            const granules = new Set<number>();
            for (const { offset, length: dirty } of bitmap.extents())
              for (let at = offset; at < offset + dirty; at += 512) granules.add(at / 512);
            return granules;
          };
          expect(marked(below)).toEqual(expected(0, length));
          expect(marked(above)).toEqual(expected(base, base + size));
        },
      ),
      { numRuns: 20 },
    );
  });

  it("keeps its point in time against writes of the disk under it, and the other way round", async () => {
    await using lab = new Lab();
    for (const base of [0, 512, 4096, 12_345]) {
      const length = 600_001;
      const size = 300_003;
      const old = pattern(length, base);
      const under = await lab.memory(length);
      under.node.write(old, 0);
      const window = await lab.disk(
        { driver: "raw", offset: base, size, file: { driver: "attached", node: under.handle } },
        { layer: under.layer, offset: base },
      );
      const views = [await lab.view(under.layer, { readers: true }), await lab.view(window.layer, { readers: true })];
      expect(window.guest.write(pattern(50_000, 77), 1000)).toBe(0);
      expect(under.guest.write(pattern(50_000, 78), base + size - 7000)).toBe(0); // over the window's end
      expect(under.guest.discard(Math.max(0, base - 3000), 5000)).toBe(0); // over its beginning
      const [whole, part] = [new Uint8Array(length), new Uint8Array(size)];
      expect(readView(views[0].memory.view, under.node, 0, undefined, whole, 0)).toBe(0);
      expect(readView(views[1].memory.view, window.node, 0, undefined, part, 0)).toBe(0);
      expect(difference(whole, old)).toBe(-1);
      expect(difference(part, old.subarray(base, base + size))).toBe(-1);
    }
  });
});

describe("reading a point in time", () => {
  it("is exact at any offset and length, whatever guests do meanwhile (property)", async () => {
    await using lab = new Lab();
    const range = fc.tuple(
      fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }),
      fc.integer({ min: 1, max: 400_000 }),
    );
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 900_000 }),
        fc.array(
          fc.record({ verb: fc.constantFrom("write", "discard", "writeZeroes", "read"), range, seed: fc.nat(1000) }),
          { maxLength: 20 },
        ),
        async (length, steps) => {
          const old = pattern(length, 1);
          const { layer, node, guest } = await lab.memory(length);
          node.write(old, 0);
          const view = await lab.view(layer, { readers: true });
          for (const {
            verb,
            range: [place, count],
            seed,
          } of steps) {
            const offset = Math.floor(place * length);
            const bytes = Math.min(count, length - offset);
            if (verb === "write") expect(guest.write(pattern(bytes, seed), offset)).toBe(0);
            else if (verb === "discard") expect(guest.discard(offset, bytes)).toBe(0);
            else if (verb === "writeZeroes") expect(guest.writeZeroes(offset, bytes, seed % 2 === 0)).toBe(0);
            else {
              const buffer = new Uint8Array(bytes);
              expect(readView(view.memory.view, node, 0, undefined, buffer, offset)).toBe(0);
              expect(difference(buffer, old.subarray(offset, offset + bytes))).toBe(-1);
            }
          }
          await lab.end(view);
        },
      ),
      { numRuns: 25 },
    );
    lab.expectFreeIsZero();
  });

  it("does not take what a guest wrote while it read the device", async () => {
    await using lab = new Lab();
    const { layer, node, guest } = await lab.memory(MiB);
    const old = pattern(MiB, 1);
    node.write(old, 0);
    const { view } = (await lab.view(layer, { readers: true })).memory;
    let writes = 0;
    const raced = nodeWith(node, {
      read: (buffer, offset) => {
        if (writes < 20) expect(guest.write(pattern(5000, ++writes), offset + writes * 1000)).toBe(0);
        return node.read(buffer, offset);
      },
    });
    const buffer = new Uint8Array(500_000);
    expect(readView(view, raced, 0, undefined, buffer, 777)).toBe(0);
    expect(writes).toBeGreaterThan(2);
    expect(difference(buffer, old.subarray(777, 500_777))).toBe(-1);
  });

  it("is refused outside of the view and of its set, where it was retired, and when the view is over", async () => {
    await using lab = new Lab();
    const { layer, node } = await lab.memory(MiB);
    const set = lab.engine.recorder(MiB, 65536);
    set.bitmap.set(2 * 65536, 2 * 65536);
    const { view } = (await lab.view(layer, { readers: true }, set)).memory;
    const read = (offset: number, length: number): number =>
      readView(view, node, 0, undefined, new Uint8Array(length), offset);
    expect(read(2 * 65536, 2 * 65536)).toBe(0);
    expect(read(2 * 65536 - 1, 1)).toBe(EACCES);
    expect(read(3 * 65536, 65537)).toBe(EACCES);
    expect(read(-1, 1)).toBe(EINVAL);
    expect(read(MiB - 1, 2)).toBe(EINVAL);
    Atomics.or(view.retired, 1, 0b10000); // cluster 36
    expect(read(36 * 4096, 100)).toBe(EACCES);
    expect(read(35 * 4096, 8192)).toBe(EACCES);
    view.break(1);
    expect(read(2 * 65536, 1)).toBe(EIO);
  });
});

describe("disks of all lengths", () => {
  it("are copied exactly: no multiple of 512 or 4096, and job clusters of 2 MiB (property)", async () => {
    await using lab = new Lab();
    await fc.assert(
      fc.asyncProperty(
        fc.oneof(
          fc.integer({ min: 1, max: 3 * MiB }),
          fc.constantFrom(1, 511, 513, 4095, 4097, 65537, 2 * MiB, 2 * MiB + 1),
        ),
        fc.constantFrom(4096, 65536, 2 * MiB),
        fc.constantFrom(0, 512, 65536, 4 * MiB),
        async (length, clusterSize, granularity) => {
          const old = pattern(length, 3);
          const { layer, node, guest } = await lab.memory(length);
          node.write(old, 0);
          const set = granularity === 0 ? undefined : lab.engine.recorder(length, granularity);
          set?.bitmap.set(Math.floor(length / 2), 1);
          const view = await lab.view(layer, { clusterSize, spillMemory: 4 * MiB }, set);
          guest.write(pattern(Math.min(length, 10_000), 9), Math.max(0, Math.floor(length / 2) - 5000));
          const target = await memoryNode(length);
          expect(new Mover(jobOf(view.memory.view, node, target), true, undefined).run()).toBe("copied");
          const unit = Math.max(clusterSize, granularity);
          const from = set === undefined ? 0 : Math.floor(Math.floor(length / 2) / unit) * unit;
          const to = set === undefined ? length : Math.min(length, from + unit);
          const expected = new Uint8Array(length);
          expected.set(old.subarray(from, to), from);
          expect(difference(contentOf(target), expected)).toBe(-1);
          await lab.end(view);
          set?.drop();
        },
      ),
      { numRuns: 25 },
    );
    lab.expectFreeIsZero();
  });

  it("up to 16 TiB have a view that costs by what is used, and are written past 2^43", async () => {
    await using lab = new Lab();
    const size = 2 ** 44;
    const { layer, guest } = await lab.disk({ driver: "null-co", size });
    const { bitmap } = await lab.record(layer, 65536);
    const before = process.memoryUsage.rss();
    const view = await lab.view(layer, { readers: true });
    for (const offset of [0, 2 ** 31, 2 ** 32 - 1, 2 ** 43 + 4095, size - 4096])
      expect(guest.write(new Uint8Array(4096), offset)).toBe(0);
    expect(process.memoryUsage.rss() - before).toBeLessThan(64 * MiB);
    for (const offset of [2 ** 32 - 1, 2 ** 43 + 4095]) {
      expect(view.memory.view.isPreserved(Math.floor(offset / view.memory.clusterSize))).toBe(true);
      expect(bitmap.test(offset)).toBe(true);
    }
    expect(view.memory.view.isPreserved(Math.floor(2 ** 40 / view.memory.clusterSize))).toBe(false);
    expect(view.memory.clusterSize).toBeLessThanOrEqual(256 * KiB);
    await lab.end(view);
    lab.expectFreeIsZero();
    expect(process.memoryUsage.rss() - before).toBeLessThan(96 * MiB);
  });
});
