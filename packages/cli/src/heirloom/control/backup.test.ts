/** Backups as people take them, of whoever is driven: what is in the copy, what the bitmap says afterwards, what is told. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { NbdClient } from "@heirloom/nbd";
import { QmpClient } from "@heirloom/qmp";
import { expect, onTestFinished, test } from "vitest";
import { heirloom, needTool } from "../command.fixture.ts";
import { drive, type Driven, kinds, length } from "./driven.fixture.ts";

async function write({ uri }: Driven, offset: number, bytes: number, fill: number): Promise<void> {
  const client = await NbdClient.connect(uri);
  await client.write(new Uint8Array(bytes).fill(fill), offset);
  await client.close();
}

async function dirty({ heirloom: run }: Driven, name: string): Promise<number> {
  const { output } = await run("bitmap", "list", "--json");
  const { bitmaps } = JSON.parse(output) as { bitmaps: { name: string; count: number }[] };
  return bitmaps.find((bitmap) => bitmap.name === name)!.count;
}

function sameBytes(one: string, other: string): boolean {
  return readFileSync(one).equals(readFileSync(other));
}

interface Running {
  readonly errors: () => string;
  readonly output: () => string;
  readonly until: (text: string) => Promise<void>;
  readonly kill: (signal: NodeJS.Signals) => void;
  readonly ended: Promise<number | null>;
}

/** `heirloom backup` that is slow enough to be met while it runs. */
function begin(driven: Driven, ...words: string[]): Running {
  const child = spawn(process.execPath, [heirloom, "backup", ...words], { cwd: driven.directory, env: driven.env });
  let [output, errors] = ["", ""];
  let wake = (): void => {};
  child.stdout.setEncoding("utf8").on("data", (text: string) => (output += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    errors += text;
    wake();
  });
  const closed = once(child, "close") as Promise<[number | null]>;
  onTestFinished(async () => {
    child.kill("SIGKILL");
    await closed;
  });
  return {
    errors: () => errors,
    output: () => output,
    until: async (text) => {
      while (!errors.includes(text)) {
        if (child.exitCode !== null) throw new Error(`ended without '${text}': ${errors}`);
        await new Promise<void>((resolve) => (wake = resolve));
      }
    },
    kill: (signal) => void child.kill(signal),
    ended: closed.then(([code]) => code),
  };
}

for (const kind of kinds) {
  test(`${kind}: a full backup anchors the bitmap, and an update copies what was written since`, async (context) => {
    const driven = await drive(context, kind);
    const { heirloom: run, directory, image } = driven;
    expect((await run("bitmap", "add", "disk", "daily")).status).toBe(0);
    await write(driven, 0, 65536, 1);
    const full = await run("backup", "disk", "copy.raw", "--bitmap", "daily");
    expect(full).toMatchObject({
      status: 0,
      errors: expect.stringMatching(/^backup-1 has begun\. Ctrl-C cancels it\.$/m),
    });
    expect(full.output).toContain(`${directory}/copy.raw: all of disk, 4 MiB`);
    expect(full.output).toContain("daily says what was written since it began: 0 B");
    expect(sameBytes(image, join(directory, "copy.raw"))).toBe(true);

    await write(driven, 3 * 65536, 65536, 2);
    const update = await run("backup", "disk", "copy.raw", "--bitmap", "daily", "--update", "--json");
    expect(update.status).toBe(0);
    expect(JSON.parse(update.output)).toEqual({
      job: expect.stringMatching(/^backup-\d+$/),
      node: "disk",
      target: join(directory, "copy.raw"),
      sync: "incremental",
      bitmap: "daily",
      bitmapMode: "on-success",
      status: "completed",
      error: null,
      diskLength: length,
      offset: 65536,
      length: 65536,
      seconds: expect.any(Number),
      dirty: 0,
    });
    expect(sameBytes(image, join(directory, "copy.raw"))).toBe(true);
    expect(readdirSync(directory).sort()).toEqual(["control", "copy.raw", "disk.raw", "nbd"]);
  });

  test(`${kind}: Ctrl-C cancels, the bitmap is reclaimed, and nothing is left`, async (context) => {
    const driven = await drive(context, kind);
    await driven.heirloom("bitmap", "add", "disk", "daily");
    await write(driven, 0, 65536, 1);
    const backup = begin(driven, "disk", "copy.raw", "--bitmap", "daily", "--speed", "64k", "--json");
    await backup.until("has begun");
    await write(driven, length - 65536, 65536, 2);
    backup.kill("SIGINT");
    expect(await backup.ended).toBe(1);
    expect(backup.errors()).toContain("heirloom: backup-1 was cancelled by SIGINT\n");
    expect(backup.errors()).toContain("The bitmap daily was reclaimed, nothing is forgotten: it says 128 KiB.");
    expect(backup.errors()).toContain(`'${driven.directory}/copy.raw' was not made.`);
    expect(JSON.parse(backup.output())).toMatchObject({ status: "cancelled", error: null, dirty: 131072 });
    expect(readdirSync(driven.directory).sort()).toEqual(["control", "disk.raw", "nbd"]);
    expect(await dirty(driven, "daily")).toBe(131072);
    expect(JSON.parse((await driven.heirloom("jobs", "--json")).output)).toEqual({ jobs: [] });
  });
}

