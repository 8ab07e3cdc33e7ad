/** A point in time pulled by independent programs while fio writes: what they get is what the disk held at the instant. */
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { copyFileSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { createRuntime, type Runtime, type RuntimeOptions } from "@heirloom/runtime";
import { type CommandSet, listenOnUnixSocket, QmpClient, QmpService } from "@heirloom/qmp";
import { expect, onTestFinished, test } from "vitest";
import { needTool, scratchDirectory } from "../../packages/block/src/tool.fixture.ts";

const MiB = 2 ** 20;
const length = 64 * MiB;
const toEnd = promisify(execFile);

/** A service whose runtime copies the disk's file, with the gate closed, at each instant. */
class Station {
  readonly directory: string = scratchDirectory();
  readonly commands: CommandSet;
  readonly #service: QmpService;
  readonly runtime: Runtime;
  /** Files, each what the disk held at one instant. */
  readonly shadows: string[] = [];

  constructor(options: RuntimeOptions = {}) {
    this.runtime = createRuntime({
      ...options,
      observeFreeze: () => {
        const shadow = this.path(`shadow${this.shadows.length}`);
        copyFileSync(this.path("disk"), shadow);
        this.shadows.push(shadow);
      },
    });
    const service = new QmpService({ runtime: this.runtime, quit: () => {} });
    this.#service = service;
    this.commands = service.commands;
    onTestFinished(async () => {
      await this.runtime.close();
      await service.close();
    });
  }

  path(name: string): string {
    return join(this.directory, name);
  }
  uri(name: string): string {
    return `nbd+unix:///${name}?socket=${this.path("nbd")}`;
  }
  async run(command: string, args: Record<string, unknown> = {}): Promise<unknown> {
    return this.commands.carryOut(command, args);
  }
  async file(name: string, bytes: number): Promise<void> {
    writeFileSync(this.path(name), "");
    truncateSync(this.path(name), bytes);
    await this.run("blockdev-add", { driver: "file", "node-name": name, filename: this.path(name), discard: "unmap" });
  }

  async client(): Promise<QmpClient> {
    const monitor = this.#service.addMonitor();
    const server = await listenOnUnixSocket(this.path("qmp"), (socket) => monitor.accept(socket));
    const client = await QmpClient.connect({ path: this.path("qmp") });
    onTestFinished(() => {
      client.close();
      server.close();
    });
    return client;
  }

  /** A guest that writes at random until it is stopped. @returns what stops it, and says whether a write of it failed */
  async guest(name: string): Promise<() => Promise<number>> {
    const words = [
      ...["--name=guest", "--ioengine=nbd", `--uri=${this.uri(name)}`, `--size=${length}`, "--rw=randwrite"],
      ...["--bsrange=4k-256k", "--iodepth=8", "--time_based", "--runtime=120", "--norandommap", "--randrepeat=0"],
      "--output-format=json",
    ];
    const fio = spawn("fio", words, { stdio: ["ignore", "pipe", "ignore"], cwd: this.directory });
    let report = "";
    fio.stdout.setEncoding("utf8").on("data", (text: string) => (report += text));
    const ended = once(fio, "close");
    onTestFinished(() => void fio.kill("SIGKILL"));
    await expect.poll(() => this.runtime.disk("disk").traffic.bytes, { timeout: 20_000 }).toBeGreaterThan(8 * MiB);
    return async () => {
      fio.kill("SIGINT");
      await ended;
      // It says first that it was stopped.
      const { jobs } = JSON.parse(report.slice(report.indexOf("{"))) as { jobs: readonly { error: number }[] };
      return jobs[0].error;
    };
  }

  async differs(file: string, shadow: string): Promise<boolean> {
    return toEnd("cmp", [file, shadow]).then(
      () => false,
      () => true,
    );
  }
}

const ways = {
  "break-guest-write": { "on-cbw-error": "break-guest-write" },
  "break-snapshot": { "on-cbw-error": "break-snapshot", "cbw-timeout": 20 },
} as const;

test.for(["break-guest-write", "break-snapshot"] as const)(
  "nbdcopy and qemu-img pull one instant while fio overwrites the disk (%s)",
  { timeout: 120_000 },
  async (way, context) => {
    for (const tool of ["fio", "nbdcopy", "qemu-img"]) needTool(context, tool);
    const station = new Station();
    await station.file("disk", length);
    await station.file("scratch", length);
    await station.run("nbd-server-start", { addr: { type: "unix", data: { path: station.path("nbd") } } });
    await station.run("blockdev-add", { driver: "raw", "node-name": "top", file: "disk" });
    await station.run("block-export-add", { type: "nbd", id: "top", "node-name": "top", writable: true });
    const stop = await station.guest("top");

    const filter = { driver: "copy-before-write", "node-name": "cbw", file: "disk", target: "scratch", ...ways[way] };
    await station.run("blockdev-add", filter);
    await station.run("blockdev-reopen", { options: [{ driver: "raw", "node-name": "top", file: "cbw" }] });
    await station.run("blockdev-add", { driver: "snapshot-access", "node-name": "snap", file: "cbw" });
    await station.run("block-export-add", { type: "nbd", id: "snap", "node-name": "snap" });
    const [shadow] = station.shadows;
    await toEnd("nbdcopy", [station.uri("snap"), station.path("copied")]);
    await toEnd("qemu-img", ["convert", "-f", "raw", "-O", "raw", station.uri("snap"), station.path("converted")]);
    const same = ["compare", "-f", "raw", "-F", "raw", shadow, station.uri("snap")];
    expect((await toEnd("qemu-img", same)).stdout).toContain("Images are identical.");
    expect(await stop()).toBe(0); // no write of it failed
    expect(await station.differs(station.path("copied"), shadow)).toBe(false);
    expect(await station.differs(station.path("converted"), shadow)).toBe(false);
    expect(await station.differs(station.path("disk"), shadow)).toBe(true);
    expect(statSync(station.path("scratch")).blocks * 512).toBeGreaterThan(MiB);
    for (const id of ["snap", "top"]) await station.run("block-export-del", { id });
    await station.run("blockdev-del", { "node-name": "snap" });
    await station.run("blockdev-reopen", { options: [{ driver: "raw", "node-name": "top", file: "disk" }] });
    for (const name of ["cbw", "top", "scratch", "disk"]) await station.run("blockdev-del", { "node-name": name });
  },
);

test(
  "the instant is pushed to a target while fio overwrites the disk, and what has arrived is given up",
  { timeout: 120_000 },
  async (context) => {
    needTool(context, "fio");
    const station = new Station();
    await station.file("disk", length);
    await station.file("scratch", length);
    await station.file("backup", length);
    await station.run("nbd-server-start", { addr: { type: "unix", data: { path: station.path("nbd") } } });
    await station.run("block-export-add", { type: "nbd", id: "disk", "node-name": "disk", writable: true });
    const stop = await station.guest("disk");
    await station.run("blockdev-add", {
      driver: "copy-before-write",
      "node-name": "cbw",
      file: "disk",
      target: "scratch",
    });
    const [shadow] = station.shadows;
    const snapshot = { driver: "snapshot-access", "node-name": "snap", file: "cbw", discard: "unmap" };
    await station.run("blockdev-add", snapshot);
    const job = { "job-id": "push", device: "snap", target: "backup", sync: "full", "auto-dismiss": false };
    await station.run("blockdev-backup", { ...job, "discard-source": true, "x-perf": { "max-workers": 2 } });
    const jobs = (): Promise<unknown> => station.run("query-jobs");
    await expect.poll(jobs, { timeout: 60_000 }).toMatchObject([{ status: "concluded", "current-progress": length }]);
    expect(await jobs()).not.toMatchObject([{ error: expect.anything() }]);
    await station.run("job-dismiss", { id: "push" });
    expect(await station.differs(station.path("backup"), shadow)).toBe(false);
    // All of it was given up: the guest overwrites without a copy, and the scratch file empties.
    await expect.poll(() => statSync(station.path("scratch")).blocks, { timeout: 20_000 }).toBe(0);
    const before = station.runtime.disk("disk").traffic.bytes;
    await expect
      .poll(() => station.runtime.disk("disk").traffic.bytes, { timeout: 20_000 })
      .toBeGreaterThan(before + MiB);
    expect(await stop()).toBe(0);
    expect(statSync(station.path("scratch")).blocks).toBe(0);
  },
);

test("a live disk is not discarded", async () => {
  const station = new Station();
  await station.file("disk", MiB);
  await station.file("backup", MiB);
  const backup = { "job-id": "j", device: "disk", target: "backup", sync: "full", "discard-source": true };
  await expect(station.run("blockdev-backup", backup)).rejects.toThrow(
    "discard-source: 'disk' is no snapshot, and what it holds would be lost",
  );
});

test("a backup whose guests may fail: its target's errors are theirs, and the job goes on", async () => {
  const station = new Station();
  await station.file("disk", 4 * MiB);
  await station.file("backup", 4 * MiB);
  await station.run("blockdev-add", {
    driver: "blkdebug",
    "node-name": "full",
    image: "backup",
    "inject-error": [{ event: "none", iotype: "write", errno: 28, sector: 0 }],
  });
  const disk = station.runtime.disk("disk");
  await disk.write(new Uint8Array(4 * MiB).fill(1), 0);
  const backup = { "job-id": "j", device: "disk", target: "full", sync: "none", "on-cbw-error": "break-guest-write" };
  await station.run("blockdev-backup", { ...backup, "filter-node-name": "flt" });
  await station.run("blockdev-add", { driver: "snapshot-access", "node-name": "snap", file: "flt" });
  const no = { errno: 28 };
  await expect(disk.write(new Uint8Array(4096).fill(2), 0)).rejects.toMatchObject(no);
  await disk.write(new Uint8Array(4096).fill(2), MiB);
  expect(await station.run("query-jobs")).toMatchObject([{ status: "running" }]);
  const old = new Uint8Array(2 * MiB);
  await station.runtime.disk("snap").read(old, 0);
  expect(old.every((byte) => byte === 1)).toBe(true);
  await station.run("job-cancel", { id: "j" });
  await expect(station.runtime.disk("snap").read(old, 0)).rejects.toMatchObject({ errno: 5 });
  await disk.write(new Uint8Array(4096).fill(2), 0);
  await station.run("blockdev-del", { "node-name": "snap" });
  await station.run("blockdev-del", { "node-name": "full" });
});

test("a point in time that was given up says so, its reads fail, and the guest goes on", async () => {
  const station = new Station({ spill: { memory: 16 * 4096, file: 0 } });
  const client = await station.client();
  const events = client.events();
  await station.file("disk", 4 * MiB);
  await station.file("scratch", 4 * MiB);
  await station.run("blockdev-add", {
    driver: "blkdebug",
    "node-name": "full",
    image: "scratch",
    "inject-error": [{ event: "none", iotype: "write", errno: 28 }],
  });
  await station.runtime.disk("disk").write(new Uint8Array(4 * MiB).fill(1), 0);
  const filter = { driver: "copy-before-write", "node-name": "cbw", file: "disk", target: "full" };
  await station.run("blockdev-add", { ...filter, "on-cbw-error": "break-snapshot" });
  await station.run("blockdev-add", { driver: "snapshot-access", "node-name": "snap", file: "cbw" });
  const old = new Uint8Array(4096);
  await station.runtime.disk("cbw").write(new Uint8Array(8 * 4096).fill(2), 0); // the spill has it
  await station.runtime.disk("snap").read(old, 0);
  expect(old.every((byte) => byte === 1)).toBe(true);
  await station.runtime.disk("cbw").write(new Uint8Array(MiB).fill(2), MiB);
  for (const offset of [0, MiB, 3 * MiB]) {
    await expect(station.runtime.disk("snap").read(old, offset)).rejects.toMatchObject({ errno: 5 });
  }
  for await (const { name, data } of events) {
    expect(name).toBe("BLOCK_IO_ERROR");
    expect(data).toEqual({
      device: "",
      "node-name": "cbw",
      operation: "write",
      action: "ignore",
      nospace: true,
      reason: "the point in time was given up: the spill was full for longer than a guest may wait",
    });
    break;
  }
  for (const name of ["snap", "cbw", "full", "scratch", "disk"])
    await station.run("blockdev-del", { "node-name": name });
});

test("guests that wait for a slow target keep nobody else: another disk is written and flushed meanwhile", async (context) => {
  for (const tool of ["fio", "qemu-io"]) needTool(context, tool);
  const station = new Station();
  for (const name of ["disk", "scratch", "other"]) await station.file(name, length);
  await station.run("object-add", { "qom-type": "throttle-group", id: "slow", limits: { "bps-write": 1024 } });
  const slow = { driver: "throttle", "node-name": "slow", file: "scratch", "throttle-group": "slow" };
  await station.run("blockdev-add", slow);
  await station.run("nbd-server-start", { addr: { type: "unix", data: { path: station.path("nbd") } } });
  await station.runtime.disk("disk").write(new Uint8Array(length).fill(1), 0);
  await station.run("blockdev-add", { driver: "copy-before-write", "node-name": "cbw", file: "disk", target: "slow" });
  for (const name of ["cbw", "other"]) {
    await station.run("block-export-add", { type: "nbd", id: name, "node-name": name, writable: true });
  }
  const words = ["--name=guest", "--ioengine=nbd", `--uri=${station.uri("cbw")}`, `--size=${length}`, "--rw=randwrite"];
  const fio = spawn("fio", [...words, "--bs=4k", "--iodepth=32", "--numjobs=2"], {
    stdio: "ignore",
    cwd: station.directory,
  });
  onTestFinished(() => void fio.kill("SIGKILL"));
  // Its first writes are let through; then it stands still.
  const done = (): number => station.runtime.disk("cbw").traffic.requests;
  await expect.poll(done, { timeout: 20_000 }).toBeGreaterThan(1);
  const written = ["-f", "raw", "-c", "write -P 3 0 1M", "-c", "flush", "-c", "read -P 3 0 1M", station.uri("other")];
  for (let round = 0; round < 3; round++) await toEnd("qemu-io", written, { timeout: 20_000 });
  expect(fio.exitCode).toBe(null); // it waits still
  fio.kill("SIGKILL");
  await station.run("nbd-server-stop");
});
