/** The program as a process: how it starts, what it leaves, how it ends. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { QmpClient } from "@heirloom/qmp";
import { expect, onTestFinished, test } from "vitest";
import { shutdownDeadlineMs } from "./daemon.ts";

const program = fileURLToPath(new URL("../../dist/storage-daemon/main.js", import.meta.url));

function scratch(): string {
  const directory = mkdtempSync(join(tmpdir(), "heirloom-daemon-"));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

function run(...words: string[]): { status: number | null; stdout: string; stderr: string } {
  return spawnSync(process.execPath, [program, ...words], { encoding: "utf8", timeout: 20_000 });
}

async function start(path: string, ...words: string[]): Promise<{ child: ChildProcess; client: QmpClient }> {
  const monitor = ["--chardev", `socket,id=m,path=${path},server=on,wait=off`, "--monitor", "m"];
  const child = spawn(process.execPath, [program, ...words, ...monitor], { stdio: ["ignore", "pipe", "pipe"] });
  onTestFinished(() => void child.kill("SIGKILL"));
  return { child, client: await connect(path) };
}

async function connect(path: string): Promise<QmpClient> {
  for (;;) {
    const client = await QmpClient.connect({ path }).catch(() => undefined);
    if (client !== undefined) {
      onTestFinished(() => client.close());
      return client;
    }
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** What /proc says of a process. */
function status(pid: number, name: string): number {
  const line = readFileSync(`/proc/${pid}/status`, "utf8")
    .split("\n")
    .find((one) => one.startsWith(`${name}:`));
  return Number(/\d+/.exec(line ?? "")?.[0]);
}

test("help, version and object help are told, and end it well", () => {
  expect(run("--help")).toMatchObject({ status: 0, stderr: "" });
  expect(run("--help").stdout).toContain("--blockdev [driver=]<driver>[,node-name=<N>]");
  expect(run("-V").stdout).toMatch(/^heirloom-storage-daemon version \d/);
  expect(run("--object", "help").stdout).toContain("  throttle-group\n");
  expect(run("--object", "secret,help").stdout).toMatch(/^secret options:\n.*data=<string>/s);
});

test("a bad option ends it with status 1 and one line, and leaves no socket", () => {
  const path = join(scratch(), "qmp");
  const { status: code, stderr } = run("--chardev", `socket,id=m,path=${path},server=on,wait=off`, "--blockdev", "zz");
  expect(code).toBe(1);
  expect(stderr).toBe("heirloom-storage-daemon: --blockdev zz: Parameter 'driver' does not accept value 'zz'\n");
  expect(existsSync(path)).toBe(false);
});

test("a client is spoken to when all options are done, those after its monitor too", async () => {
  const directory = scratch();
  const path = join(directory, "qmp");
  const monitor = ["--chardev", `socket,id=m,path=${path},server=on,wait=off`, "--monitor", "m"];
  const disk = ["--blockdev", "null-co,node-name=disk", "--nbd-server", `addr.type=unix,addr.path=${directory}/nbd`];
  const words = [...monitor, ...disk, "--export", "nbd,id=disk,node-name=disk"];
  const child = spawn(process.execPath, [program, ...words], { stdio: "ignore" });
  onTestFinished(() => void child.kill("SIGKILL"));
  const client = await connect(path);
  expect(await client.execute("query-block-exports")).toHaveLength(1);
});