test("a target that fails: the job's error is told, the bitmap says what it said", async (context) => {
  const driven = await drive(context, "heirloom-storage-daemon");
  await driven.heirloom("bitmap", "add", "disk", "daily");
  await write(driven, 0, 65536, 1);
  const qmp = await QmpClient.connect({ path: driven.control });
  await qmp.execute("blockdev-add", {
    driver: "blkdebug",
    "node-name": "bad",
    image: { driver: "null-co", size: length },
    "inject-error": [{ event: "none", iotype: "write", errno: 28 }],
  });
  qmp.close();
  const { status, errors } = await driven.heirloom(
    "backup",
    "disk",
    "bad",
    "--bitmap",
    "daily",
    "--sync",
    "incremental",
  );
  expect(status).toBe(1);
  expect(errors).toContain("heirloom: backup-1 failed: No space left on device\n");
  expect(errors).toContain("The bitmap daily was reclaimed, nothing is forgotten: it says 64 KiB.");
  expect(errors).toContain("The target is partly written.");
  const told = await driven.heirloom("explain", "backup-1");
  expect(told.output).toMatch(/^job backup-1: failed: No space left on device\n {2}why: what bitmap daily says/);
  expect(told.output).toContain("from disk to bad");
});

test("who is driven dies in the middle: it is said that nobody knows, and what there is is left", async (context) => {
  const driven = await drive(context, "heirloom serve", "--bitmap", "daily");
  const backup = begin(driven, "disk", "copy.raw", "--bitmap", "daily", "--speed", "64k");
  await backup.until("has begun");
  driven.child.kill("SIGKILL");
  expect(await backup.ended).toBe(1);
  expect(backup.errors()).toContain(`backup-1: the connection to '${driven.control}' was lost`);
  expect(backup.errors()).toContain(`What there is of the copy is '${driven.directory}/copy.raw.partial'`);
  expect(existsSync(join(driven.directory, "copy.raw.partial"))).toBe(true);
});

