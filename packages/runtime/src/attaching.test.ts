/** Disks that come and go at the same time, and drivers that others wrote: what one of them does is its own matter. */
import { on } from "node:events";
import { writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { Worker } from "node:worker_threads";
import type { NodeSpec } from "@heirloom/block";
import { expect, test } from "vitest";
import { inScene, MiB, refusalOf, type Scene } from "./scene.fixture.ts";

/** A disk of 1 MiB in memory whose driver does as `members` say; `faults` counts in its handle from when a test says so. */
function module(scene: Scene, members: { verbs?: string; connect?: string; close?: string }): NodeSpec {
  const path = scene.path("driver.mjs");
  const { verbs = "", connect = "", close = "" } = members;
  writeFileSync(
    path,
    `
    export const driver = {
      open: () => ({
        driver: import.meta.url, readOnly: false, alignment: 1, clusterSize: 0, identity: "module",
        state: { data: new SharedArrayBuffer(${MiB}), words: new SharedArrayBuffer(4) }, children: [],
      }),
      connect({ state }) {
        const data = new Uint8Array(state.data);
        const faulty = () => new Int32Array(state.words)[0] !== 0;
        ${connect}
        return {
          direct: undefined,
          length: () => data.length,
          read(buffer, offset) { buffer.set(data.subarray(offset, offset + buffer.length)); return 0; },
          write(buffer, offset) { data.set(buffer, offset); return 0; },
          discard: () => 0,
          writeZeroes(offset, length) { data.fill(0, offset, offset + length); return 0; },
          flush: () => 0,
          status(offset, length, extent) { Object.assign(extent, { length, zero: false, allocated: true }); return 0; },
          resize: () => 95,
          admit: () => 0,
          ${verbs}
        };
      },
      close() { ${close} },
    };`,
  );
  return { driver: pathToFileURL(path).href };
}
const oneServer = { engine: { ioThreadsMax: 1 } };

test("of several disks of one name at once one is attached; the others are refused, and their images free", () =>
  inScene(async (scene) => {
    const names = ["one", "two", "three"];
    const specs = names.map((name) => scene.image(`${name}.raw`, MiB, 1));
    const ends = await Promise.allSettled(specs.map((spec) => scene.runtime.attach(spec, { name: "same" })));
    const refused = ends.filter((end) => end.status === "rejected");
    expect(refused.map(({ reason }) => (reason as { code: string }).code)).toEqual([
      "ERR_NODE_EXISTS",
      "ERR_NODE_EXISTS",
    ]);
    expect(scene.runtime.disks.map(({ name }) => name)).toEqual(["same"]);
    const attached = ends.findIndex((end) => end.status === "fulfilled");
    for (const [index, spec] of specs.entries()) if (index !== attached) await scene.runtime.attach(spec);
  }));

test("a name whose disk could not be opened is free", () =>
  inScene(async (scene) => {
    const missing = { driver: "file", filename: scene.path("missing.raw") };
    expect(await refusalOf(() => scene.runtime.attach(missing, { name: "a" }))).toMatchObject({
      code: "ERR_NODE_OPEN",
    });
    await scene.disk("a", MiB);
  }));

test.each(["read", "write", "flush"])(
  "a driver module whose %s throws fails that request, and breaks nobody's point in time",
  (verb) =>
    inScene(async (scene) => {
      const disk = await scene.disk("a", MiB, 1);
      const view = disk.view();
      await view.ready;
      const other = await scene.runtime.attach(module(scene, { verbs: `${verb}() { throw new Error("oops"); }` }));
      const request = {
        read: () => other.read(new Uint8Array(1), 0),
        write: () => other.write(new Uint8Array(1), 0),
        flush: () => other.flush(),
      };
      expect(await refusalOf(request[verb as "read"])).toMatchObject({ code: "ERR_IO" });
      await disk.write(new Uint8Array(512), 0);
      const read = new Uint8Array(MiB);
      await view.read(read, 0);
      await view.success();
    }, oneServer),
);

test("a driver module that cannot be connected on a thread answers EIO there, and the thread's other disks go on", () =>
  inScene(async (scene) => {
    const disk = await scene.disk("a", MiB, 1);
    const spec = module(scene, { connect: `if (faulty()) throw new Error("oops");` });
    const other = await scene.runtime.attach(spec);
    const { words } = other.node.state as { words: SharedArrayBuffer };
    new Int32Array(words)[0] = 1;
    for (let count = 0; count < 2; count++) {
      expect(await refusalOf(() => other.write(new Uint8Array(1), 0))).toMatchObject({ code: "ERR_IO" });
      await disk.write(new Uint8Array(512), 0);
    }
  }, oneServer));

test("a driver module whose close throws says so, and its disk is gone", () =>
  inScene(async (scene) => {
    const disk = await scene.runtime.attach(module(scene, { close: `throw new Error("oops");` }), { name: "a" });
    await disk.bitmaps.add("b");
    expect(await refusalOf(() => disk.detach())).toMatchObject({ message: "oops" });
    expect(scene.runtime.disks).toEqual([]);
    await scene.disk("a", MiB);
    const { memory } = scene.runtime.inspect();
    await scene.runtime.disk("a").detach();
    expect(scene.runtime.inspect().memory.shared).toBeLessThan(memory.shared);
  }));

test("a driver module that says of no range how long it is cannot hold a backup up", () =>
  inScene(async (scene) => {
    const disk = await scene.disk("a", MiB, 1);
    const target = module(scene, {
      verbs: `status(o, l, extent) { Object.assign(extent, { length: 0, zero: true }); return 0; }`,
    });
    const extents: unknown[] = [];
    const job = await scene.runtime.backup({
      disk,
      target,
      onCopied: async (copied) => void extents.push(...(await copied.extents())),
    });
    expect(await job.done).toMatchObject({ status: "completed" });
    expect(extents).toEqual([{ offset: 0, length: MiB, zero: false }]);
  }));

test("a thread of the embedder's opens a disk over a driver module once it has loaded it; before that its handle is not used up", () =>
  inScene(async (scene) => {
    const disk = await scene.runtime.attach(module(scene, {}), { name: "a" });
    const program = `
      const { parentPort: port, workerData } = require("node:worker_threads");
      port.once("message", async (handle) => {
        const { loadDisk, openDisk } = await import(workerData);
        try { openDisk(handle); } catch (error) { port.postMessage([error.code, error.message]); }
        await loadDisk(handle);
        const disk = openDisk(handle);
        disk.write(new Uint8Array(512).fill(7), 1024);
        disk.close();
        port.postMessage("written");
        port.close();
      });`;
    const worker = new Worker(program, { eval: true, workerData: import.meta.resolve("@heirloom/runtime") });
    scene.runtime.register(worker);
    const messages = on(worker, "message");
    worker.postMessage(disk.handle());
    const next = async (): Promise<unknown> => ((await messages.next()).value as unknown[])[0];
    expect(await next()).toEqual([
      "ERR_THREAD",
      expect.stringMatching(
        /^open disk: its driver 'file:.*' is not loaded on this thread; await loadDisk\(handle\) before$/,
      ),
    ]);
    expect(await next()).toBe("written");
    const read = new Uint8Array(512);
    await disk.read(read, 1024);
    expect(read.every((byte) => byte === 7)).toBe(true);
    await disk.detach();
  }));
