/** What can be seen of a runtime from outside: events, diagnostics, progress, the state and history of every actor. */
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { fileURLToPath, pathToFileURL } from "node:url";
import { writeFileSync } from "node:fs";
import {
  bitmapMachine,
  diskMachine,
  groupMachine,
  jobMachine,
  type RuntimeEvent,
  toMermaid,
  transactionMachine,
} from "@heirloom/runtime";
import { expect, test } from "vitest";
import { cluster, ended, firstDifference, inScene, MiB, refusalOf } from "./scene.fixture.ts";

const length = 2 * MiB;

test("events come to every reader in order, from when it began to when it leaves", () =>
  inScene(async (scene) => {
    const disk = await scene.disk("a", length, 1);
    const all = scene.runtime.events();
    const early: string[] = [];
    const leaving = (async () => {
      for await (const { name } of scene.runtime.events()) {
        early.push(name);
        if (early.length === 2) break;
      }
    })();
    const job = await scene.runtime.backup({ disk, target: scene.target(length), jobId: "j" });
    await Promise.all([job.done, leaving]);
    expect(early).toEqual(["BACKUP_STARTED", "JOB_STATUS_CHANGE"]);
    await scene.event("JOB_STATUS_CHANGE", { status: "null" });
    for (const expected of scene.events) expect((await all.next()).value).toEqual(expected);
    // Two that wait at once each get one, and a return ends what waits.
    const waiting = [all.next(), all.next()];
    await all.return?.();
    expect(await Promise.all(waiting)).toEqual([
      { done: true, value: undefined },
      { done: true, value: undefined },
    ]);
  }));

test("what started, and why it copies what it copies", () =>
  inScene(async (scene) => {
    const disk = await scene.disk("a", length, 2);
    await disk.bitmaps.add("daily");
    await disk.write(new Uint8Array(1), 3 * cluster);
    await (
      await scene.runtime.backup({ disk, bitmap: "daily", target: scene.target(length), jobId: "j" })
    ).done;
    const { data, at } = await scene.event("BACKUP_STARTED");
    expect(data).toMatchObject({
      job: "j",
      disk: "a",
      sync: "incremental",
      bytes: cluster,
      reason: "what bitmap daily says changed since its last backup",
    });
    expect(Math.abs(Date.now() - at)).toBeLessThan(60_000);
  }));

test("a signal ends the events, and cancels a job; aborted before, nothing begins", () =>
  inScene(async (scene) => {
    const disk = await scene.disk("a", length, 3);
    const target = scene.target(length);
    const stop = new AbortController();
    const reading = (async () => {
      for await (const event of scene.runtime.events({ signal: stop.signal })) expect(event.name).toBeTypeOf("string");
    })();
    const job = await scene.runtime.backup({ disk, target, speed: 1, signal: stop.signal });
    stop.abort();
    await reading;
    expect(await ended(job)).toEqual({ status: "cancelled", error: "Operation canceled" });
    await expect(
      scene.runtime.backup({ disk, target: { driver: "file", filename: target.filename }, signal: stop.signal }),
    ).rejects.toThrow("aborted");
    const late = new AbortController();
    const done = await scene.runtime.backup({
      disk,
      target: { driver: "file", filename: target.filename },
      signal: late.signal,
    });
    expect((await done.done).status).toBe("completed");
    late.abort(); // too late, and nobody minds
    for await (const event of scene.runtime.events({ signal: stop.signal }))
      throw new Error(`an event of a stream that never began: ${event.name}`);
  }));

test("the diagnostics channel heirloom:event carries the same", async () => {
  const seen: RuntimeEvent[] = [];
  const listen = (event: unknown): void => void seen.push(event as RuntimeEvent);
  subscribe("heirloom:event", listen);
  try {
    await inScene(async (scene) => {
      const disk = await scene.disk("a", length, 4);
      await (
        await scene.runtime.backup({ disk, target: scene.target(length) })
      ).done;
      await scene.event("JOB_STATUS_CHANGE", { status: "null" });
      expect(seen).toEqual(scene.events);
    });
  } finally {
    unsubscribe("heirloom:event", listen);
  }
});

