/** Clients that mean no good, against the daemon as a process: it lives, others are served meanwhile, memory stays flat. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { QmpClient } from "@heirloom/qmp";
import { expect, onTestFinished, test } from "vitest";

const program = fileURLToPath(new URL("../../dist/storage-daemon/main.js", import.meta.url));
const mebibyte = 2 ** 20;

interface Attacked {
  readonly child: ChildProcess;
  /** Of the monitor that is attacked. */
  readonly path: string;
  /** Of another monitor, who asks all the time. */
  readonly other: Other;
}

async function startDaemon(): Promise<Attacked> {
  const directory = mkdtempSync(join(tmpdir(), "heirloom-hostile-"));
  const monitor = (id: string): string[] => [
    ...["--chardev", `socket,id=${id},path=${join(directory, id)},server=on,wait=off`, "--monitor", id],
  ];
  const child = spawn(process.execPath, [program, ...monitor("attacked"), ...monitor("other")], {
    stdio: ["ignore", "ignore", "inherit"],
  });
  onTestFinished(async () => {
    child.kill("SIGKILL");
    if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
    rmSync(directory, { recursive: true, force: true });
  });
  const other = await Other.start(join(directory, "other"));
  return { child, path: join(directory, "attacked"), other };
}

/** Somebody who asks the daemon something again and again, and remembers the longest time that an answer took. */
class Other {
  readonly client: QmpClient;
  #worst = 0;
  #stopped = false;

  private constructor(client: QmpClient) {
    this.client = client;
    void this.#ask();
  }

  static async start(path: string): Promise<Other> {
    for (;;) {
      const client = await QmpClient.connect({ path }).catch(() => undefined);
      if (client === undefined) {
        await new Promise((resolve) => setTimeout(resolve, 5));
        continue;
      }
      const other = new Other(client);
      onTestFinished(() => {
        other.#stopped = true;
        client.close();
      });
      return other;
    }
  }

  /** Milliseconds, since it was asked last. */
  takeWorst(): number {
    const worst = this.#worst;
    this.#worst = 0;
    return worst;
  }

  async #ask(): Promise<void> {
    while (!this.#stopped) {
      const from = performance.now();
      await this.client.execute("query-version").catch(() => (this.#stopped = true));
      this.#worst = Math.max(this.#worst, performance.now() - from);
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  }
}

async function open(path: string): Promise<Socket> {
  for (;;) {
    const socket = connect(path);
    const connected = await new Promise<boolean>((resolve) => {
      socket.once("connect", () => resolve(true));
      socket.once("error", () => resolve(false)); // so many wait that there is no room for one more
    });
    if (!connected) continue;
    socket.on("error", () => {}); // the daemon may turn it away
    onTestFinished(() => void socket.destroy());
    return socket;
  }
}

function residentBytes({ pid }: ChildProcess): number {
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]) * 1024;
}

/** Sends it all, then asks in a new line for a sign of life, and reads until it comes. */
async function send(path: string, input: readonly (string | Uint8Array)[]): Promise<void> {
  const socket = await open(path);
  let tail = "";
  const answered = new Promise<void>((resolve, reject) => {
    socket.on("data", (chunk: Buffer) => {
      tail = (tail + chunk.toString("latin1")).slice(-200);
      if (tail.includes('"id": "alive"')) resolve();
    });
    socket.on("close", () => reject(new Error("the daemon closed the connection")));
  });
  socket.write('{"execute":"qmp_capabilities"}');
  for (const piece of input) if (!socket.write(piece)) await once(socket, "drain");
  socket.write('\n\x01\n{"execute":"query-version","id":"alive"}\n');
  await answered;
  const closed = once(socket, "close");
  socket.destroy();
  await closed;
}

