/** A point in time pulled by independent programs while fio writes: what they get is what the disk held at the instant. */
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { copyFileSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { createRuntime, type Runtime } from "@heirloom/runtime";
import { type CommandSet, QmpService } from "@heirloom/qmp";
import { expect, onTestFinished, test } from "vitest";
import { needTool, scratchDirectory } from "../../block/src/tool.fixture.ts";

const MiB = 2 ** 20;
const length = 64 * MiB;
const toEnd = promisify(execFile);

/** A service whose runtime copies the disk's file, with the gate closed, at each instant. */
class Station {
  readonly directory: string = scratchDirectory();
  readonly commands: CommandSet;
  readonly runtime: Runtime;
  /** Files, each what the disk held at one instant. */
  readonly shadows: string[] = [];

  constructor() {
    this.runtime = createRuntime({
      observeFreeze: () => {
        const shadow = this.path(`shadow${this.shadows.length}`);
        copyFileSync(this.path("disk"), shadow);
        this.shadows.push(shadow);
      },
    });
    const service = new QmpService({ runtime: this.runtime, quit: () => {} });
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
