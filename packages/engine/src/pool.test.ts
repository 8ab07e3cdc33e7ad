import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { BlockError, connectNode, EIO, faultReached, openNode, releaseHang } from "@heirloom/block";
import { EngineError, NoThread, operationFlush, operationWrite } from "@heirloom/engine";
import { statusTask, flushTask, resizeTask } from "../dist/helper-tasks.js";
import { asResult, unwrap } from "../dist/task-result.js";
import { Lab, MiB, pattern } from "./lab.fixture.ts";

let directory: string;
let badDriver: string;

/** A driver module with a bug of each kind. */
const badDriverText = `
import { threadId } from "node:worker_threads";
export const driver = {
  options: { size: { type: "integer", required: true, doc: "bytes" }, bug: { type: "string", required: true, doc: "which" } },
  open({ size, bug }) {
    if (bug === "a timer throws") setImmediate(() => { throw new Error("from a timer"); });
    const state = bug === "cannot be cloned" ? { size, bug, f() {} } : { size, bug, opener: threadId };
    return { driver: import.meta.url, readOnly: false, alignment: 1, clusterSize: 0, identity: "bad:" + Math.random(), state, children: [] };
  },
  connect({ state: { size, bug, opener } }) {
    if (bug === "connect throws" && threadId !== opener) throw new Error("connect threw");
    return {
      length() { if (bug === "length throws") throw new Error("length threw"); return size; },
      read(buffer) { buffer.fill(1); return 0; },
      write() { if (bug === "write throws") throw new Error("write threw"); return 0; },
      discard: () => 0, writeZeroes: () => 0, flush: () => 0,
      status(offset, length, extent) { extent.length = length; extent.zero = false; extent.allocated = true; return 0; },
      resize: () => 95, admit: () => 0, direct: undefined,
    };
  },
  close() {},
};
`;

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "heirloom-pool-"));
  const file = join(directory, "bad-driver.mjs");
  writeFileSync(file, badDriverText);
  badDriver = pathToFileURL(file).href;
});
afterAll(() => rmSync(directory, { recursive: true }));

const moverOptions = {
  targetIsZero: false,
  threads: 1,
  runBytesMax: MiB,
  detectZeroes: false,
  discardSource: false,
  copies: true,
  scan: undefined,
  yieldMs: 0,
  onSourceError: "report",
  onTargetError: "report",
  speed: 0,
} as const;

