/** Resumable backups as people take them: cut off in the middle, and gone on with by `heirloom resume`. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync, renameSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { NbdClient } from "@heirloom/nbd";
import { QmpClient } from "@heirloom/qmp";
import { expect, onTestFinished, test } from "vitest";
import { heirloom } from "../command.fixture.ts";
import { drive, type Driven, length } from "./driven.fixture.ts";

const kept = ["--bitmap", "daily", "--journal", "beside", "--journal-allow-tmpfs"];

async function write({ uri }: Driven, offset: number, bytes: number, fill: number): Promise<void> {
  const client = await NbdClient.connect(uri);
  await client.write(new Uint8Array(bytes).fill(fill), offset);
  await client.close();
}

/** A backup that has begun, slow enough to be cut off. `over` is what it says at its end. */
interface Begun {
  readonly over: Promise<{ readonly status: number | null; readonly errors: string }>;
}

async function begin(driven: Driven, ...words: string[]): Promise<Begun> {
  const args = [heirloom, "backup", "disk", "copy.raw", "--bitmap", "daily", "--job", "monday", ...words];
  const child = spawn(process.execPath, args, { cwd: driven.directory, env: driven.env });
  const closed = once(child, "close") as Promise<[number | null]>;
  onTestFinished(async () => {
    child.kill("SIGKILL");
    await closed;
  });
  let errors = "";
  await new Promise<void>((resolve, reject) => {
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      errors += text;
      if (errors.includes("has begun")) resolve();
    });
    closed.then(() => reject(new Error(errors)), reject);
  });
  return { over: closed.then(([status]) => ({ status, errors })) };
}

/** The disk is backed up, who serves it ends by a signal while a guest writes, and is there again. */
async function cutOff(signal: NodeJS.Signals, ...words: string[]): Promise<{ driven: Driven; shadow: Buffer }> {
  const first = await drive(undefined, "heirloom serve", ...kept);
  const shadow = readFileSync(first.image);
  const backup = await begin(first, "--resumable", "--speed", "64k", ...words);
  await write(first, 65536, 65536, 7);
  const driven = await first.again(signal, ...kept);
  const { status, errors } = await backup.over;
  expect(status).toBe(1);
  expect(errors).toContain(`monday: the connection to '${first.control}' was lost`);
  expect(errors).toContain("heirloom resume monday");
  return { driven, shadow };
}

const target = (driven: Driven): string => join(driven.directory, "copy.raw.partial");

test.each(["SIGKILL", "SIGTERM"] as const)(
  "%s: 'jobs' says what the backup waits for, and 'resume' goes on with its point in time",
  async (signal) => {
    const { driven, shadow } = await cutOff(signal, ...(signal === "SIGTERM" ? ["--sync-spill"] : []));
    const jobs = await driven.heirloom("jobs");
    expect(jobs.output).toMatch(/^monday +paused .* 4 MiB/m);
    expect(jobs.output).toContain(`monday was cut off, and waits for its target '${target(driven)}'`);
    expect(jobs.output).toContain("To go on: heirloom resume monday. To give it up: heirloom cancel monday;");
    const told = JSON.parse((await driven.heirloom("jobs", "--json")).output) as {
      jobs: { waits: { target: string; frozenAt: string; until: string } }[];
    };
    const [{ waits }] = told.jobs;
    expect(waits.target).toBe(target(driven));
    expect(Date.parse(waits.until) - Date.parse(waits.frozenAt)).toBeGreaterThanOrEqual(24 * 60 * 60 * 1000);
    await write(driven, 3 * 65536, 65536, 8); // its bitmap's successor records
    const busy = await driven.heirloom("bitmap", "clear", "disk", "daily");
    expect(busy.errors).toContain(
      "'monday' was cut off, and has it: heirloom resume monday, or heirloom cancel monday",
    );

    const resumed = await driven.heirloom("resume", "monday", "--speed", "1G", "--json");
    expect(resumed).toMatchObject({ status: 0, errors: expect.stringMatching(/^monday goes on\. Ctrl-C/) });
    expect(JSON.parse(resumed.output)).toMatchObject({
      ...{ job: "monday", node: "disk", target: join(driven.directory, "copy.raw"), sync: "full" },
      ...{ bitmap: "daily", bitmapMode: "on-success", status: "completed", error: null },
      ...{ diskLength: length, offset: length, length, dirty: 2 * 65536 },
    });
    expect(readFileSync(join(driven.directory, "copy.raw")).equals(shadow)).toBe(true);
    expect(existsSync(target(driven))).toBe(false);
    expect(JSON.parse((await driven.heirloom("jobs", "--json")).output)).toEqual({ jobs: [] });
  },
);

