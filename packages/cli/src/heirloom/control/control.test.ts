/** `heirloom serve --control` and the commands that drive it, but for backups. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, rmSync, statSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { QmpClient } from "@heirloom/qmp";
import { expect, onTestFinished, test } from "vitest";
import { heirloom, needTool, runHeirloom, scratchDirectory, Serve } from "../command.fixture.ts";
import { nodeNameFor } from "../../../dist/heirloom/serve/node-name.js";
import { drive, kinds, length } from "./driven.fixture.ts";

for (const kind of kinds) {
  test(`${kind}: bitmaps are added, changed, merged and removed`, async (context) => {
    const { heirloom: run } = await drive(context, kind);
    const bitmap = (name: string, more: object = {}): object => ({
      node: "disk",
      name,
      granularity: 65536,
      count: 0,
      recording: true,
      busy: false,
      persistent: false,
      inconsistent: false,
      ...more,
    });
    const json = async (...words: string[]): Promise<unknown> => {
      const { status, output, errors } = await run("bitmap", ...words, "--json");
      expect({ status, errors }, words.join(" ")).toEqual({ status: 0, errors: "" });
      return JSON.parse(output);
    };
    expect(await json("add", "disk", "daily")).toEqual({ bitmap: bitmap("daily") });
    expect(await json("add", "disk", "weekly", "-g", "1M", "--disabled")).toEqual({
      bitmap: bitmap("weekly", { granularity: 2 ** 20, recording: false }),
    });
    expect(await json("enable", "disk", "weekly")).toMatchObject({ bitmap: { recording: true } });
    expect(await json("disable", "disk", "weekly")).toMatchObject({ bitmap: { recording: false } });
    expect(await json("merge", "disk", "weekly", "daily")).toMatchObject({ bitmap: { name: "weekly" } });
    expect(await json("merge", "disk", "weekly", "daily", "--from", "disk")).toMatchObject({ bitmap: { count: 0 } });
    expect(await json("clear", "disk", "daily")).toMatchObject({ bitmap: { name: "daily", count: 0 } });
    expect(await json("list", "disk")).toMatchObject({ bitmaps: [{ name: "daily" }, { name: "weekly" }] });
    expect((await run("bitmap", "list")).output).toBe(
      "NODE   BITMAP   DIRTY   GRANULARITY   STATE\n" +
        "disk   daily    0 B     64 KiB        recording\n" +
        "disk   weekly   0 B     1 MiB         disabled\n",
    );
    expect(await json("remove", "disk", "weekly")).toMatchObject({ bitmap: { name: "weekly" } });
    expect(await json("list")).toEqual({ bitmaps: [bitmap("daily")] });
  });
}

test("the control socket is its owner's alone; a stale one is replaced, a live one refused, and it goes at the end", async (context) => {
  const { control, child, directory, image } = await drive(context, "heirloom serve");
  expect(statSync(control).mode & 0o777).toBe(0o600);
  const other = join(directory, "other.raw");
  const words = [
    "serve",
    `json:{"driver":"memory","size":1048576}=m`,
    "--socket",
    join(directory, "n"),
    "--control",
    control,
  ];
  const refused = await runHeirloom(words);
  expect(refused).toMatchObject({ status: 1, output: "" });
  expect(refused.errors).toContain("--control: Failed to bind socket");
  expect(refused.errors).toContain("Somebody answers there: choose another --control");
  expect(existsSync(join(directory, "n"))).toBe(false);
  child.kill("SIGKILL");
  await once(child, "exit");
  expect(existsSync(control)).toBe(true);
  rmSync(other, { force: true });
  const next = new Serve([image, "--socket", join(directory, "n"), "--control", control]);
  expect(await next.ready()).toMatchObject({ control, exports: [{ name: "disk.raw", node: "disk.raw" }] });
  expect(await next.end("SIGTERM")).toMatchObject({ status: 0 });
  expect(existsSync(control)).toBe(false);
});

test("what is served is there over QMP: nodes, exports, bitmaps; it is not a client's to take away; quit is a clean stop", async () => {
  const directory = scratchDirectory();
  const control = join(directory, "c");
  const memory = (name: string): string => `json:{"driver":"memory","size":1048576}=${name}`;
  const args = [memory("vm"), memory("1: odd"), "--socket", join(directory, "s"), "--control", control];
  const serve = new Serve([...args, "--bitmap", "b"]);
  await serve.ready();
  const qmp = await QmpClient.connect({ path: control });
  const nodes = await qmp.execute("query-named-block-nodes");
  expect(nodes.map((node) => [node["node-name"], node.drv, node["dirty-bitmaps"]?.length])).toEqual([
    ["disk-1--odd", "memory", 1],
    ["vm", "memory", 1],
  ]);
  const exports = await qmp.execute("query-block-exports");
  expect(exports.map((one) => one["node-name"])).toEqual(["disk-1--odd", "vm"]);
  const addr = { type: "unix", data: { path: join(directory, "x") } } as const;
  await expect(qmp.execute("nbd-server-start", { addr })).rejects.toThrow("NBD server already running");
  await qmp.execute("block-export-del", { id: exports[1].id });
  await expect(qmp.execute("blockdev-del", { "node-name": "vm" })).rejects.toThrow("not owned by the monitor");
  const others = await Promise.all([1, 2, 3].map(() => QmpClient.connect({ path: control })));
  for (const other of others) expect(await other.execute("query-jobs")).toEqual([]);
  await qmp.execute("quit");
  expect(await serve.end()).toEqual({ status: 0, errors: "" });
  expect(serve.events).toContainEqual(expect.objectContaining({ event: "stopping", signal: "quit" }));
  for (const client of [qmp, ...others]) client.close();
});

test("a node's name is what QMP can say, and nobody else's", () => {
  const taken = new Set<string>();
  const name = (exported: string): string => {
    const given = nodeNameFor(exported, (other) => taken.has(other));
    taken.add(given);
    return given;
  };
  expect(["vm.raw", "vm.raw", "", "1", "a b/c", "x".repeat(40), "x".repeat(41)].map(name)).toEqual([
    ...["vm.raw", "vm.raw-2", "disk-", "disk-1", "a-b-c", "x".repeat(31), `${"x".repeat(29)}-2`],
  ]);
});

test("explain tells why a backup was a full one, and what became of the bitmap", async (context) => {
  const { heirloom: run } = await drive(context, "heirloom serve", "--bitmap", "daily");
  await run("backup", "disk", "full.raw", "--bitmap", "daily");
  const job = await run("explain", "backup-1");
  expect(job.output).toMatch(
    /^job backup-1: completed\n {2}why: sync full: bitmap daily begins anew when it succeeds\n {2}from disk to .*full\.raw/,
  );
  const bitmap = await run("explain", "disk/daily");
  expect(bitmap.output.split("\n").map((line) => line.replace(/^ *\S+ \S+ +/, "").replaceAll(/ +/g, " "))).toEqual([
    "recording",
    "begins recording",
    "freeze recording -> frozen job backup-1",
    "abdicate frozen -> recording backup backup-1 succeeded",
    "",
  ]);
  const json = JSON.parse((await run("explain", "disk", "--json")).output) as { actors: { kind: string }[] };
  expect(json.actors.map(({ kind }) => kind)).toEqual(["disk", "bitmap", "job", "export"]);
  expect(await run("explain", "nothing")).toMatchObject({
    status: 1,
    errors:
      "heirloom: nothing is called 'nothing'\n  There are: disk disk, bitmap disk/daily, job backup-1, export disk\n",
  });
});

test("qemu-storage-daemon keeps no history, and that is said", async (context) => {
  const { heirloom: run } = await drive(context, "qemu-storage-daemon");
  const { status, errors } = await run("explain");
  expect({ status, errors }).toEqual({
    status: 1,
    errors: expect.stringMatching(/keeps no history\n.*is not Heirloom/),
  });
});

const refusals: [words: string[], status: number, errors: string][] = [
  [["bitmap", "add", "nope", "x"], 1, "Nodes that there are: disk"],
  [["bitmap", "add", "disk", "daily"], 1, "Bitmap already exists: daily\n  Bitmaps of 'disk': daily\n"],
  [["bitmap", "clear", "disk", "x"], 1, "Bitmaps of 'disk': daily\n  Add it: heirloom bitmap add disk x\n"],
  [["bitmap", "list", "nope"], 1, "there is no node 'nope'\n  Nodes that there are: disk"],
  [["bitmap", "add", "disk", "x", "-g", "3"], 2, "the granularity '3' is none"],
  [["bitmap", "frob"], 2, "no command 'frob'"],
  [["cancel", "nope"], 1, "Job not found\n  There are no jobs."],
];

test("what is refused is told with the next step", { timeout: 120_000 }, async (context) => {
  const { heirloom: run } = await drive(context, "heirloom serve", "--bitmap", "daily");
  for (const [words, status, text] of refusals) {
    const ran = await run(...words);
    expect(ran.errors).toContain(text);
    expect(ran).toMatchObject({ status, output: "" });
  }
});

test("a bitmap that a job has is busy, and the job is named", async (context) => {
  const { heirloom: run, control } = await drive(context, "heirloom serve", "--bitmap", "daily");
  const qmp = await QmpClient.connect({ path: control });
  await qmp.execute("blockdev-add", { driver: "null-co", "node-name": "t", size: length });
  const backup = { "job-id": "j", device: "disk", target: "t", bitmap: "daily", "bitmap-mode": "on-success" } as const;
  await qmp.execute("blockdev-backup", { ...backup, sync: "full", speed: 1024 });
  const { status, errors } = await run("bitmap", "clear", "disk", "daily");
  expect(status).toBe(1);
  expect(errors).toContain("The job 'j' has it: wait for it ('heirloom jobs'), or heirloom cancel j");
  qmp.close();
});

test("whom nobody answers for: each way of it is told, with what to do", async () => {
  const directory = scratchDirectory();
  const at = (name: string): string => join(directory, name);
  const errorsOf = async (control: string | undefined): Promise<string> => {
    const env = { ...process.env, HEIRLOOM_CONTROL: control };
    return (await runHeirloom(["jobs"], { env })).errors;
  };
  expect(await errorsOf(undefined)).toContain("Give --control PATH, or set HEIRLOOM_CONTROL");
  expect(await errorsOf(at("none"))).toContain(`there is no socket '${at("none")}'\n  Start one: heirloom serve`);
  const silent = createServer();
  await new Promise<void>((resolve) => silent.listen(at("silent"), resolve));
  onTestFinished(() => void silent.close());
  expect(await errorsOf(at("silent"))).toContain("A monitor has one client at a time");
});

test("names of nodes and jobs are completed where the environment says whom to ask", async (context) => {
  const { heirloom: run } = await drive(context, "heirloom serve");
  expect((await run("complete", "--", "backup", "d")).output).toBe("disk\n");
  expect((await run("complete", "--", "bitmap", "add", "")).output).toBe("disk\n");
  expect((await run("complete", "--", "bitmap", "")).output.split("\n")).toContain("merge");
});

test("a serve that is stopped cancels its jobs, and those who follow them hear of it", async (context) => {
  const driven = await drive(context, "heirloom serve", "--bitmap", "daily");
  needTool(context, "bash");
  const args = [heirloom, "backup", "disk", "copy", "--bitmap", "daily", "--speed", "64k"];
  const child = spawn(process.execPath, args, { cwd: driven.directory, env: driven.env });
  let errors = "";
  const closed = once(child, "close");
  const begun = new Promise<void>((resolve) => {
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      errors += text;
      if (errors.includes("has begun")) resolve();
    });
  });
  await begun;
  driven.child.kill("SIGTERM");
  await closed;
  expect(child.exitCode).toBe(1);
  expect(errors).toContain("backup-1 was cancelled by somebody else");
  expect(existsSync(join(driven.directory, "copy.partial"))).toBe(false);
});