describe("the pool", () => {
  it("refuses a long task at once when all threads are taken, and takes one again when one has ended", async () => {
    await using lab = new Lab({ threadsMax: 1 });
    const { layer } = await lab.memory(MiB);
    const io = lab.engine.io(layer);
    expect(await io.request(operationFlush, layer.id, 0, 0)).toBe(0);
    expect(lab.engine.pool.canStart(1)).toBe(false);
    const view = await lab.view(layer);
    const node = await openNode({ driver: "memory", size: MiB });
    expect(() => view.startMovers({ ...moverOptions, target: { node } }, () => {})).toThrow(NoThread);
    await io.close();
    expect(lab.engine.pool.longTasks).toBe(0);
    await lab.end(view);
    const again = await lab.view(layer);
    expect(await again.startMovers({ ...moverOptions, target: { node } }, () => {})).toBe("copied");
    await lab.end(again);
  });

  it("tells those that did start to stop when not all of a job's threads can", async () => {
    await using lab = new Lab({ threadsMax: 2 });
    const { layer } = await lab.memory(MiB);
    const view = await lab.view(layer);
    const node = await openNode({ driver: "memory", size: MiB });
    expect(() => view.startMovers({ ...moverOptions, target: { node }, threads: 3 }, () => {})).toThrow(NoThread);
    await lab.end(view);
    expect(lab.engine.pool.longTasks).toBe(0);
    lab.expectFreeIsZero();
  });

  it("says that a thread died only when it has exited, with its slots empty by then", async () => {
    await using lab = new Lab();
    const { layer } = await lab.memory(MiB);
    const view = await lab.view(layer);
    const node = await openNode({
      driver: "fault",
      file: { driver: "memory", size: MiB },
      rules: [{ kind: "write", action: { exit: true } }],
    });
    const source = await lab.memory(MiB);
    source.node.write(pattern(MiB, 1), 0);
    const standing = await lab.view(source.layer);
    const before = lab.engine.registry.participantMax;
    expect(await standing.startMovers({ ...moverOptions, target: { node } }, () => {})).toBe("died");
    expect(standing.broken?.reason).toBe("thread-died");
    expect(lab.engine.pool.longTasks).toBe(0);
    expect(lab.engine.registry.reserve()?.participant).toBeLessThanOrEqual(before);
    expect(view.broken).toBe(undefined); // of a disk that it did not serve
    await lab.end(standing);
    await lab.end(view);
    lab.expectFreeIsZero();
  });

  it("survives a task that throws: it has died at once, though its thread lives", async () => {
    await using lab = new Lab();
    const { layer, node } = await lab.memory(MiB);
    node.write(pattern(MiB, 1), 0);
    for (const [bug, end] of [
      ["write throws", "failed"], // an I/O error of its target
      ["connect throws", "died"],
    ]) {
      const view = await lab.view(layer);
      const { handle } = await lab.engine.openNode({ driver: badDriver, size: MiB, bug });
      const begun = performance.now();
      expect(await view.startMovers({ ...moverOptions, target: { node: handle } }, () => {})).toBe(end);
      expect(performance.now() - begun).toBeLessThan(3000); // not when the thread has idled out
      await lab.end(view);
    }
    const bad = await lab.engine.openNode({ driver: badDriver, size: MiB, bug: "connect throws" });
    const disk = lab.engine.addLayer(bad);
    // Its thread may serve other disks: it lives on.
    expect(await lab.engine.io(disk).request(operationWrite, disk.id, 0, 1, new Uint8Array(1))).toBe(EIO);
    expect(lab.engine.pool.longTasks).toBe(1);
    lab.expectFreeIsZero();
  });

  it("survives an error that nobody caught on a thread, and answers that cannot be cloned, without a word to the process", async () => {
    await using lab = new Lab();
    const unhandled: unknown[] = [];
    const note = (error: unknown): number => unhandled.push(error);
    process.on("unhandledRejection", note);
    await lab.engine.openNode({ driver: badDriver, size: MiB, bug: "a timer throws" }).catch(() => {});
    await expect(lab.engine.openNode({ driver: badDriver, size: MiB, bug: "cannot be cloned" })).rejects.toThrow();
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect((await lab.engine.openNode({ driver: "memory", size: MiB })).length).toBe(MiB);
    process.off("unhandledRejection", note);
    expect(unhandled).toEqual([]);
  });

  it("waits for threads that still start when it closes: one that is ended meanwhile takes the process with it", async () => {
    // Four threads start, and the pool is closed as soon as one of them has answered.
    const program = `
      import { Engine } from ${JSON.stringify(new URL("../dist/index.js", import.meta.url).href)};
      for (let round = 0; round < 10; round++) {
        const engine = new Engine();
        const opened = Array.from({ length: 4 }, () => engine.openNode({ driver: "null-co", size: 65536 }));
        await Promise.race(opened);
        await engine.close(1);
        await Promise.allSettled(opened);
      }
      console.log("alive");
    `;
    const child = spawn(process.execPath, ["--input-type=module", "--eval", program]);
    let said = "";
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (data: Buffer) => (said += data.toString()));
    await once(child, "close");
    expect(said).toBe("alive\n");
  }, 60_000);

  it("has loaded system calls in a thread that begins its first task: one may be ended there at any moment", async () => {
    // The threads are ended at moments that lie in and after the first task of each.
    const program = `
      import { Engine } from ${JSON.stringify(new URL("../dist/index.js", import.meta.url).href)};
      for (let round = 0; round < 30; round++) {
        const engine = new Engine();
        const opened = Array.from({ length: 6 }, () => engine.openNode({ driver: "file", filename: "/nowhere" }));
        const settled = Promise.allSettled(opened);
        for (const until = performance.now() + round * 4; performance.now() < until;)
          await new Promise((resolve) => setImmediate(resolve));
        await engine.close();
        await settled;
      }
      console.log("alive");
    `;
    const child = spawn(process.execPath, ["--input-type=module", "--eval", program]);
    let said = "";
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (data: Buffer) => (said += data.toString()));
    await once(child, "close");
    expect(said).toBe("alive\n");
  }, 120_000);

  it("closes in bounded time with a thread that hangs in its target, and says so", async () => {
    const lab = new Lab();
    const { layer, node } = await lab.memory(MiB);
    node.write(pattern(MiB, 1), 0);
    const view = await lab.view(layer);
    const target = await openNode({
      driver: "fault",
      file: { driver: "memory", size: MiB },
      rules: [{ kind: "write", action: { hang: true } }],
    });
    const ended = view.startMovers({ ...moverOptions, target: { node: target } }, () => {});
    await faultReached(target, 0);
    await lab.change(layer, { views: [] }, () => view.stop());
    let released = false;
    const releasing = view.release().then(() => (released = true));
    const begun = performance.now();
    await lab.engine.close(200);
    expect(performance.now() - begun).toBeLessThan(2000);
    releaseHang(target);
    await Promise.allSettled([ended, releasing]);
    expect(released).toBe(true);
    expect(() => lab.engine.pool.start("move", () => ({ task: {} }))).toThrow(NoThread);
  });
});