test("a target that was moved is said; any other file, or none, is refused, and the job waits on", async () => {
  const { driven, shadow } = await cutOff("SIGKILL");
  const [moved, other] = ["moved.raw", "other.raw"].map((name) => join(driven.directory, name));
  renameSync(target(driven), moved);
  writeFileSync(other, "");
  truncateSync(other, length);
  for (const [words, text] of [
    [[], "copy.raw.partial'"],
    [["other.raw"], `goes on with its target '${target(driven)}' alone, not with '${other}'; it waits on`],
    [["nobody"], "waits for its target"],
    [["disk.raw"], 'Failed to get "write" lock'],
  ] as const) {
    const { status, errors } = await driven.heirloom("resume", "monday", ...words);
    expect(status, errors).toBe(1);
    expect(errors).toContain(text);
    expect((await driven.heirloom("jobs")).output).toContain("monday was cut off, and waits");
  }
  expect(await driven.heirloom("resume", "monday", "moved.raw", "--speed", "1G")).toMatchObject({ status: 0 });
  expect(readFileSync(moved).equals(shadow)).toBe(true);
});

test("'cancel' gives it up: the bitmap says what was written before and since", async () => {
  const { driven } = await cutOff("SIGKILL");
  await driven.heirloom("cancel", "monday");
  const { bitmaps } = JSON.parse((await driven.heirloom("bitmap", "list", "--json")).output) as { bitmaps: object[] };
  expect(bitmaps).toMatchObject([{ name: "daily", count: 65536, busy: false, persistent: true }]);
  expect((await driven.heirloom("resume", "monday")).errors).toContain("Job not found\n  There are no jobs.");
});

test("served without --control the guest has its disk all the same, and it is said how to go on", async () => {
  const { driven } = await cutOff("SIGKILL");
  driven.child.kill("SIGKILL");
  await once(driven.child, "exit");
  const words = [heirloom, "serve", `${driven.image}=disk`, "--socket", join(driven.directory, "nbd"), ...kept];
  const child = spawn(process.execPath, words, { stdio: ["ignore", "pipe", "inherit"] });
  onTestFinished(() => void child.kill("SIGKILL"));
  let output = "";
  for await (const text of child.stdout.setEncoding("utf8") as AsyncIterable<string>) {
    output += text;
    if (output.includes("Ready.")) break;
  }
  expect(output).toContain("its backup 'monday' waits for its target");
  expect(output).toContain("with --control PATH: heirloom resume monday, or heirloom cancel monday");
  await write(driven, 0, 4096, 9);
});

test("a job that a user has paused is resumed as well, and followed; completion offers those that can be", async () => {
  const driven = await drive(undefined, "heirloom serve", ...kept);
  const backup = await begin(driven, "--speed", "64k");
  const qmp = await QmpClient.connect({ path: driven.control });
  await qmp.execute("job-pause", { id: "monday" });
  qmp.close();
  expect((await driven.heirloom("complete", "resume", "")).output).toBe("monday\n");
  const withTarget = await driven.heirloom("resume", "monday", "copy.raw");
  expect(withTarget.errors).toContain(`'monday' has its target, '${target(driven)}'`);
  const { status, errors } = await driven.heirloom("resume", "monday", "--speed", "1G");
  expect({ status, errors }).toMatchObject({ status: 0, errors: expect.stringMatching(/^monday goes on/) });
  await backup.over; // both follow it; one of them gives the copy its name
  expect(readFileSync(join(driven.directory, "copy.raw")).length).toBe(length);
});

test("what cannot be resumable is refused, with the next step", async () => {
  const driven = await drive(undefined, "heirloom serve", "--bitmap", "fleeting");
  const none = await driven.heirloom("backup", "disk", "copy.raw", "--resumable");
  expect(none).toMatchObject({ status: 2, errors: expect.stringContaining("--resumable needs --bitmap NAME") });
  const fleeting = await driven.heirloom("backup", "disk", "copy.raw", "--resumable", "--bitmap", "fleeting");
  expect(fleeting.status).toBe(1);
  expect(fleeting.errors).toContain("cannot be resumable: it needs a persistent bitmap");
  expect(fleeting.errors).toContain("heirloom bitmap add disk NAME --persistent");
  const alone = await driven.heirloom("backup", "disk", "copy.raw", "--sync-spill");
  expect(alone).toMatchObject({ status: 2, errors: expect.stringContaining("about a backup that is --resumable") });
  expect(existsSync(target(driven))).toBe(false);
});
