/** The client as a block node, on threads, against nbdkit, QEMU's servers and servers that lie. */
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { existsSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { constants } from "node:os";
import { type BlockNode, closeNode, connectNode, type NodeHandle, openNode } from "@heirloom/block";
import { interruptNbd, nbdDriver, nbdNode } from "@heirloom/nbd";
import fc from "fast-check";
import { describe, expect, onTestFinished, test } from "vitest";
import { lyingServer } from "./lying-server.fixture.ts";
import { nbdkit, qemuNbd, run, scratchDirectory } from "./peers.fixture.ts";
import { NodeThread } from "./thread.fixture.ts";
import { bytes, chunk, simpleReply, u32, u64 } from "./wire.fixture.ts";

const MIB = 1024 * 1024;
const { EIO, ECANCELED, ETIMEDOUT, ENOSPC, EPERM } = constants.errno;

async function open(options: Parameters<typeof nbdNode>[0]): Promise<{ handle: NodeHandle; node: BlockNode }> {
  const handle = await openNode(nbdNode(options));
  onTestFinished(() => closeNode(handle));
  return { handle, node: connectNode(handle) };
}

/** Tells nbdkit's pause filter to pause or to resume, and waits until it has. */
function pause(control: string, command: "p" | "r"): void {
  const script = `import socket; s = socket.socket(socket.AF_UNIX); s.connect("${control}"); s.send(b"${command}"); s.recv(1)`;
  run("python3", "-c", script);
}

const hash = (content: Uint8Array): string => createHash("sha256").update(content).digest("hex");

function openSockets(): number {
  return readdirSync("/proc/self/fd").filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).startsWith("socket:");
    } catch {
      return false;
    }
  }).length;
}

