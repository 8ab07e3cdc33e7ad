/**
 * Real kills: a daemon with guests and backups is killed at random, also while it recovers, and started again; then the next
 * incremental has to restore the disk's exact content, and the bitmap may say nothing of where nobody wrote.
 *
 *   npm run crash -- --rounds 300 [--seed S] [--nbd]       fio --verify over NBD in every second round where fio is installed
 */
import { spawn, spawnSync } from "node:child_process";
import { closeSync, existsSync, ftruncateSync, mkdtempSync, openSync, readSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { Random } from "../stress/random.mjs";

const daemon = fileURLToPath(new URL("./daemon.mjs", import.meta.url));
export const stripes = 16;
export const stripeBytes = 4 * 2 ** 20;
const bytes = stripes * stripeBytes;
const granularity = 65536;

/** @param {{ rounds: number, seed: string, fio: boolean, report?: (line: string) => void }} job */
export async function killLoop({ rounds, seed, fio, report = () => {} }) {
  const place = mkdtempSync(join(tmpdir(), "heirloom-crash-"));
  const random = new Random(`kill ${seed}`);
  const [image, restored, socket] = ["image.raw", "restored.raw", "nbd.sock"].map((name) => join(place, name));
  const sums = { rounds: 0, kills: 0, inRecovery: 0, backups: 0, attachMsMax: 0 };
  try {
    for (const file of [image, restored]) {
      const fd = openSync(file, "w");
      ftruncateSync(fd, bytes);
      closeSync(fd);
    }
    const base = { image, restored, socket, bound: 64 * 2 ** 20 };
    /** Stripes written since the last incremental that is known to have succeeded. @type {Set<number>} */
    let written = new Set();
    for (let round = 0; round < rounds; round++) {
      const stripe = random.int(0, stripes - 1);
      written.add(stripe);
      const nbd = fio && round % 2 === 1;
      const name = `${seed}/${round}`;
      const range = { from: stripe * stripeBytes, length: stripeBytes };
      const daemonOptions = { ...base, ...range, seed: name, role: nbd ? "nbd" : "guests" };
      const killed = await runUntilKilled(daemonOptions, random, false);
      sums.kills++;
      // Killed again while it recovers, or a little later, as often as it takes.
      let early = 0;
      for (; random.chance(35); early++) await runUntilKilled(daemonOptions, random, true);
      sums.kills += early;
      sums.inRecovery += early;
      sums.backups += killed.backups;
      const { attached, result } = await check({ ...base, ...range, seed: name, role: "check" });
      if (attached.state !== "recording")
        throw new Error(`round ${round}: the bitmap is ${attached.state}: ${attached.story}`);
      for (const { offset, length } of attached.extents) {
        for (let at = offset; at < offset + length; at += granularity)
          if (!written.has(Math.floor(at / stripeBytes)))
            throw new Error(`round ${round}: ${at} is dirty, and nobody wrote there`);
      }
      if (result.status !== "completed")
        throw new Error(`round ${round}: the incremental ended ${result.status}: ${result.error}`);
      const difference = firstDifference(image, restored);
      if (difference !== -1) throw new Error(`round ${round}: the restored image differs at ${difference}`);
      written = new Set();
      sums.rounds++;
      sums.attachMsMax = Math.max(sums.attachMsMax, attached.attachMs);
      report(
        `round ${round}: ${nbd ? "fio over NBD" : "threads"}${early > 0 ? `, killed ${early} times more while it recovered` : ""}, ${killed.backups} backups; ${attached.story}`,
      );
    }
    return sums;
  } finally {
    rmSync(place, { recursive: true, force: true });
  }
}

/** @param {object} options */
function start(options) {
  const child = spawn(process.execPath, [daemon, JSON.stringify(options)], { stdio: ["ignore", "pipe", "pipe"] });
  const lines = createInterface({ input: child.stdout });
  /** @type {any[]} */
  const said = [];
  let errors = "";
  child.stderr.on("data", (data) => (errors += data));
  /** @type {(() => void)[]} */
  const waiting = [];
  const wake = () => waiting.splice(0).forEach((one) => one());
  lines.on("line", (line) => {
    said.push(JSON.parse(line));
    wake();
  });
  let code = /** @type {number | string | null | undefined} */ (undefined);
  const closed = new Promise((resolve) =>
    child.on("close", (status, signal) => {
      code = signal ?? status;
      wake();
      resolve(undefined);
    }),
  );
  const until = async (/** @type {string} */ word) => {
    for (;;) {
      const line = said.find((one) => one.word === word);
      if (line !== undefined) return line;
      if (code !== undefined) throw new Error(`the daemon ended (${code}) before it was ${word}: ${errors}`);
      await new Promise((resolve) => waiting.push(() => resolve(undefined)));
    }
  };
  return {
    child,
    said,
    until,
    closed,
    failure: () => (code === "SIGKILL" || code === 0 ? undefined : `${code}: ${errors}`),
  };
}

/** @param {any} options @param {Random} random @param {boolean} early */
async function runUntilKilled(options, random, early) {
  const process = start(options);
  let load;
  try {
    if (early) await pause(random.int(60, 900));
    else {
      await process.until("ready");
      if (options.role === "nbd")
        load = spawn("fio", fioOptions(options), { stdio: "ignore", cwd: dirname(options.socket) });
      await pause(random.spread(5, 4000));
    }
    if (process.failure() !== undefined && process.child.exitCode !== null)
      throw new Error(`the daemon ended by itself: ${process.failure()}`);
  } finally {
    process.child.kill("SIGKILL");
    await process.closed;
    if (load !== undefined && load.exitCode === null) {
      load.kill("SIGKILL");
      await new Promise((resolve) => load.once("close", resolve));
    }
    rmSync(options.socket, { force: true });
  }
  const failed = process.said.find((one) => one.word === "backup" && one.status !== "completed");
  if (failed !== undefined && !/spill/.test(failed.error))
    throw new Error(`a backup ended ${failed.status}: ${failed.error}`);
  return { backups: process.said.filter((one) => one.word === "backup").length };
}

/** @param {any} options */
function fioOptions({ socket, from, length, seed }) {
  return [
    "--name=guest",
    "--ioengine=nbd",
    `--uri=nbd+unix:///?socket=${socket}`,
    "--rw=randwrite",
    "--bsrange=512-64k",
    "--bs_unaligned=0",
    `--offset=${from}`,
    `--size=${length}`,
    "--iodepth=16",
    "--verify=crc32c",
    "--verify_backlog=64",
    "--time_based",
    "--runtime=60",
    `--randseed=${seed.length}`,
  ];
}

/** @param {any} options */
async function check(options) {
  const process = start(options);
  const attached = await process.until("attached");
  const result = await process.until("backed up");
  await process.closed;
  if (process.failure() !== undefined) throw new Error(`the check ended by itself: ${process.failure()}`);
  return { attached, result };
}

/** @param {string} one @param {string} other */
function firstDifference(one, other) {
  const [a, b] = [openSync(one, "r"), openSync(other, "r")];
  const [left, right] = [Buffer.alloc(2 ** 20), Buffer.alloc(2 ** 20)];
  try {
    for (let offset = 0; offset < bytes; offset += left.length) {
      readSync(a, left, 0, left.length, offset);
      readSync(b, right, 0, right.length, offset);
      if (!left.equals(right)) return offset + left.findIndex((byte, index) => byte !== right[index]);
    }
    return -1;
  } finally {
    closeSync(a);
    closeSync(b);
  }
}

/** @param {number} milliseconds the moment of the kill is what is random: nothing is waited for */
function pause(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

export function hasFio() {
  return spawnSync("fio", ["--version"]).status === 0 && existsSync("/proc");
}
