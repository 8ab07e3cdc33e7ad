/** Monitors over real sockets: who is served, who waits, and what a client that misbehaves can do to others: nothing. */
import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, statSync, writeFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { RawMonitor, scratchDirectory } from "../qemu.fixture.ts";
import { commands } from "../table/command-table.ts";
import { CommandSet, type Handlers } from "./command-set.ts";
import { Monitor } from "./monitor.ts";
import { listenOnUnixSocket } from "./unix-listener.ts";

const version = { qemu: { major: 7, minor: 2, micro: 0 }, package: "test" };

async function serve(handlers: Partial<Handlers> = {}): Promise<{ path: string; monitor: Monitor; dropped: string[] }> {
  const dropped: string[] = [];
  const all = new CommandSet(commands, { "query-version": () => version, ...handlers });
  const monitor = new Monitor({ commands: all, version, pretty: false }, (message) => dropped.push(message));
  const path = join(scratchDirectory(), "qmp");
  const server = await listenOnUnixSocket(path, (socket) => monitor.accept(socket));
  onTestFinished(async () => {
    server.close();
    await monitor.close();
  });
  return { path, monitor, dropped };
}

async function negotiated(path: string): Promise<RawMonitor> {
  const client = await RawMonitor.connect(path);
  await client.line();
  client.send('{"execute":"qmp_capabilities"}');
  await client.line();
  return client;
}

test("a second client waits for its greeting until the first has gone, and is answered what it sent meanwhile", async () => {
  const { path } = await serve();
  const first = await negotiated(path);
  const second = await RawMonitor.connect(path);
  second.send('{"execute":"qmp_capabilities","id":"early"}');
  first.send('{"execute":"query-version","id":1}');
  expect(await first.line()).toContain('"id": 1');
  first.close();
  expect(await second.line()).toContain('"QMP"');
  expect(await second.line()).toContain('"id": "early"');
});

test("who waits and gives up is forgotten", async () => {
  const { path } = await serve();
  const first = await negotiated(path);
  const impatient = await RawMonitor.connect(path);
  impatient.close();
  const third = await RawMonitor.connect(path);
  first.close();
  expect(await third.line()).toContain('"QMP"');
});

test("a client that ends its side is answered what it asked, and then the connection ends", async () => {
  const { path } = await serve();
  const socket = connect({ path, allowHalfOpen: true });
  let text = "";
  socket.on("data", (chunk: Buffer) => (text += chunk.toString()));
  socket.end('{"execute":"qmp_capabilities"}{"execute":"query-version"}');
  await once(socket, "close");
  expect(text.trim().split("\r\n")).toHaveLength(3);
});

test("a client that ends its side while a command takes its time is answered all the same", async () => {
  let go = (): void => {};
  const over = new Promise<void>((resolve) => (go = resolve));
  const { path } = await serve({ "query-jobs": () => over.then(() => []) });
  const socket = connect({ path, allowHalfOpen: true });
  let text = "";
  socket.on("data", (chunk: Buffer) => (text += chunk.toString()));
  socket.end('{"execute":"qmp_capabilities"}{"execute":"query-jobs","id":1}{"execute":"query-version","id":2}');
  await once(socket, "finish");
  setImmediate(go); // its end has arrived by then, or comes while the command is answered: both are to be right
  await once(socket, "close");
  expect(text.trim().split("\r\n").slice(2)).toEqual(['{"return": [], "id": 1}', expect.stringContaining('"id": 2')]);
});

test("ten thousand commands in one write are answered in their order", async () => {
  const { path } = await serve();
  const client = await negotiated(path);
  const count = 10_000;
  client.send(Array.from({ length: count }, (_, id) => `{"execute":"query-version","id":${id}}`).join(""));
  for (let id = 0; id < count; id++) expect(await client.line()).toContain(`"id": ${id}}`);
});