describe("a node is what its server has", () => {
  test.for<[string, string[]]>([
    ["structured replies", []],
    ["simple replies", ["--no-sr"]],
    ["the long way where the server can only read and write", ["--filter=nozero", "--filter=noextents"]],
    [
      "small pieces",
      ["--filter=blocksize-policy", "blocksize-maximum=64K", "blocksize-error-policy=error", "blocksize-minimum=1"],
    ],
  ])("random requests read back as from a plain array: %s", async ([_name, args], context) => {
    const zeromode = args.includes("--filter=nozero") ? ["zeromode=none"] : [];
    const filters = args.filter((arg) => arg.startsWith("-"));
    const rest = args.filter((arg) => !arg.startsWith("-"));
    const peer = await nbdkit(context, [...filters, "memory", "777777", ...rest, ...zeromode]);
    const { node } = await open({ path: peer.socket });
    const length = node.length();
    expect(length).toBe(777_777);
    const model = new Uint8Array(length);
    const range = fc.tuple(fc.nat(length - 1), fc.integer({ min: 1, max: 300_000 }));
    const step = fc.record({
      verb: fc.constantFrom("write", "read", "zeroes", "discard", "flush"),
      range,
      seed: fc.nat(255),
      unmap: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: 30 }), (steps) => {
        for (const {
          verb,
          range: [offset, span],
          seed,
          unmap,
        } of steps) {
          const size = Math.min(span, length - offset);
          if (verb === "write") {
            const content = new Uint8Array(size).map((_, index) => seed + index * 7);
            expect(node.write(content, offset)).toBe(0);
            model.set(content, offset);
          } else if (verb === "zeroes") {
            expect(node.writeZeroes(offset, size, unmap)).toBe(0);
            model.fill(0, offset, offset + size);
          } else if (verb === "discard") {
            expect(node.discard(offset, size)).toBe(0);
            // What it left is what it is from now on.
            expect(node.read(model.subarray(offset, offset + size), offset)).toBe(0);
          } else if (verb === "flush") {
            expect(node.flush()).toBe(0);
          } else {
            const read = new Uint8Array(size).fill(0xee);
            expect(node.read(read, offset)).toBe(0);
            expect(Buffer.compare(read, model.subarray(offset, offset + size))).toBe(0);
          }
        }
        const extent = { length: 0, zero: false, allocated: false };
        for (let offset = 0; offset < length; offset += extent.length) {
          expect(node.status(offset, length - offset, extent)).toBe(0);
          expect(extent.length).toBeGreaterThan(0);
          if (extent.zero)
            expect(model.subarray(offset, offset + extent.length).every((byte) => byte === 0)).toBe(true);
        }
      }),
      { numRuns: 15 },
    );
  });

  test("a request longer than the server takes is answered whole", async (context) => {
    const peer = await nbdkit(context, [
      ...["--filter=blocksize-policy", "memory", "64M", "blocksize-minimum=4096", "blocksize-maximum=128K"],
      "blocksize-error-policy=error",
    ]);
    const { node, handle } = await open({ uri: peer.uri() });
    expect(handle.alignment).toBe(4096);
    const content = randomBytes(40 * MIB);
    expect(node.write(content, 4096)).toBe(0);
    const back = new Uint8Array(content.length);
    expect(node.read(back, 4096)).toBe(0);
    expect(hash(back)).toBe(hash(content));
  });

  test("over TCP, by name and by address", async (context) => {
    const directory = scratchDirectory();
    const file = join(directory, "disk");
    writeFileSync(file, randomBytes(MIB));
    const peer = await qemuNbd(context, ["-f", "raw", "-r", "-x", "a disk", file]);
    // A relay, as ports of others are not known beforehand.
    const { createServer, connect } = await import("node:net");
    const relay = createServer((socket) =>
      socket
        .pipe(connect(peer.socket).on("error", () => undefined))
        .pipe(socket)
        .on("error", () => undefined),
    );
    relay.listen(0, "127.0.0.1");
    await once(relay, "listening");
    onTestFinished(() => void relay.close());
    const { port } = relay.address() as { port: number };
    // The relay turns on this thread's event loop, so the node is opened and used on another one.
    const { Worker } = await import("node:worker_threads");
    for (const host of ["127.0.0.1", "localhost"]) {
      const worker = new Worker(
        `const { workerData: { block, spec, bytes }, parentPort } = require("node:worker_threads");
         import(block).then(async ({ openNode, connectNode, closeNode }) => {
           const handle = await openNode(spec);
           const errno = connectNode(handle).read(new Uint8Array(bytes), 0);
           closeNode(handle);
           parentPort.postMessage({ errno, identity: handle.identity, readOnly: handle.readOnly });
         });`,
        {
          eval: true,
          workerData: {
            block: import.meta.resolve("@heirloom/block"),
            spec: nbdNode({ host, port, export: "a disk" }),
            bytes: new SharedArrayBuffer(MIB),
          },
        },
      );
      const [answer] = (await once(worker, "message")) as [unknown];
      expect(answer).toEqual({ errno: 0, identity: `nbd:${host}:${port}:a disk`, readOnly: true });
    }
  });

  test("status is what the server says, and asks each time", async (context) => {
    const peer = await nbdkit(context, ["memory", "1M"]);
    const { node } = await open({ path: peer.socket });
    const extent = { length: 0, zero: false, allocated: false };
    expect(node.status(0, MIB, extent)).toBe(0);
    expect(extent).toEqual({ length: MIB, zero: true, allocated: false });
    expect(node.write(new Uint8Array([1]), 65536)).toBe(0);
    expect(node.status(0, MIB, extent)).toBe(0);
    expect(extent).toEqual({ length: 65536, zero: true, allocated: false });
    expect(node.status(65536, MIB - 65536, extent)).toBe(0);
    expect(extent).toMatchObject({ zero: false, allocated: true });
  });

  test("the error of the server is the errno of the verb", async (context) => {
    const trigger = join(scratchDirectory(), "trigger");
    const peer = await nbdkit(context, [
      "--filter=error",
      "memory",
      "1M",
      "error=ENOSPC",
      "error-rate=1",
      `error-file=${trigger}`,
    ]);
    const { node } = await open({ path: peer.socket });
    expect(node.write(new Uint8Array(4), 0)).toBe(0);
    writeFileSync(trigger, "");
    expect(node.write(new Uint8Array(4), 0)).toBe(ENOSPC);
    expect(node.writeZeroes(0, 4, true)).toBe(ENOSPC);
    run("rm", trigger);
    expect(node.read(new Uint8Array(4), 0)).toBe(0);
  });

  test("closing leaves no descriptor behind, and tells the server", async (context) => {
    const peer = await nbdkit(context, ["memory", "1M"]);
    const before = openSockets();
    for (let round = 0; round < 3; round++) {
      const handle = await openNode(nbdNode({ path: peer.socket }));
      const threads = await Promise.all([NodeThread.start(handle), NodeThread.start(handle), NodeThread.start(handle)]);
      expect(await Promise.all(threads.map((thread) => thread.read(new SharedArrayBuffer(65536), 0)))).toEqual([
        0, 0, 0,
      ]);
      await Promise.all(threads.map((thread) => thread.end()));
      closeNode(handle);
      expect(() => closeNode(handle)).toThrow("closed already");
    }
    expect(openSockets()).toBeLessThanOrEqual(before);
  });
});