test("killed itself, it leaves a job that goes on, and that others see and cancel meanwhile", async (context) => {
  const driven = await drive(context, "heirloom serve", "--bitmap", "daily");
  await write(driven, 0, 65536, 1);
  const backup = begin(driven, "disk", "copy.raw", "--bitmap", "daily", "--speed", "64k");
  await backup.until("has begun");
  const { output } = await driven.heirloom("jobs"); // any number of clients at once
  expect(output).toMatch(/^JOB +STATUS +DONE +OF +LIMIT +ERROR\nbackup-1 +running +\d+ % +4 MiB +64 KiB\/s\n$/);
  backup.kill("SIGKILL");
  await backup.ended;
  const cancelled = await driven.heirloom("cancel", "backup-1", "--json");
  expect(JSON.parse(cancelled.output)).toEqual({ job: "backup-1", status: "cancelled" });
  expect(await dirty(driven, "daily")).toBe(65536);
  const next = await driven.heirloom("backup", "disk", "copy.raw", "--bitmap", "daily");
  expect(next.errors).toContain("'" + driven.directory + "/copy.raw.partial' exists already");
  expect(next.errors).toContain("one was killed and has left it behind");
});

test("on a terminal: a bar that is written anew, and Ctrl-C", async (context) => {
  needTool(context, "script", "stty");
  const driven = await drive(context, "heirloom serve");
  const command = `stty cols 100; exec '${process.execPath}' '${heirloom}' backup disk copy.raw --speed 512k`;
  const { NO_COLOR: _, CI: __, ...inherited } = driven.env;
  const env = { ...inherited, TERM: "xterm-256color" };
  const child = spawn("script", ["-qefc", command, "/dev/null"], { cwd: driven.directory, env });
  let output = "";
  const closed = once(child, "close");
  const interrupted = new Promise<void>((resolve) => {
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      output += text;
      if (/━.* [1-9]\d* %, .*MiB copied|━.* [1-9]\d* %, .*KiB copied/.test(output)) resolve();
    });
  });
  await interrupted;
  child.stdin.write("\x03");
  await closed;
  expect(child.exitCode).toBe(1);
  expect(output).toContain("\x1b[1A"); // one line up, to write it anew
  expect(output).toContain("Cancelling backup-1 (SIGINT; again: leave it to end by itself)");
});

const refusals: [why: string, words: string[], status: number, errors: string][] = [
  ["no such node", ["nope", "t"], 1, "there is no node 'nope'\n  Nodes that there are: disk"],
  ["no such bitmap", ["disk", "t", "--bitmap", "x"], 1, "Bitmap 'x' could not be found\n  Bitmaps of 'disk': shown"],
  ["a bitmap that clients see", ["disk", "t", "--bitmap", "shown"], 1, "The export 'disk' shows it to NBD clients"],
  ["a target that is there", ["disk", "disk.raw"], 1, "exists already\n  Give a new name; or --update"],
  ["an update of nothing", ["disk", "t", "--update"], 1, "there is no 't' to bring up to date\n  Leave --update out"],
  ["an update of another disk", ["disk", "short", "--update"], 1, "'short' has 512 bytes, and 'disk' has 4194304\n"],
  ["its own image", ["disk", "disk.raw", "--update"], 1, "heirloom: "],
  ["a directory that is not there", ["disk", "no/t"], 1, "No such file or directory"],
  ["an increment alone", ["disk", "t", "--bitmap", "shown", "--sync", "incremental"], 2, "would lose which parts"],
  ["a mode without a bitmap", ["disk", "t", "--sync", "bitmap"], 2, "it needs --bitmap NAME"],
  ["a URI", ["disk", "nbd://x/y"], 2, "is a URI; expected the path of a file"],
  ["no id", ["disk", "t", "--job", "1"], 2, "'1' is no id"],
];

test("what cannot be is refused, with the next step, and nothing is left", { timeout: 120_000 }, async (context) => {
  const driven = await drive(context, "heirloom serve", "--bitmap", "shown,export=on");
  writeFileSync(join(driven.directory, "short"), "");
  truncateSync(join(driven.directory, "short"), 512);
  const before = readdirSync(driven.directory);
  for (const [why, words, status, text] of refusals) {
    const ran = await driven.heirloom("backup", ...words);
    expect(ran.errors, why).toContain(text);
    expect(ran.status, why).toBe(status);
    expect(readdirSync(driven.directory), why).toEqual(before);
  }
});
