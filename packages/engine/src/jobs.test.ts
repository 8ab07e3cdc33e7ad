import { readdirSync, readlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { closeNode, connectNode, faultReached, type NodeSpec, openNode, releaseHang } from "@heirloom/block";
import { type EngineView, operationWrite } from "@heirloom/engine";
import { contentOf, difference, Lab, MiB, pattern } from "./lab.fixture.ts";
import { startThread } from "./threads.fixture.ts";

const moverOptions = {
  targetIsZero: false,
  threads: 2,
  runBytesMax: 256 * 1024,
  detectZeroes: false,
  discardSource: false,
  copies: true,
  scan: undefined,
  yieldMs: 0,
  onSourceError: "report",
  onTargetError: "report",
  speed: 0,
} as const;

/** Files that are open and have a name below `directory`. */
function openFiles(directory: string): string[] {
  return readdirSync("/proc/self/fd").flatMap((fd) => {
    try {
      const name = readlinkSync(`/proc/self/fd/${fd}`);
      return name.startsWith(directory) ? [name] : [];
    } catch {
      return [];
    }
  });
}

describe("jobs", () => {
  it("of every kind leave nothing behind: memory zero and of one size, no descriptor, no participant", async () => {
    await using lab = new Lab();
    const length = MiB + 5000;
    const image = join(lab.directory, "disk.img");
    writeFileSync(image, pattern(length, 1));
    const { layer, guest, handle } = await lab.disk({ driver: "file", filename: image });
    const copies: NodeSpec = {
      driver: "file",
      filename: join(lab.directory, "copy.img"),
      create: { length, overwrite: true },
    };
    const failing: NodeSpec = {
      driver: "fault",
      file: { driver: "memory", size: length },
      rules: [{ kind: "write", nth: 2, action: { error: "EIO" } }],
    };
    const kinds = ["success", "failure", "stopped", "broken", "set", "scan", "none"] as const;
    let settled = 0;
    let participants = 0;
    const rounds = 29;
    for (let round = 0; round < rounds; round++) {
      for (const [at, kind] of kinds.entries()) {
        const set = kind === "set" ? lab.engine.recorder(length, 4096) : undefined;
        set?.bitmap.set(300_000, 70_000);
        const view: EngineView = await lab.view(
          layer,
          { spillMemory: kind === "broken" ? 4096 : MiB, guestDelayMaxMs: 1 },
          set,
        );
        const { handle: target } = await lab.engine.openNode(kind === "failure" ? failing : copies);
        const ended = view.startMovers(
          {
            ...moverOptions,
            target: { node: target },
            copies: kind !== "none",
            speed: kind === "stopped" || kind === "broken" ? 1 : 0,
            scan: kind === "scan" ? "allocated" : undefined,
            runBytesMax: kind === "failure" ? 65536 : moverOptions.runBytesMax,
          },
          () => {},
        );
        expect(guest.write(pattern(100_000, round + at), 400_000 + at)).toBe(0);
        if (kind === "stopped" || kind === "none" || kind === "broken")
          await lab.change(layer, { views: [] }, () => view.stop());
        view.wake();
        expect(await ended).toBe(
          kind === "failure"
            ? "failed"
            : kind === "stopped" || kind === "none" || kind === "broken"
              ? "over"
              : "copied",
        );
        await lab.end(view);
        set?.drop();
        await lab.engine.closeNode(target);
      }
      if (round === 2) {
        settled = lab.engine.arenas.bytesInUse;
        participants = lab.engine.registry.participantMax;
      }
    }
    expect(lab.engine.arenas.bytesInUse).toBe(settled);
    expect(lab.engine.registry.participantMax).toBe(participants);
    expect(openFiles(lab.directory)).toEqual([image]);
    expect(lab.engine.pool.longTasks).toBe(0);
    lab.expectFreeIsZero();
    await lab.engine.removeLayer(layer);
    closeNode(handle);
    expect(openFiles(lab.directory)).toEqual([]);
    lab.expectFreeIsZero();
  });

  it("copy one instant while guests on two threads write as fast as they can", async () => {
    await using lab = new Lab();
    const length = 4 * MiB;
    const { layer, node } = await lab.memory(length);
    node.write(pattern(length, 1), 0);
    const stop = new Int32Array(new SharedArrayBuffer(4));
    const guests = [1, 2].map((seed) => {
      const thread = startThread(
        `
        const { openDisk } = await load("index.js");
        parentPort.postMessage("ready");
        const disk = openDisk(await receive());
        let state = workerData.seed, count = 0;
        const random = (below) => { state = (Math.imul(state, 1664525) + 1013904223) >>> 0; return Math.floor(state / 2 ** 32 * below); };
        while (Atomics.load(workerData.stop, 0) === 0) {
          const bytes = 1 + random(random(10) === 0 ? 200000 : 9000), offset = random(${length} - bytes);
          if (random(8) === 0) disk.discard(offset, bytes); else disk.write(new Uint8Array(bytes).fill(1 + random(255)), offset);
          count++;
        }
        disk.close();
        parentPort.postMessage(count);
      `,
        { stop, seed },
      );
      lab.engine.register(thread.worker);
      return thread;
    });
    for (const guest of guests) {
      expect(await guest.next()).toBe("ready");
      guest.send(lab.engine.handle(layer));
    }
    for (let round = 0; round < 12; round++) {
      const set = round % 3 === 2 ? await lab.record(layer, 4096) : undefined;
      const shadow = new Uint8Array(length);
      const view = lab.engine.view(
        layer,
        {
          length,
          clusterSize: 65536,
          alignment: 1,
          guestDelayMaxMs: 2000,
          breakGuestWrite: false,
          spillMemory: round % 2 === 0 ? 8 * MiB : 256 * 1024,
          spillFile: 0,
        },
        undefined,
        { directory: undefined, allowTmpfs: false, floor: 0 },
        () => {},
      );
      await lab.engine.transitions.run({
        name: "freeze",
        stacks: [layer.stack],
        prepare: () => ({
          tables: new Map([[layer, { ...layer.table, views: [view.memory] }]]),
          observe: () => node.read(shadow, 0),
        }),
      });
      const target = await openNode({ driver: "memory", size: length });
      expect(await view.startMovers({ ...moverOptions, target: { node: target } }, () => {})).toBe("copied");
      expect(difference(contentOf(connectNode(target)), shadow)).toBe(-1);
      await lab.end(view);
      if (set !== undefined) {
        await lab.change(layer, { recorders: [] });
        set.drop();
      }
    }
    Atomics.store(stop, 0, 1);
    for (const guest of guests) expect(await guest.next()).toBeGreaterThan(10);
    lab.expectFreeIsZero();
    await Promise.all(guests.map(({ worker }) => worker.terminate()));
  });

  it("whose target hangs keep their memory until the thread lets go, and nobody else's", async () => {
    await using lab = new Lab();
    const { layer, node, guest } = await lab.memory(MiB);
    node.write(pattern(MiB, 1), 0);
    const hung = await openNode({
      driver: "fault",
      file: { driver: "memory", size: MiB },
      rules: [{ kind: "write", always: true, action: { hang: true } }],
    });
    const view = await lab.view(layer);
    const ended = view.startMovers({ ...moverOptions, target: { node: hung } }, () => {});
    await faultReached(hung, 0);
    await lab.change(layer, { views: [] }, () => view.stop());
    view.wake();
    let released = false;
    const releasing = view.release().then(() => (released = true));
    const used = lab.engine.arenas.bytesInUse;
    const next = await lab.view(layer);
    const target = await openNode({ driver: "memory", size: MiB });
    expect(next.memory.region).not.toBe(view.memory.region);
    expect(guest.write(new Uint8Array(4096), 0)).toBe(0);
    expect(await next.startMovers({ ...moverOptions, target: { node: target } }, () => {})).toBe("copied");
    expect(difference(contentOf(connectNode(target)), pattern(MiB, 1))).toBe(-1);
    await lab.end(next);
    expect(released).toBe(false);
    expect(lab.engine.arenas.bytesInUse).toBe(used);
    releaseHang(hung);
    expect(await ended).toBe("over");
    await releasing;
    expect(lab.engine.arenas.bytesInUse).toBeLessThan(used);
    lab.expectFreeIsZero();
  });

  it("on a disk that is another's target write it as its guests: its own point in time holds, and its bitmap marks", async () => {
    await using lab = new Lab();
    const source = await lab.memory(MiB);
    source.node.write(pattern(MiB, 1), 0);
    const middle = await lab.memory(MiB);
    middle.node.write(pattern(MiB, 2), 0);
    const { bitmap } = await lab.record(middle.layer, 65536);
    const upper = await lab.view(middle.layer);
    const lower = await lab.view(source.layer);
    const target = await openNode({ driver: "memory", size: MiB });
    const copying = upper.startMovers(
      { ...moverOptions, threads: 1, speed: 300_000, runBytesMax: 65536, target: { node: target } },
      () => {},
    );
    expect(
      await lower.startMovers(
        { ...moverOptions, target: { disk: middle.layer.stack.address(middle.layer) } },
        () => {},
      ),
    ).toBe("copied");
    upper.setSpeed(0);
    expect(await copying).toBe("copied");
    expect(difference(contentOf(connectNode(target)), pattern(MiB, 2))).toBe(-1);
    expect(difference(contentOf(middle.node), pattern(MiB, 1))).toBe(-1);
    expect(bitmap.count()).toBe(MiB);
    await lab.end(upper);
    await lab.end(lower);
    lab.expectFreeIsZero();
  });
});

describe("engines", () => {
  it("in one process know nothing of each other, threads that serve both included", async () => {
    await using one = new Lab();
    await using other = new Lab();
    const [first, second] = [await one.memory(MiB), await other.memory(MiB)];
    const [a, b] = [await one.record(first.layer, 4096), await other.record(second.layer, 65536)];
    const thread = startThread(`
      const { openDisk } = await load("index.js");
      parentPort.postMessage("ready");
      const [a, b] = (await receive()).map(openDisk);
      a.write(new Uint8Array([1]), 5000); b.write(new Uint8Array([2]), 200000);
      a.close(); b.close();
      parentPort.postMessage("written");
    `);
    one.engine.register(thread.worker);
    other.engine.register(thread.worker);
    expect(await thread.next()).toBe("ready");
    thread.send([one.engine.handle(first.layer), other.engine.handle(second.layer)]);
    expect(await thread.next()).toBe("written");
    expect([...a.bitmap.extents()]).toEqual([{ offset: 4096, length: 4096 }]);
    expect([...b.bitmap.extents()]).toEqual([{ offset: 3 * 65536, length: 65536 }]);
    await thread.worker.terminate();
  });

  it("hold a thousand disks in little memory, and give all of it back", async () => {
    await using lab = new Lab();
    const before = process.memoryUsage.rss();
    const disks = [];
    for (let count = 0; count < 1000; count++) {
      const handle = await openNode({ driver: "null-co", size: 2 ** 40 });
      disks.push(lab.engine.addLayer({ handle, length: 2 ** 40 }));
    }
    expect(process.memoryUsage.rss() - before).toBeLessThan(64 * MiB);
    const io = lab.engine.io(disks[999]);
    expect(await io.request(operationWrite, disks[999].id, 2 ** 39, 1, new Uint8Array(1))).toBe(0);
    const outcome = await lab.engine.transitions.run({
      name: "group",
      stacks: disks.map(({ stack }) => stack),
      prepare: () => ({ tables: new Map() }),
    });
    expect(outcome.closedMs).toBeLessThan(200);
    for (const disk of disks) await lab.engine.removeLayer(disk);
    expect(lab.engine.arenas.bytesInUse).toBe(0);
    lab.expectFreeIsZero();
  });
});
