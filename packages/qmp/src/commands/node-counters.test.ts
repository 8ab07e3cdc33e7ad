/** `query-blockstats`: against what a client asked for, and against QEMU where QEMU keeps the figure. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { NbdClient } from "@heirloom/nbd";
import { createRuntime } from "@heirloom/runtime";
import { expect, onTestFinished, test } from "vitest";
import { QmpClient, type QmpCommands, QmpService } from "@heirloom/qmp";
import { needQemu } from "../qemu.fixture.ts";

type Execute = <Name extends keyof QmpCommands>(
  command: Name,
  args: QmpCommands[Name]["arguments"],
) => Promise<QmpCommands[Name]["result"]>;
type Stats = QmpCommands["query-blockstats"]["result"][number]["stats"];

const MiB = 2 ** 20;

function scratch(): string {
  const directory = mkdtempSync(join(tmpdir(), "heirloom-counters-"));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

function ours(): Execute {
  const runtime = createRuntime();
  const service = new QmpService({ runtime, quit: () => {} });
  onTestFinished(async () => {
    await runtime.close();
    await service.close();
  });
  return (command, args) => Promise.resolve(service.commands.carryOut(command, { ...args }) as never);
}

async function qemu(directory: string): Promise<Execute> {
  const path = join(directory, "qmp");
  const chardev = `socket,id=m,path=${path},server=on,wait=off`;
  const child = spawn("qemu-storage-daemon", ["--chardev", chardev, "--monitor", "m"], { stdio: "ignore" });
  const gone = once(child, "exit");
  onTestFinished(async () => {
    child.kill("SIGKILL");
    await gone;
  });
  for (;;) {
    const client = await QmpClient.connect({ path }).catch(() => undefined);
    if (client === undefined) {
      await new Promise((resolve) => setTimeout(resolve, 5));
      continue;
    }
    onTestFinished(() => client.close());
    return (command, args) => client.executeAny(command, args as never);
  }
}

/** A file of 8 MiB, and a raw node that begins in it at 1 MiB, exported. @returns a client of that */
async function served(execute: Execute, directory: string): Promise<NbdClient> {
  const [image, socket] = [join(directory, "image"), join(directory, "nbd")];
  writeFileSync(image, "");
  truncateSync(image, 8 * MiB);
  await execute("blockdev-add", { driver: "file", "node-name": "f", filename: image, discard: "unmap" });
  await execute("blockdev-add", {
    driver: "raw",
    "node-name": "r",
    file: "f",
    offset: MiB,
    size: 4 * MiB,
    discard: "unmap",
  });
  await execute("nbd-server-start", { addr: { type: "unix", data: { path: socket } } });
  await execute("block-export-add", { type: "nbd", id: "e", "node-name": "r", writable: true });
  const client = await NbdClient.connect(`nbd+unix:///r?socket=${socket}`);
  onTestFinished(() => client.destroy());
  return client;
}

async function statsOf(execute: Execute, node: string): Promise<Stats> {
  const all = await execute("query-blockstats", { "query-nodes": true });
  return all.find((one) => one["node-name"] === node)!.stats;
}

async function askForThings(client: NbdClient): Promise<void> {
  await client.write(new Uint8Array(65536).fill(1), 2 * MiB);
  await client.write(new Uint8Array(4096).fill(1), 0);
  await client.writeZeroes(3 * MiB, 8192);
  await client.read(new Uint8Array(4096), 0);
  await client.read(new Uint8Array(512), MiB);
  await client.trim(0, 65536);
  await client.flush();
}