const inputs: Readonly<Record<string, readonly (string | Uint8Array)[]>> = {
  "two million tokens": ["[", "1,".repeat(mebibyte), "1]"],
  "a hundred thousand tokens": ["[", "1,".repeat(60_000), "1]"],
  "many empty objects": ["[", "{},".repeat(40_000), "1]"],
  "a string without an end": ['{"execute":"', "x".repeat(8 * mebibyte)],
  "a long string": ['{"execute":"', "x".repeat(0.99 * mebibyte), '"}'],
  "a long string of escapes": ['{"execute":"', "\\u00e9".repeat(170_000), '"}'],
  "a long string of zeroes in two bytes each": [
    '["',
    Buffer.alloc(0.99 * mebibyte).fill(Buffer.from([0xc0, 0x80])),
    '"]',
  ],
  "a long number": ["[", "9".repeat(0.99 * mebibyte), "]"],
  "a long id": ['{"execute":"query-version","id":"', "x".repeat(0.99 * mebibyte), '"}'],
  "many members": ["{", ...Array.from({ length: 30_000 }, (_, index) => `"k${index}":1,`), '"execute":"x"}'],
  "deep nesting": ["[".repeat(1024), "]".repeat(1024), "[".repeat(3000), "]".repeat(3000)],
  "closing brackets": ["]".repeat(30_000)],
  "control characters": ["\x01".repeat(30_000)],
};

test("whatever one client sends, another is answered, and memory stays flat", { timeout: 180_000 }, async () => {
  const { child, path, other } = await startDaemon();
  const waited: Record<string, number> = {};
  const round = async (): Promise<number> => {
    for (const [name, input] of Object.entries(inputs)) {
      other.takeWorst();
      await send(path, input);
      waited[name] = Math.max(waited[name] ?? 0, other.takeWorst());
    }
    return residentBytes(child);
  };
  const first = await round();
  const second = await round();
  // Another client waits for a value to be parsed: a fraction of a second, on a machine that does nothing else.
  for (const [name, ms] of Object.entries(waited)) expect(ms, `others waited for ${name}`).toBeLessThan(3000);
  expect(second, `after ${first} in the first round`).toBeLessThan(Math.max(first, 200 * mebibyte) + 64 * mebibyte);
});

test("a command cut off at each of its bytes, or with a byte changed, leaves the monitor to the next client", async () => {
  const { path, other } = await startDaemon();
  const command = '{"execute":"block-dirty-bitmap-add","arguments":{"node":"d\\u00e9","name":"b","granularity":65536}}';
  for (let length = 0; length <= command.length; length++) {
    const socket = await open(path);
    socket.write(`{"execute":"qmp_capabilities"}${command.slice(0, length)}`);
    socket.end();
    socket.resume();
    await once(socket, "close");
    await send(path, [`${command.slice(0, length)}\xff${command.slice(length + 1)}`]);
  }
  expect(await other.client.execute("query-named-block-nodes")).toEqual([]);
});

test(
  "a thousand connections, and clients that never read, are borne; others are served",
  { timeout: 60_000 },
  async () => {
    const { child, path, other } = await startDaemon();
    await send(path, []);
    const before = residentBytes(child);
    const silent = await open(path);
    silent.pause();
    silent.write('{"execute":"qmp_capabilities"}');
    // More than is kept for it: the rest stays in the socket, and then with the client.
    silent.write('{"execute":"query-qmp-schema"}'.repeat(2000));
    const crowd: Socket[] = [];
    while (crowd.length < 1000) crowd.push(...(await Promise.all(Array.from({ length: 50 }, () => open(path)))));
    for (const socket of crowd) socket.write('{"execute":"qmp_capabilities"}{"execute":"query-qmp-schema"}{');
    other.takeWorst();
    for (let asked = 0; asked < 50; asked++) await other.client.execute("query-commands");
    expect(other.takeWorst()).toBeLessThan(3000);
    expect(residentBytes(child) - before).toBeLessThan(96 * mebibyte);
    for (const socket of [silent, ...crowd]) socket.destroy();
    // Until it has noticed that they are gone, it turns others away.
    const deadline = performance.now() + 10_000;
    let served = false;
    while (!served && performance.now() < deadline) {
      served = await send(path, []).then(
        () => true,
        () => false,
      );
    }
    expect(served).toBe(true);
  },
);