test("progress rises, and its last value is the end's", () =>
  inScene(async (scene) => {
    const disk = await scene.disk("a", length, 5);
    const job = await scene.runtime.backup({ disk, target: scene.target(length), speed: 8 * MiB, maxChunk: cluster });
    const seen = [];
    for await (const info of job.progress(10)) seen.push(info);
    expect(seen.at(-1)).toMatchObject({ status: "null", offset: length, length });
    expect(seen.map(({ offset }) => offset)).toEqual(
      seen.map(({ offset }) => offset).sort((one, other) => one - other),
    );
    expect(seen.length).toBeGreaterThan(3);
  }));

test("inspect shows every actor with the history that led to its state", () =>
  inScene(async (scene) => {
    const disk = await scene.disk("a", length, 6);
    await disk.bitmaps.add("daily");
    const job = await scene.runtime.backup({
      disk,
      target: scene.target(length),
      jobId: "j",
      sync: "full",
      bitmap: "daily",
      bitmapMode: "on-success",
      speed: 1,
    });
    job.pause();
    const now = scene.runtime.inspect();
    expect(now.disks).toMatchObject([
      { id: "disk a", machine: "disk", state: "open", bitmaps: [{ id: "bitmap a/daily", state: "frozen" }] },
    ]);
    expect(now.jobs).toMatchObject([{ id: "job j", state: "paused" }]);
    expect(now.transactions.at(-1)).toMatchObject({ machine: "transaction" });
    expect(now.threads).toBeGreaterThan(0);
    expect(now.memory.shared).toBeGreaterThan(0);
    job.cancel();
    await job.done;
    expect(disk.bitmaps.history("daily").map(({ event, from, to }) => `${event}: ${from} -> ${to}`)).toEqual([
      "init:  -> recording",
      "freeze: recording -> frozen",
      "reclaim: frozen -> folding",
      "folded: folding -> recording",
    ]);
    expect(job.history.map(({ to }) => to)).toEqual(["created", "running", "paused", "aborting", "null"]);
    expect(scene.runtime.inspect().jobs).toEqual([]);
    expect(await refusalOf(() => disk.bitmaps.history("x"))).toMatchObject({ code: "ERR_BITMAP_NOT_FOUND" });
  }));

test.each([
  ["bitmap", bitmapMachine, "recording --> frozen : freeze"],
  ["job", jobMachine, "pending --> committing : finalize"],
  ["group", groupMachine, "pending --> committing : finalize"],
  ["disk", diskMachine, "open --> detaching : detach"],
  ["transaction", transactionMachine, ""],
] as const)("the %s machine prints as a Mermaid diagram", (_name, machine, line) => {
  const text = toMermaid(machine);
  expect(text.startsWith("stateDiagram-v2\n  [*] --> ")).toBe(true);
  expect(text).toContain(line);
  for (const state of machine.states) expect(text).toContain(state);
});