test("a request that is done in pieces counts once, whoever does them, and the throttle lets it pass as one", async () => {
  const directory = scratch();
  const execute = ours();
  const client = await served(execute, directory);
  const large = new Uint8Array(3 * MiB).fill(1);
  const begun = performance.now();
  await client.write(large, 0);
  await client.read(large, MiB / 2);
  const tookNs = (performance.now() - begun) * 1e6;
  const stats = await statsOf(execute, "r");
  expect(stats).toMatchObject({
    ...{ wr_operations: 1, wr_bytes: 3 * MiB, wr_highest_offset: 3 * MiB },
    ...{ rd_operations: 1, rd_bytes: 3 * MiB, failed_rd_operations: 0, failed_wr_operations: 0 },
  });
  expect(stats.wr_total_time_ns + stats.rd_total_time_ns).toBeLessThanOrEqual(tookNs);
  // By helpers: a node that may wait. Two requests pass at once, and a third would wait for a minute.
  const limits = { "iops-total": 1, "iops-total-max": 1 };
  await execute("object-add", { "qom-type": "throttle-group", id: "slow", limits });
  await execute("blockdev-add", { driver: "null-co", "node-name": "n", size: 8 * MiB, "latency-ns": 1_000_000 });
  await execute("blockdev-add", { driver: "throttle", "node-name": "t", "throttle-group": "slow", file: "n" });
  await execute("block-export-add", { type: "nbd", id: "t", "node-name": "t", writable: true });
  const slow = await NbdClient.connect(`nbd+unix:///t?socket=${join(directory, "nbd")}`);
  onTestFinished(() => slow.destroy());
  await slow.write(large, 0);
  await slow.read(large, 0);
  expect(await statsOf(execute, "t")).toMatchObject({
    ...{ wr_operations: 1, wr_bytes: 3 * MiB, rd_operations: 1, rd_bytes: 3 * MiB, wr_highest_offset: 3 * MiB },
  });
  expect(performance.now() - begun).toBeLessThan(20_000); // as pieces: 22 s
});

test("a request that fails in a piece has failed once", async () => {
  const directory = scratch();
  const execute = ours();
  await served(execute, directory);
  await execute("blockdev-add", {
    driver: "blkdebug",
    "node-name": "b",
    image: "r",
    // In the third piece of four.
    "inject-error": [{ event: "none", iotype: "write", sector: (640 * 1024) / 512, errno: 5 }],
  });
  await execute("block-export-add", { type: "nbd", id: "b", "node-name": "b", writable: true });
  const client = await NbdClient.connect(`nbd+unix:///b?socket=${join(directory, "nbd")}`);
  onTestFinished(() => client.destroy());
  await expect(client.write(new Uint8Array(MiB), 0)).rejects.toThrow();
  expect(await statsOf(execute, "b")).toMatchObject({ wr_operations: 0, wr_bytes: 0, failed_wr_operations: 1 });
});

test("a client's requests are counted: operations, bytes, times, the highest offset", async () => {
  const directory = scratch();
  const execute = ours();
  const client = await served(execute, directory);
  expect(await statsOf(execute, "r")).not.toHaveProperty("idle_time_ns");
  await askForThings(client);
  const stats = await statsOf(execute, "r");
  expect(stats).toMatchObject({
    rd_operations: 2,
    rd_bytes: 4608,
    wr_operations: 3,
    wr_bytes: 65536 + 4096 + 8192,
    unmap_operations: 1,
    unmap_bytes: 65536,
    flush_operations: 1,
    wr_highest_offset: 3 * MiB + 8192,
    rd_merged: 0,
    failed_wr_operations: 0,
    invalid_rd_operations: 0,
  });
  for (const time of [stats.rd_total_time_ns, stats.wr_total_time_ns, stats.flush_total_time_ns]) {
    expect(time).toBeGreaterThan(0);
    expect(time).toBeLessThan(20e9);
  }
  const { idle_time_ns: idle } = stats as { idle_time_ns?: number };
  expect(idle).toBeGreaterThanOrEqual(0);
  expect(idle).toBeLessThan(20e9);
  // What stands under it had the same requests, further on.
  expect(await statsOf(execute, "f")).toMatchObject({ wr_operations: 3, wr_highest_offset: 4 * MiB + 8192 });
});