test.for(["SIGTERM", "SIGINT", "SIGHUP", "quit"] as const)(
  "%s: jobs are cancelled and told of, the image is let go of, the socket and the pidfile go, status 0",
  async (how) => {
    const directory = scratch();
    const [path, pidfile, image] = ["qmp", "pid", "disk"].map((name) => join(directory, name));
    writeFileSync(image, new Uint8Array(2 ** 20).fill(1));
    const { child, client } = await start(
      path,
      "--pidfile",
      pidfile,
      "--blockdev",
      `file,node-name=d,filename=${image}`,
    );
    expect(statSync(path).mode & 0o777).toBe(0o600);
    await client.execute("blockdev-add", { driver: "null-co", "node-name": "t", size: 2 ** 20 });
    await client.execute("blockdev-backup", { "job-id": "j", device: "d", target: "t", sync: "none" });
    expect(Number(readFileSync(pidfile, "utf8"))).toBe(child.pid);
    const told: string[] = [];
    const events = (async () => {
      for await (const event of client.events())
        told.push(event.name === "JOB_STATUS_CHANGE" ? event.data.status : event.name);
    })();
    if (how === "quit") await client.execute("quit");
    else child.kill(how);
    const [code, signal] = (await once(child, "exit")) as [number | null, string | null];
    await events;
    expect([code, signal]).toEqual([0, null]);
    expect(told).toEqual(["aborting", "BLOCK_JOB_CANCELLED", "concluded", "null", "CONNECTION_LOST"]);
    expect([existsSync(path), existsSync(pidfile)]).toEqual([false, false]);
  },
);

test("--daemonize: the parent ends when everything is set up, and the daemon goes on without it", async () => {
  const directory = scratch();
  const [path, pidfile] = ["qmp", "pid"].map((name) => join(directory, name));
  const monitor = ["--chardev", `socket,id=m,path=${path},server=on,wait=off`, "--monitor", "m"];
  expect(run(...monitor, "--pidfile", pidfile, "--daemonize")).toEqual(
    expect.objectContaining({ status: 0, stdout: "", stderr: "" }),
  );
  const pid = Number(readFileSync(pidfile, "utf8"));
  onTestFinished(() => void spawnSync("kill", ["-9", String(pid)]));
  const client = await connect(path);
  await client.execute("blockdev-add", { driver: "null-co", "node-name": "n" });
  const gone = client.events().next();
  await client.execute("quit");
  await gone;
  expect(run("--daemonize", "--pidfile", pidfile, "--blockdev", "zz")).toMatchObject({
    status: 1,
    stderr: "heirloom-storage-daemon: --blockdev zz: Parameter 'driver' does not accept value 'zz'\n",
  });
  expect(existsSync(pidfile)).toBe(false);
});

test("--daemonize with paths that are relative: its files go when it ends, wherever it has gone", async () => {
  const directory = scratch();
  const monitor = ["--chardev", "socket,id=m,path=qmp,server=on,wait=off", "--monitor", "m", "--metrics", "metrics"];
  const words = [program, ...monitor, "--pidfile", "pid", "--daemonize"];
  expect(spawnSync(process.execPath, words, { cwd: directory, encoding: "utf8" })).toMatchObject({
    status: 0,
    stderr: "",
  });
  const pid = Number(readFileSync(join(directory, "pid"), "utf8"));
  onTestFinished(() => void spawnSync("kill", ["-9", String(pid)]));
  const client = await connect(join(directory, "qmp"));
  const gone = client.events().next();
  await client.execute("quit");
  await gone;
  while (existsSync(`/proc/${pid}`)) await new Promise((resolve) => setTimeout(resolve, 5));
  expect(readdirSync(directory)).toEqual([]);
});