describe("several threads", () => {
  test.for<[string, string[], number]>([
    ["with a connection each", [], 4],
    ["over one connection", ["--filter=multi-conn", "multi-conn-mode=disable"], 1],
  ])("write side by side and lose nothing: %s", async ([_name, [filter, mode], connections], context) => {
    const peer = await nbdkit(context, [
      ...(filter === undefined ? [] : [filter]),
      "memory",
      "4M",
      ...(mode === undefined ? [] : [mode]),
    ]);
    const before = openSockets();
    const { handle, node } = await open({ path: peer.socket });
    const threads = await Promise.all([0, 1, 2, 3].map(() => NodeThread.start(handle)));
    const content = randomBytes(4 * MIB);
    const piece = 16_384;
    await Promise.all(
      threads.map(async (thread, first) => {
        const buffer = new SharedArrayBuffer(piece);
        for (let offset = first * piece; offset < content.length; offset += threads.length * piece) {
          new Uint8Array(buffer).set(content.subarray(offset, offset + piece));
          expect(await thread.write(buffer, offset)).toBe(0);
        }
        expect(await thread.flush()).toBe(0);
      }),
    );
    const back = new Uint8Array(content.length);
    expect(node.read(back, 0)).toBe(0);
    expect(hash(back)).toBe(hash(content));
    expect(openSockets() - before).toBeLessThanOrEqual(connections);
  });

  test("a thread that dies with the only connection in its hand gives it to the others after its time", async () => {
    let hold = true;
    const server = await lyingServer({
      form: "simple",
      flags: 0xced,
      onRequest: ({ cookie, length }, socket) => {
        if (!hold) socket.write(simpleReply(cookie, 0, Buffer.alloc(length, 5)));
      },
    });
    // Opening blocks this thread, and the server turns on it.
    const opened = await openElsewhere({ path: server.path, requestTimeoutMs: 0 });
    const holder = await NodeThread.start(opened.handle);
    const other = await NodeThread.start(opened.handle);
    void holder.read(new SharedArrayBuffer(8), 0);
    while (server.requests.length === 0) await new Promise((resolve) => setImmediate(resolve));
    await holder.die();
    hold = false;
    const buffer = new SharedArrayBuffer(8);
    expect(await other.read(buffer, 0)).toBe(0);
    expect([...new Uint8Array(buffer)]).toEqual(Array(8).fill(5));
    expect(server.connections()).toBe(2);
  }, 60_000);
});

/** Opens on a thread, for servers that turn on this one's event loop. The handle can be posted, so it comes back. */
async function openElsewhere(options: Parameters<typeof nbdNode>[0]): Promise<{ handle: NodeHandle }> {
  const { Worker } = await import("node:worker_threads");
  const worker = new Worker(
    `const { workerData: { block, spec }, parentPort } = require("node:worker_threads");
     import(block).then(async ({ openNode }) => parentPort.postMessage({ handle: await openNode(spec) }))
       .catch((error) => parentPort.postMessage({ message: error.message, code: error.code }));`,
    {
      eval: true,
      trackUnmanagedFds: false,
      workerData: { block: import.meta.resolve("@heirloom/block"), spec: nbdNode(options) },
    },
  );
  const [answer] = (await once(worker, "message")) as [{ handle?: NodeHandle; message?: string; code?: string }];
  if (answer.handle === undefined) throw Object.assign(new Error(answer.message), { code: answer.code });
  const { handle } = answer;
  const { loadDrivers } = await import("@heirloom/block");
  await loadDrivers(handle);
  onTestFinished(() => closeNode(handle));
  return { handle };
}