test("a driver module by file URL is a source and a target", () =>
  inScene(async (scene) => {
    // It keeps every byte negated: what arrives in the file under it says whether it was used.
    const source = `
      export const driver = {
        options: { file: { type: "node", required: true, doc: "what is negated" } },
        open({ file }, context) {
          const child = context.open(file);
          const { readOnly, alignment, clusterSize, identity } = child;
          return { driver: import.meta.url, readOnly, alignment, clusterSize, identity, state: null, children: [child] };
        },
        connect(handle, context) {
          const child = context.connect(handle.children[0]);
          const negated = (from) => from.map((byte) => -byte);
          return {
            direct: undefined,
            length: () => child.length(),
            read(buffer, offset) { const errno = child.read(buffer, offset); buffer.set(negated(buffer)); return errno; },
            write: (buffer, offset) => child.write(Uint8Array.from(negated(buffer)), offset),
            discard: (offset, length) => child.discard(offset, length),
            writeZeroes: (offset, length, unmap) => child.writeZeroes(offset, length, unmap),
            flush: () => child.flush(),
            status: (offset, length, extent) => child.status(offset, length, extent),
            resize: (length) => child.resize(length),
            admit: (kind, length) => child.admit(kind, length),
          };
        },
        close: (handle, context) => context.close(handle.children[0]),
      };`;
    writeFileSync(scene.path("negate.mjs"), source);
    const driver = pathToFileURL(scene.path("negate.mjs")).href;
    expect(fileURLToPath(driver)).toBe(scene.path("negate.mjs"));
    const plain = await scene.disk("plain", length, 7);
    const job = await scene.runtime.backup({
      disk: plain,
      target: { driver, file: scene.image("negated.raw", length) },
    });
    expect(await ended(job)).toEqual({ status: "completed", error: null });
    expect(
      firstDifference(
        scene.bytes("negated.raw"),
        scene.bytes("plain.raw").map((byte) => -byte),
      ),
    ).toBe(-1);
    const disk = await scene.runtime.attach({ driver, file: { driver: "file", filename: scene.path("negated.raw") } });
    await disk.bitmaps.add("b");
    const restored = scene.target(length);
    await (
      await scene.runtime.backup({ disk, target: restored, sync: "full", bitmap: "b", bitmapMode: "on-success" })
    ).done;
    await disk.write(new Uint8Array(100_000).fill(1), 5000);
    await plain.write(new Uint8Array(100_000).fill(1), 5000);
    const next = await scene.runtime.backup({
      disk,
      target: { driver: "file", filename: restored.filename },
      bitmap: "b",
    });
    expect(await ended(next)).toEqual({ status: "completed", error: null });
    expect(firstDifference(scene.bytes("target0.raw"), scene.bytes("plain.raw"))).toBe(-1);
    const missing = await refusalOf(() => scene.runtime.attach({ driver: `${driver}x` }));
    expect(missing.code).toBe("ERR_DRIVER_INVALID");
  }));

test("a reader that does not read loses the oldest, and is told how many", () =>
  inScene(async (scene) => {
    const disk = await scene.disk("a", length, 8);
    const lazy = scene.runtime.events();
    const job = await scene.runtime.backup({ disk, target: scene.target(length), speed: 1 });
    for (let count = 0; count < 6000; count++) {
      job.pause();
      job.resume();
    }
    job.cancel();
    await job.done;
    const { value } = (await lazy.next()) as { value: RuntimeEvent };
    expect(value).toMatchObject({ name: "EVENTS_LOST" });
    let kept = 0;
    await scene.runtime.close();
    for await (const event of lazy) kept += Number(event.name.length > 0);
    expect(kept).toBe(10_000);
    expect(value.data.count).toBeGreaterThan(2000); // of 12 000 and some
  }));

test("a listener that throws is the process's own matter: the job that it was told of goes on", () =>
  inScene(async (scene) => {
    const disk = await scene.disk("a", length, 9);
    await disk.bitmaps.add("b");
    const others = process.listeners("uncaughtException");
    process.removeAllListeners("uncaughtException");
    const uncaught: unknown[] = [];
    process.on("uncaughtException", (error) => uncaught.push(error.message));
    try {
      let told = 0;
      const off = scene.runtime.onEvent(({ name }) => {
        told++;
        throw new Error(name);
      });
      const first = { sync: "full", bitmap: "b", bitmapMode: "on-success", target: scene.target(length) } as const;
      expect(await ended(await scene.runtime.backup({ disk, ...first }))).toEqual({ status: "completed", error: null });
      await scene.event("JOB_STATUS_CHANGE", { status: "null" });
      off();
      await scene.until(() => uncaught.length === told);
      expect(uncaught).toEqual(scene.events.map(({ name }) => name));
    } finally {
      process.removeAllListeners("uncaughtException");
      for (const other of others) process.on("uncaughtException", other);
    }
  }));