test.for(["quit", "SIGTERM", "SIGINT", "SIGHUP"] as const)(
  "%s with a target that hangs: it ends within its deadline, the bitmap reclaimed, and kept for the next start",
  async (how, context) => {
    if (spawnSync("sh", ["-c", "command -v qemu-storage-daemon"]).status !== 0) {
      if (process.env.CI) throw new Error("qemu-storage-daemon is not installed, and CI must have it");
      context.skip("qemu-storage-daemon is not installed");
    }
    const directory = scratch();
    const socket = join(directory, "nbd");
    const far = spawn("qemu-storage-daemon", [
      ...["--blockdev", "null-co,node-name=t,size=1048576", "--nbd-server", `addr.type=unix,addr.path=${socket}`],
      ...["--export", "nbd,id=e,node-name=t,writable=on"],
    ]);
    onTestFinished(() => void far.kill("SIGKILL"));
    while (!existsSync(socket)) await new Promise((resolve) => setTimeout(resolve, 5));
    const image = join(directory, "disk");
    writeFileSync(image, new Uint8Array(2 ** 20).fill(1));
    const disk = ["--journal", "beside,allow-tmpfs=on", "--blockdev", `file,node-name=d,filename=${image}`];
    const { child, client } = await start(join(directory, "qmp"), ...disk);
    await client.execute("block-dirty-bitmap-add", { node: "d", name: "b", persistent: true });
    const guest = join(directory, "guest");
    await client.execute("nbd-server-start", { addr: { type: "unix", data: { path: guest } } });
    await client.execute("block-export-add", { type: "nbd", id: "g", "node-name": "d", writable: true });
    write(guest, 0);
    const server = { type: "unix", path: socket } as const;
    await client.execute("blockdev-add", { driver: "nbd", "node-name": "t", server, export: "t" });
    far.kill("SIGSTOP");
    const backup = { "job-id": "j", device: "d", target: "t", sync: "incremental", bitmap: "b" } as const;
    await client.execute("blockdev-backup", backup);
    write(guest, 8);
    const from = performance.now();
    if (how === "quit") await client.execute("quit");
    else child.kill(how);
    const [code, signal] = (await once(child, "exit")) as [number | null, string | null];
    expect([code, signal]).toEqual([0, null]);
    expect(performance.now() - from).toBeLessThan(shutdownDeadlineMs + 2000);

    const next = await start(join(directory, "next"), ...disk);
    const [node] = await next.client.execute("query-named-block-nodes");
    const bitmap = node["dirty-bitmaps"]?.find(({ name }) => name === "b");
    // What it said before, and what was written meanwhile.
    expect(bitmap).toMatchObject({ recording: true, busy: false, persistent: true, count: 2 * 65536 });
    expect(bitmap).not.toHaveProperty("inconsistent");
  },
);

/** A guest writes into a cluster. */
function write(socket: string, cluster: number): void {
  const command = `write -P 5 ${cluster * 65536} 512`;
  const { status, stderr } = spawnSync("qemu-io", ["-f", "raw", "-c", command, `nbd+unix:///d?socket=${socket}`], {
    encoding: "utf8",
  });
  expect(status, stderr).toBe(0);
}

test("--log-format json: lines are JSON", () => {
  const { stderr } = run("--log-format", "json", "--blockdev", "zz");
  expect(JSON.parse(stderr)).toMatchObject({
    name: "heirloom-storage-daemon",
    msg: expect.stringContaining("--blockdev zz"),
  });
});

test("a monitor on standard input and output is greeted and answered", async () => {
  const child = spawn(process.execPath, [program, "--chardev", "stdio,id=m", "--monitor", "m"]);
  onTestFinished(() => void child.kill("SIGKILL"));
  child.stdin.write('{"execute":"qmp_capabilities"}{"execute":"quit"}');
  let text = "";
  child.stdout.on("data", (chunk: Buffer) => (text += chunk.toString()));
  const [code, signal] = (await once(child, "exit")) as [number | null, string | null];
  expect([code, signal]).toEqual([0, null]);
  expect(text.split("\r\n")).toEqual([expect.stringMatching(/^\{"QMP"/), '{"return": {}}', '{"return": {}}', ""]);
});

test("idle with one disk it stays under 90 MiB; before there is one, nothing of the runtime is loaded", async () => {
  const directory = scratch();
  const { child, client } = await start(join(directory, "qmp"));
  const image = join(directory, "disk");
  writeFileSync(image, "");
  const before = status(child.pid!, "Threads");
  await client.execute("query-version");
  expect(status(child.pid!, "Threads")).toBe(before);
  await client.execute("blockdev-add", { driver: "file", "node-name": "d", filename: image });
  expect(status(child.pid!, "Threads")).toBeLessThanOrEqual(before + 2);
  // Not reached on the newest Node, where the same code takes some 94 MiB.
  const limit = Number(process.versions.node.split(".")[0]) > 22 ? 102 : 90;
  expect(status(child.pid!, "VmRSS")).toBeLessThan(limit * 1024);
});