describe("servers that hang, go away and lie", () => {
  test("a request that hangs ends when it is interrupted, from another thread, and later ones do not", async (context) => {
    const control = join(scratchDirectory(), "control");
    const peer = await nbdkit(context, ["--filter=pause", "memory", "1M", `pause-control=${control}`]);
    const { handle } = await open({ path: peer.socket });
    pause(control, "p");
    const threads = await Promise.all([NodeThread.start(handle), NodeThread.start(handle)]);
    const reads = threads.map((thread) => thread.read(new SharedArrayBuffer(512), 0));
    const begun = performance.now();
    // Interrupts end what has begun: until both have, they are repeated.
    const timer = setInterval(() => interruptNbd(handle), 50);
    onTestFinished(() => clearInterval(timer));
    expect(await Promise.all(reads)).toEqual([ECANCELED, ECANCELED]);
    expect(performance.now() - begun).toBeLessThan(5000);
    clearInterval(timer);
    pause(control, "r");
    expect(await threads[0].read(new SharedArrayBuffer(512), 0)).toBe(0);
  });

  test("a server that hangs is given its time and no more", async () => {
    const server = await lyingServer({ onRequest: () => undefined });
    const { handle } = await openElsewhere({ path: server.path, requestTimeoutMs: 300 });
    const thread = await NodeThread.start(handle);
    expect(await thread.read(new SharedArrayBuffer(512), 0)).toBe(ETIMEDOUT);
    expect(await thread.write(new SharedArrayBuffer(512), 0)).toBe(ETIMEDOUT);
  });

  test("a server that goes away is EIO at once, and asked again by the next request", async (context) => {
    const directory = scratchDirectory();
    const file = join(directory, "disk");
    writeFileSync(file, Buffer.alloc(MIB, 3));
    const first = await nbdkit(context, ["file", file], join(directory, "sock"));
    const { node } = await open({ path: first.socket });
    const buffer = new Uint8Array(512);
    expect(node.read(buffer, 0)).toBe(0);
    await first.kill();
    expect(node.read(buffer, 0)).toBe(EIO);
    run("rm", first.socket);
    expect(node.read(buffer, 0)).toBe(EIO);
    await nbdkit(context, ["file", file], first.socket);
    buffer.fill(0);
    expect(node.read(buffer, 0)).toBe(0);
    expect(buffer.every((byte) => byte === 3)).toBe(true);
  });

  test("a server that comes back within the delay answers, with the same bytes", async (context) => {
    const directory = scratchDirectory();
    const file = join(directory, "disk");
    const content = randomBytes(MIB);
    writeFileSync(file, content);
    const first = await nbdkit(context, ["file", file], join(directory, "sock"));
    const { handle } = await open({ path: first.socket, reconnectDelayMs: 20_000 });
    const thread = await NodeThread.start(handle);
    await first.kill();
    run("rm", first.socket);
    const buffer = new SharedArrayBuffer(MIB);
    const reading = thread.read(buffer, 0);
    await nbdkit(context, ["file", file], first.socket);
    expect(await reading).toBe(0);
    expect(hash(new Uint8Array(buffer))).toBe(hash(content));
  });

  test("a flush fails once on each thread after changes went with a connection, and then covers what came after", async (context) => {
    const directory = scratchDirectory();
    const file = join(directory, "disk");
    writeFileSync(file, Buffer.alloc(MIB));
    for (const assumeWritesSurvive of [false, true]) {
      const first = await nbdkit(context, ["file", file], join(directory, `sock${assumeWritesSurvive}`));
      const { handle, node } = await open({ path: first.socket, reconnectDelayMs: 20_000, assumeWritesSurvive });
      const other = connectNode(handle);
      expect(node.write(new Uint8Array(512), 0)).toBe(0);
      await first.kill();
      run("rm", first.socket);
      await nbdkit(context, ["file", file], first.socket);
      expect(node.write(new Uint8Array(512), 512)).toBe(0);
      expect(node.flush()).toBe(assumeWritesSurvive ? 0 : EIO);
      expect(node.flush()).toBe(0);
      expect(other.flush()).toBe(assumeWritesSurvive ? 0 : EIO);
      expect(other.flush()).toBe(0);
      expect(connectNode(handle).flush()).toBe(0);
    }
  });

  test("what a flush has covered is not lost with the connection", async (context) => {
    const directory = scratchDirectory();
    const file = join(directory, "disk");
    writeFileSync(file, Buffer.alloc(MIB));
    const first = await nbdkit(context, ["file", file], join(directory, "sock"));
    const { node } = await open({ path: first.socket, reconnectDelayMs: 20_000 });
    expect(node.write(new Uint8Array(512), 0)).toBe(0);
    expect(node.flush()).toBe(0);
    await first.kill();
    run("rm", first.socket);
    await nbdkit(context, ["file", file], first.socket);
    expect(node.read(new Uint8Array(512), 0)).toBe(0);
    expect(node.flush()).toBe(0);
  });

  test("a server that comes back with another disk is not written to", async (context) => {
    const directory = scratchDirectory();
    const first = await nbdkit(context, ["memory", "1M"], join(directory, "sock"));
    const { node } = await open({ path: first.socket, reconnectDelayMs: 20_000 });
    await first.kill();
    run("rm", first.socket);
    await nbdkit(context, ["memory", "2M"], first.socket);
    expect(node.write(new Uint8Array(512), 0)).toBe(EIO);
  });

  test.each<[string, (cookie: bigint) => Buffer]>([
    ["a wrong magic number", () => Buffer.alloc(64, 0x77)],
    ["data outside of the range", (cookie) => chunk(cookie, 1, bytes(u64(1024), Buffer.alloc(512)))],
    ["too little", (cookie) => chunk(cookie, 1, bytes(u64(0), Buffer.alloc(100)))],
    ["a hole of 4 GiB", (cookie) => chunk(cookie, 2, bytes(u64(0), u32(0xffffffff)))],
    ["another request's answer", (cookie) => chunk(cookie + 7n, 1, bytes(u64(0), Buffer.alloc(512)))],
  ])("%s is EIO, not repeated, and moves no other byte", async (_what, answer) => {
    const server = await lyingServer({ onRequest: ({ cookie }, socket) => socket.write(answer(cookie)) });
    const { handle } = await openElsewhere({ path: server.path, reconnectDelayMs: 20_000 });
    const thread = await NodeThread.start(handle);
    const buffer = new SharedArrayBuffer(512);
    expect(await thread.read(buffer, 0)).toBe(EIO);
    expect(server.requests.length).toBe(1);
  });

  test("connections that end within each reply: every read is whole or an errno", async () => {
    const content = randomBytes(65536);
    const server = await lyingServer({
      form: "simple",
      length: content.length,
      onRequest: ({ cookie, offset, length }, socket, connection) => {
        const whole = simpleReply(cookie, 0, content.subarray(offset, offset + length));
        if (connection % 2 === 0) socket.end(whole.subarray(0, (connection * 13) % whole.length));
        else socket.end(whole);
      },
    });
    const { handle } = await openElsewhere({ path: server.path, reconnectDelayMs: 20_000 });
    const thread = await NodeThread.start(handle);
    for (let round = 0; round < 20; round++) {
      const buffer = new SharedArrayBuffer(500);
      expect(await thread.read(buffer, round * 500)).toBe(0);
      expect(Buffer.compare(new Uint8Array(buffer), content.subarray(round * 500, round * 500 + 500))).toBe(0);
    }
  });
});

