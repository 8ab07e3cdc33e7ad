import { describe, expect, it } from "vitest";
import { EngineError, openDisk } from "@heirloom/engine";
import { participantCapacity } from "../dist/registry.js";
import { contentOf, difference, Lab, MiB, pattern } from "./lab.fixture.ts";
import { startThread, type TestThread } from "./threads.fixture.ts";

const guestThread = `
  const { createRequire } = await import("node:module");
  const { dist } = workerData;
  const { openDisk } = await load("index.js");
  const disks = new Map();
  parentPort.on("message", ({ verb, handle, offset, length, seed }) => {
    try {
      if (verb === "open") { disks.set("d", openDisk(handle)); parentPort.postMessage("opened"); }
      else if (verb === "exit") process.exit(0);
      else if (verb === "koffi") parentPort.postMessage(Object.keys(createRequire(dist).cache).some((path) => path.includes("koffi")));
      else if (verb === "close") { disks.get("d").close(); disks.get("d").close(); parentPort.postMessage("closed"); }
      else if (verb === "write") { disks.get("d").write(new Uint8Array(length).fill(seed), offset); parentPort.postMessage("written"); }
      else { disks.get("d")[verb](...(verb === "flush" ? [] : verb === "read" ? [new Uint8Array(length), offset] : [offset, length])); parentPort.postMessage("done"); }
    } catch (error) { parentPort.postMessage({ code: error.code, message: error.message }); }
  });
`;

async function ask(thread: TestThread, message: Record<string, unknown>): Promise<unknown> {
  thread.send(message);
  return thread.next();
}