test("commands of a client that does not read its answers wait; then they go on", async () => {
  let answered = 0;
  const long = "x".repeat(64 * 1024);
  const { path } = await serve({
    "query-version": () => {
      answered++;
      return { ...version, package: long };
    },
  });
  const socket = connect(path);
  socket.pause();
  socket.write('{"execute":"qmp_capabilities"}');
  const count = 400; // 25 MiB of answers
  socket.write('{"execute":"query-version"}'.repeat(count));
  // Until it has not gone on for a thousand turns of the loop.
  for (let turns = 0, before = -1; turns < 1000 || answered === 0; turns++) {
    if (before !== answered) turns = 0;
    before = answered;
    await new Promise((resolve) => setImmediate(resolve));
  }
  expect(answered).toBeLessThan(100);
  let lines = 0;
  socket.on("data", (chunk: Buffer) => (lines += chunk.toString("latin1").split("\n").length - 1));
  socket.resume();
  while (lines < count + 2) await once(socket, "data");
  expect(answered).toBe(count);
  socket.destroy();
});

test("a client that does not read its events is dropped in the end, and another takes its place", async () => {
  const { path, monitor, dropped } = await serve();
  const socket = connect(path);
  socket.pause();
  socket.write('{"execute":"qmp_capabilities"}');
  const next = await RawMonitor.connect(path);
  const data = { id: "x".repeat(100_000) };
  let told = 0;
  while (dropped.length === 0) {
    monitor.event({ name: "JOB_STATUS_CHANGE", at: 0, data });
    if (++told % 10 === 0) await new Promise((resolve) => setImmediate(resolve));
    if (told > 100_000) throw new Error("it was never dropped");
  }
  expect(dropped).toEqual(["a client of the monitor was dropped: it does not read its events"]);
  expect(await next.line()).toContain('"QMP"');
  socket.destroy();
});

test("a client that goes in the middle of a command leaves the monitor to the next", async () => {
  let finish: () => void = () => {};
  const { path } = await serve({
    "query-jobs": () => new Promise((resolve) => (finish = () => resolve([]))),
  });
  const first = await negotiated(path);
  first.send('{"execute":"query-jobs"}{"execute":"query-version"}{"execu');
  const second = await RawMonitor.connect(path);
  first.close();
  expect(await second.line()).toContain('"QMP"');
  finish();
  second.send('{"execute":"qmp_capabilities","id":5}');
  expect(await second.line()).toBe('{"return": {}, "id": 5}\r\n');
});

test("events come with their time, after the negotiation and not before", async () => {
  const { path, monitor } = await serve();
  const client = await RawMonitor.connect(path);
  await client.line();
  monitor.event({ name: "BLOCK_EXPORT_DELETED", at: 1, data: { id: "early" } });
  client.send('{"execute":"qmp_capabilities"}');
  expect(await client.line()).toBe('{"return": {}}\r\n');
  monitor.event({ name: "BLOCK_EXPORT_DELETED", at: 1795390316218.743, data: { id: "e" } });
  expect(await client.line()).toBe(
    '{"timestamp": {"seconds": 1795390316, "microseconds": 218743}, "event": "BLOCK_EXPORT_DELETED", "data": {"id": "e"}}\r\n',
  );
});

test("a socket is its owner's alone, whatever the umask", async () => {
  const before = process.umask(0);
  onTestFinished(() => void process.umask(before));
  const { path } = await serve();
  expect((statSync(path).mode & 0o777).toString(8)).toBe("600");
  expect(process.umask(0)).toBe(0);
});

test("a socket that nobody listens on is replaced, one that answers is refused, and so is what is no socket", async () => {
  const { path } = await serve();
  await expect(listenOnUnixSocket(path, () => {})).rejects.toThrow(
    `Failed to bind socket to ${path}: Address already in use`,
  );
  const directory = scratchDirectory();
  const file = join(directory, "file");
  writeFileSync(file, "kept");
  await expect(listenOnUnixSocket(file, () => {})).rejects.toThrow("Address already in use");
  expect(existsSync(file)).toBe(true);
  await expect(listenOnUnixSocket("/nonexistent/qmp", () => {})).rejects.toThrow(
    "Failed to bind socket to /nonexistent/qmp: No such file or directory",
  );
  const stale = join(directory, "stale");
  leaveStaleSocket(stale);
  const server = await listenOnUnixSocket(stale, (socket: Socket) => void socket.end("here"));
  const socket = connect(stale);
  const [chunk] = (await once(socket, "data")) as [Buffer];
  expect(chunk.toString()).toBe("here");
  socket.destroy();
  server.close();
});

/** As a process leaves it that was killed. */
function leaveStaleSocket(path: string): void {
  const program = `require("node:net").createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, "SIGKILL"))`;
  spawnSync(process.execPath, ["-e", program]);
  expect(existsSync(path)).toBe(true);
}