describe("helpers", () => {
  it("hand errors over with their class, code and fields", async () => {
    await using lab = new Lab();
    const error: unknown = await lab.engine
      .openNode({ driver: "file", filename: join(directory, "nothing.img") })
      .catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(BlockError);
    expect(error).toMatchObject({ errno: 2 });
    expect((error as Error).message).toMatch(/^open/);
    const foreign = await asResult(() => {
      throw new TypeError("unforeseen");
    });
    expect(() => unwrap(foreign)).toThrow(EngineError);
    const named = await asResult(() => {
      throw new EngineError("ERR_SPILL", "spill file: no");
    });
    expect(() => unwrap(structuredClone(named))).toThrow("spill file: no");
    expect(unwrap(await asResult(() => 7))).toBe(7);
  });

  it("close what they opened when its length cannot be asked for", async () => {
    await using lab = new Lab();
    await expect(lab.engine.openNode({ driver: badDriver, size: MiB, bug: "length throws" })).rejects.toMatchObject({
      message: expect.stringContaining("length threw"),
    });
  });

  it("cut ranges at the borders of data and zeroes, flush and resize", async () => {
    const handle = await openNode({ driver: "memory", size: MiB, sizeMax: 2 * MiB });
    await using lab = new Lab();
    connectNode(handle).write(pattern(8192, 1), 65536);
    const found = await lab.engine.nodeStatus(handle, Float64Array.from([0, MiB, 65536, 4096]));
    expect([...found]).toEqual([0, 65536, 1, 65536, 8192, 0, 73728, MiB - 73728, 1, 65536, 4096, 0]);
    expect(unwrap(await flushTask({ handle }))).toBe(0);
    expect(unwrap(await resizeTask({ handle, length: 2 * MiB }))).toBe(0);
    expect(unwrap(await statusTask({ handle, ranges: new Float64Array() })).length).toBe(0);
    expect(connectNode(handle).length()).toBe(2 * MiB);
  });

  it("fold large bitmaps beside the main thread, and lose no bit", async () => {
    await using lab = new Lab();
    const [into, from] = [lab.engine.recorder(2 ** 33, 512), lab.engine.recorder(2 ** 33, 512)];
    for (let at = 0; at < 1000; at++) (at % 2 === 0 ? into : from).bitmap.set(at * 7_654_321, 1);
    const folded = lab.engine.fold(into.bitmap, from.bitmap);
    expect(folded).toBeInstanceOf(Promise);
    into.bitmap.set(2 ** 33 - 1, 1); // a guest meanwhile
    await folded;
    expect(into.bitmap.count()).toBe(1001 * 512);
    for (const recorder of [into, from]) recorder.drop();
    lab.expectFreeIsZero();
    const [small, other] = [lab.engine.recorder(MiB, 512), lab.engine.recorder(MiB, 4096)];
    other.bitmap.set(0, 1);
    expect(lab.engine.fold(small.bitmap, other.bitmap)).toBe(undefined); // done when it returns
    expect(small.bitmap.count()).toBe(4096);
  });
});