describe("what is refused when a node is opened", () => {
  test.each<[string, Record<string, unknown>, string, string]>([
    ["nobody there", { path: "/nowhere/sock" }, "ERR_NODE_OPEN", "ENOENT"],
    ["no place", {}, "ERR_NODE_OPTION", "expected one of 'uri', 'path' and 'host'"],
    ["two places", { path: "/a", host: "b" }, "ERR_NODE_OPTION", "expected one of"],
    ["a URI and an export", { uri: "nbd://h", export: "x" }, "ERR_NODE_OPTION", "with an 'export'"],
    ["no URI", { uri: "nbds:h" }, "ERR_NODE_OPTION", "parse NBD URI"],
    ["a path that is too long", { path: `/${"x".repeat(120)}` }, "ERR_NODE_OPEN", "107 bytes"],
    ["an unknown option", { path: "/a", nonsense: 1 }, "ERR_NODE_OPTION", "unknown option 'nonsense'"],
    ["a host that is none", { host: "no-such-host.invalid" }, "ERR_NODE_OPEN", "no-such-host.invalid"],
  ])("%s", async (_what, options, code, words) => {
    const opening = openNode({ ...options, driver: nbdDriver });
    await expect(opening).rejects.toMatchObject({ code, message: expect.stringContaining(words) });
  });

  test("writing to what the server offers for reading only", async (context) => {
    const peer = await nbdkit(context, ["-r", "memory", "1M"]);
    await expect(openNode(nbdNode({ path: peer.socket, readOnly: false }))).rejects.toMatchObject({
      code: "ERR_NODE_OPEN",
      message: expect.stringContaining("for reading only"),
    });
    const { handle, node } = await open({ path: peer.socket });
    expect(handle.readOnly).toBe(true);
    // Somebody who does not look is told by the server.
    expect(node.write(new Uint8Array(512), 0)).toBe(EPERM);
  });

  test("an export that is not there, and one that never answers", async (context) => {
    const file = join(scratchDirectory(), "disk");
    writeFileSync(file, Buffer.alloc(512));
    const peer = await qemuNbd(context, ["-f", "raw", "-x", "real", file]);
    await expect(openNode(nbdNode({ path: peer.socket, export: "none" }))).rejects.toThrow("'none' not present");
    const { rawServer } = await import("./lying-server.fixture.ts");
    const server = await rawServer(() => undefined);
    const begun = performance.now();
    await expect(openElsewhere({ path: server.path, openTimeoutMs: 300 })).rejects.toMatchObject({
      code: "ERR_NODE_OPEN",
      message: expect.stringContaining("greeting"),
    });
    expect(performance.now() - begun).toBeLessThan(5000);
  });

  test("the path of a driver is that of the module that ships", () => {
    expect(existsSync(new URL(nbdDriver))).toBe(true);
    expect(readFileSync(new URL(nbdDriver), "utf8")).toContain("driver");
  });
});