test("wr_highest_offset is QEMU's, of the node and of what it stands on", async (context) => {
  needQemu(context);
  const theirs = scratch();
  const mine = scratch();
  const [qemuDaemon, our] = [await qemu(theirs), ours()];
  const clients = [await served(qemuDaemon, theirs), await served(our, mine)];
  for (const client of clients) await askForThings(client);
  for (const node of ["r", "f"]) {
    const [qemuStats, ourStats] = [await statsOf(qemuDaemon, node), await statsOf(our, node)];
    expect(ourStats.wr_highest_offset, node).toBe(qemuStats.wr_highest_offset);
    const known = Object.keys(qemuStats).filter((name) => !(name in ourStats));
    expect(known).toEqual([]);
  }
});

/** A read past the end, which no client of ours would send. @returns the error of its reply */
async function readPastTheEnd(path: string, name: string): Promise<number> {
  const socket = connect(path);
  onTestFinished(() => void socket.destroy());
  const received: Buffer[] = [];
  let wake = (): void => {};
  socket.on("data", (chunk: Buffer) => {
    received.push(chunk);
    wake();
  });
  const take = async (bytes: number): Promise<Buffer> => {
    while (Buffer.concat(received).length < bytes) await new Promise<void>((resolve) => (wake = resolve));
    const all = Buffer.concat(received.splice(0));
    received.push(all.subarray(bytes));
    return all.subarray(0, bytes);
  };
  await take(18); // hello
  const option = Buffer.alloc(20);
  option.writeUInt32BE(3, 0); // fixed newstyle, no zeroes
  option.write("IHAVEOPT", 4, "latin1");
  option.writeUInt32BE(1, 12); // EXPORT_NAME
  option.writeUInt32BE(name.length, 16);
  socket.write(Buffer.concat([option, Buffer.from(name)]));
  await take(10); // size, flags
  const request = Buffer.alloc(28);
  request.writeUInt32BE(0x25609513, 0);
  request.writeBigUInt64BE(2n ** 40n, 16);
  request.writeUInt32BE(4096, 24);
  socket.write(request);
  return (await take(16)).readUInt32BE(4);
}

test("what is refused counts as invalid, what fails as failed, and neither as done", async () => {
  const directory = scratch();
  const execute = ours();
  await served(execute, directory);
  await execute("blockdev-add", {
    driver: "blkdebug",
    "node-name": "bad",
    image: { driver: "null-co", size: MiB },
    "inject-error": [{ event: "none", iotype: "write", errno: 5 }],
  });
  await execute("block-export-add", { type: "nbd", id: "b", "node-name": "bad", writable: true });
  const client = await NbdClient.connect(`nbd+unix:///bad?socket=${directory}/nbd`);
  onTestFinished(() => client.destroy());
  await expect(client.write(new Uint8Array(4096), 0)).rejects.toThrow();
  await client.read(new Uint8Array(4096), 0);
  expect(await readPastTheEnd(`${directory}/nbd`, "bad")).toBe(22);
  expect(await statsOf(execute, "bad")).toMatchObject({
    invalid_rd_operations: 1,
    failed_wr_operations: 1,
    wr_operations: 0,
    wr_bytes: 0,
    wr_highest_offset: 0,
    rd_operations: 1,
    failed_rd_operations: 0,
  });
});

test("a backup's writes are its target's", async () => {
  const directory = scratch();
  const execute = ours();
  await served(execute, directory);
  writeFileSync(join(directory, "target"), "");
  truncateSync(join(directory, "target"), 4 * MiB);
  await execute("blockdev-add", { driver: "file", "node-name": "t", filename: join(directory, "target") });
  const backup = { "job-id": "j", device: "r", target: "t", sync: "full", "auto-dismiss": false } as const;
  await execute("blockdev-backup", backup);
  for (;;) {
    const [job] = await execute("query-jobs", {});
    if (job.status === "concluded") break;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  const { wr_bytes: written, wr_highest_offset: highest } = await statsOf(execute, "t");
  expect([written, highest]).toEqual([4 * MiB, 4 * MiB]);
});
