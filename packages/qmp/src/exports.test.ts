/** Nodes that are exports of others, and what is told where there are none. */
import { spawnSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createRuntime } from "@heirloom/runtime";
import { type CommandSet, QmpError, QmpService } from "@heirloom/qmp";
import { expect, onTestFinished, test } from "vitest";
import { needQemu, scratchDirectory, startQemu } from "./qemu.fixture.ts";

class Station {
  readonly commands: CommandSet;
  constructor() {
    const runtime = createRuntime();
    const service = new QmpService({ runtime, quit: () => {} });
    this.commands = service.commands;
    onTestFinished(async () => {
      await runtime.close();
      await service.close();
    });
  }
  async run(command: string, args: Record<string, unknown> = {}): Promise<unknown> {
    return this.commands.carryOut(command, args);
  }
}

function image(directory: string, name: string, length: number, value: number): string {
  const path = join(directory, name);
  writeFileSync(path, new Uint8Array(length).fill(value));
  return path;
}

test.for(["clear", "psk"] as const)(
  "a node can be an export of QEMU's daemon, in %s, and a backup's target",
  async (how, context) => {
    needQemu(context);
    const directory = scratchDirectory();
    const length = 2 ** 20;
    const near = new Station();
    const dir = join(directory, "tls");
    const socket = join(directory, "nbd");
    const psk = how === "psk";
    mkdirSync(dir);
    writeFileSync(join(dir, "keys.psk"), `backup:${"0123456789abcdef".repeat(4)}\n`);
    const monitor = await startQemu(
      ...["--blockdev", `file,node-name=t,filename=${image(directory, "t", length, 0)}`],
      ...(psk ? ["--object", `tls-creds-psk,id=k,endpoint=server,dir=${dir}`] : []),
      ...["--nbd-server", `addr.type=unix,addr.path=${socket}${psk ? ",tls-creds=k" : ""}`],
      ...["--export", "nbd,id=e,node-name=t,writable=on"],
    );
    await monitor.line();
    if (psk)
      await near.run("object-add", {
        "qom-type": "tls-creds-psk",
        id: "k",
        dir,
        endpoint: "client",
        username: "backup",
      });
    await near.run("blockdev-add", { driver: "file", "node-name": "d", filename: image(directory, "d", length, 7) });
    const creds = psk ? { "tls-creds": "k" } : {};
    const remote = { driver: "nbd", "node-name": "t", server: { type: "unix", path: socket }, export: "t", ...creds };
    await near.run("blockdev-add", remote);
    if (psk) await expect(near.run("object-del", { id: "k" })).rejects.toThrow("in use");
    await near.run("blockdev-backup", { "job-id": "j", device: "d", target: "t", sync: "full", "auto-dismiss": false });
    const jobs = (): Promise<unknown> => near.run("query-jobs");
    await expect.poll(jobs, { timeout: 20_000 }).toMatchObject([{ status: "concluded", "current-progress": length }]);
    expect(await jobs()).not.toMatchObject([{ error: expect.anything() }]);
    await near.run("job-dismiss", { id: "j" });
    await near.run("blockdev-del", { "node-name": "t" });
    expect(spawnSync("cmp", [join(directory, "d"), join(directory, "t")]).status).toBe(0);
  },
);

test("what is not there is told as QEMU tells it", async () => {
  const station = new Station();
  const missing = { driver: "nbd", "node-name": "n", server: { type: "unix", path: "/nonexistent/nbd" } };
  await expect(station.run("blockdev-add", missing)).rejects.toThrow(QmpError);
  await expect(station.run("blockdev-add", missing)).rejects.toThrow(
    "Failed to connect to '/nonexistent/nbd': No such file or directory",
  );
  const socket = join(scratchDirectory(), "nbd");
  await station.run("nbd-server-start", { addr: { type: "unix", data: { path: socket } } });
  const wrong = { driver: "nbd", "node-name": "n", server: { type: "unix", path: socket }, export: "nosuch" };
  await expect(station.run("blockdev-add", wrong)).rejects.toThrow("Requested export not available");
});