describe("a posted disk", () => {
  it("has the verbs of the disk on a registered thread, through the same gate", async () => {
    await using lab = new Lab();
    const { layer, node } = await lab.memory(MiB);
    const { bitmap } = await lab.record(layer, 4096);
    const thread = startThread(guestThread);
    lab.engine.register(thread.worker);
    expect(await ask(thread, { verb: "open", handle: lab.engine.handle(layer) })).toBe("opened");
    expect(await ask(thread, { verb: "write", offset: 5000, length: 10, seed: 7 })).toBe("written");
    expect(await ask(thread, { verb: "discard", offset: 65536, length: 4096 })).toBe("done");
    expect(await ask(thread, { verb: "flush" })).toBe("done");
    expect(difference(contentOf(node, 5000, 10), new Uint8Array(10).fill(7))).toBe(-1);
    expect([...bitmap.extents()]).toEqual([
      { offset: 4096, length: 4096 },
      { offset: 65536, length: 4096 },
    ]);
    expect(await ask(thread, { verb: "write", offset: MiB, length: 1, seed: 7 })).toMatchObject({
      code: "ERR_IO",
      message: expect.stringMatching(/^write at offset 1048576: EINVAL/),
    });
    await thread.worker.terminate();
  });

  it("is refused where it is none, and where a buffer holds no bytes, and those that come after are served", async () => {
    await using lab = new Lab();
    const { layer, node } = await lab.memory(MiB);
    const thread = startThread(`
      const { openDisk } = await load("index.js");
      let disk;
      parentPort.on("message", ({ handle, buffer }) => {
        try {
          if (buffer === undefined) disk = openDisk(handle);
          else for (const verb of ["read", "write"]) disk[verb](buffer, 0);
          parentPort.postMessage("done");
        } catch ({ code, message }) { parentPort.postMessage([code, message]); }
      });`);
    lab.engine.register(thread.worker);
    const handle = lab.engine.handle(layer);
    const asText = JSON.parse(JSON.stringify(handle)) as unknown;
    for (const other of [undefined, null, {}, asText]) {
      expect(await ask(thread, { handle: other })).toEqual([
        "ERR_THREAD",
        "open disk: expected what disk.handle() gave, as this thread was posted it",
      ]);
    }
    expect(await ask(thread, { handle })).toBe("done");
    for (const buffer of ["text", [1, 2], null, new Uint16Array(2), new ArrayBuffer(2)]) {
      expect(await ask(thread, { buffer })).toEqual(["ERR_REQUEST", "read: the buffer must be a Uint8Array"]);
    }
    expect(await ask(thread, { buffer: new Uint8Array(512).fill(1) })).toBe("done");
    expect(difference(contentOf(node, 0, MiB), new Uint8Array(MiB))).toBe(-1); // it was read into before it was written
    for (const other of [undefined, {}, { threadId: 9 }])
      expect(() => lab.engine.register(other as never)).toThrow("expected a Worker of node:worker_threads");
    await thread.worker.terminate();
  });

  it("has loaded its system calls when it is open: its first request, inside the gate, does not", async () => {
    await using lab = new Lab();
    const { layer } = await lab.memory(MiB);
    const thread = startThread(guestThread);
    lab.engine.register(thread.worker);
    expect(await ask(thread, { verb: "koffi" })).toBe(false);
    expect(await ask(thread, { verb: "open", handle: lab.engine.handle(layer) })).toBe("opened");
    expect(await ask(thread, { verb: "koffi" })).toBe(true);
    await thread.worker.terminate();
  });

  it("is refused on a thread that is not registered, the main thread among them, in a sentence", async () => {
    await using lab = new Lab();
    const { layer } = await lab.memory(MiB);
    const thread = startThread(guestThread);
    const handle = lab.engine.handle(layer);
    expect(await ask(thread, { verb: "open", handle })).toMatchObject({
      code: "ERR_THREAD",
      message: expect.stringContaining("runtime.register(worker)"),
    });
    expect(() => openDisk(handle)).toThrow(EngineError);
    lab.engine.register(thread.worker);
    expect(await ask(thread, { verb: "open", handle })).toBe("opened"); // it was not used up
    await thread.worker.terminate();
  });

  it("opens once", async () => {
    await using lab = new Lab();
    const { layer } = await lab.memory(MiB);
    const [one, other] = [startThread(guestThread), startThread(guestThread)];
    for (const { worker } of [one, other]) lab.engine.register(worker);
    const handle = lab.engine.handle(layer);
    expect(await ask(one, { verb: "open", handle })).toBe("opened");
    expect(await ask(other, { verb: "open", handle })).toMatchObject({ code: "ERR_THREAD" });
    expect(await ask(one, { verb: "open", handle })).toMatchObject({ code: "ERR_THREAD" });
    await Promise.all([one, other].map(({ worker }) => worker.terminate()));
  });

  it("that was revoked does not open, not even when its number is another's by then", async () => {
    await using lab = new Lab();
    const { layer } = await lab.memory(MiB);
    const second = await lab.memory(MiB);
    const thread = startThread(guestThread);
    lab.engine.register(thread.worker);
    const stale = lab.engine.handle(layer);
    expect(lab.engine.revokeUnopened(layer)).toBe(true);
    const fresh = lab.engine.handle(second.layer);
    expect(fresh.seat.participant).toBe(stale.seat.participant);
    expect(await ask(thread, { verb: "open", handle: stale })).toMatchObject({ code: "ERR_THREAD" });
    expect(await ask(thread, { verb: "open", handle: fresh })).toBe("opened");
    expect(lab.engine.revokeUnopened(second.layer)).toBe(false);
    await thread.worker.terminate();
  });

  it("answers nothing after it was closed, reads included, and is counted no more", async () => {
    await using lab = new Lab();
    const { layer } = await lab.memory(MiB);
    const thread = startThread(guestThread);
    lab.engine.register(thread.worker);
    expect(await ask(thread, { verb: "open", handle: lab.engine.handle(layer) })).toBe("opened");
    expect(lab.engine.openHandles(layer)).toBe(1);
    expect(await ask(thread, { verb: "close" })).toBe("closed");
    for (const verb of ["read", "write", "discard", "writeZeroes", "flush", "status"]) {
      expect(await ask(thread, { verb, offset: 0, length: 1, seed: 1 })).toMatchObject({
        message: expect.stringContaining("closed"),
      });
    }
    expect(lab.engine.openHandles(layer)).toBe(0);
    await thread.worker.terminate();
  });

  it("whose thread ends is a guest that died: views break, and the slot is empty for the next transition", async () => {
    await using lab = new Lab();
    const { layer } = await lab.memory(MiB);
    const other = await lab.memory(MiB);
    const view = await lab.view(layer);
    const untouched = await lab.view(other.layer);
    const died: number[] = [];
    lab.engine.onDeath((layers) => died.push(...layers.map(({ id }) => id)));
    const thread = startThread(guestThread);
    lab.engine.register(thread.worker);
    expect(await ask(thread, { verb: "open", handle: lab.engine.handle(layer) })).toBe("opened");
    const exit = new Promise((resolve) => thread.worker.once("exit", resolve));
    thread.send({ verb: "exit" });
    await exit;
    expect(view.broken).toEqual({ reason: "thread-died", errno: 0 });
    expect(untouched.broken).toBe(undefined);
    expect(died).toEqual([layer.id]);
    expect(lab.engine.openHandles(layer)).toBe(0);
    await lab.end(view);
  });

  it("whose thread closed it and ended is nobody's death", async () => {
    await using lab = new Lab();
    const { layer } = await lab.memory(MiB);
    const view = await lab.view(layer);
    const thread = startThread(guestThread);
    lab.engine.register(thread.worker);
    expect(await ask(thread, { verb: "open", handle: lab.engine.handle(layer) })).toBe("opened");
    expect(await ask(thread, { verb: "close" })).toBe("closed");
    await thread.worker.terminate();
    expect(view.broken).toBe(undefined);
  });

  it("is refused with a typed error when there is no participant's number left", async () => {
    await using lab = new Lab();
    const { layer } = await lab.memory(MiB);
    for (let taken = lab.engine.registry.participantMax; taken < participantCapacity; taken++) lab.engine.handle(layer);
    expect(() => lab.engine.handle(layer)).toThrow(EngineError);
    expect(lab.engine.revokeUnopened(layer)).toBe(true);
    expect(lab.engine.handle(layer).seat.participant).toBeGreaterThanOrEqual(0);
  });

  it("finds arenas that came after its handle was made", async () => {
    await using lab = new Lab();
    const { layer, node } = await lab.memory(MiB);
    node.write(pattern(MiB, 1), 0);
    const handle = structuredClone(lab.engine.handle(layer));
    for (let count = 0; count < 3; count++) lab.engine.arenas.allocate(10 * MiB); // announced to nobody: no thread is there yet
    const { bitmap } = await lab.record(layer, 4096);
    const view = await lab.view(layer, { spillMemory: 40 * MiB });
    const thread = startThread(guestThread);
    lab.engine.register(thread.worker);
    expect(await ask(thread, { verb: "open", handle })).toBe("opened");
    expect(await ask(thread, { verb: "write", offset: 100, length: 10, seed: 7 })).toBe("written");
    expect(view.memory.view.isPreserved(0)).toBe(true);
    expect(bitmap.test(0)).toBe(true);
    await thread.worker.terminate();
  });
});
