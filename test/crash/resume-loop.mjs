/**
 * Real kills of resumable backups: each is cut off a few times at random moments, with a guest at work all the while, and has to end
 * with the point in time that it began with: byte for byte what a copy made at its freeze holds. Of what it said that it had on its
 * target nothing is copied again.
 *
 *   npm run crash -- --resumable --rounds 50 [--seed S]
 */
import { spawn } from "node:child_process";
import { closeSync, ftruncateSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { Random } from "../stress/random.mjs";

const daemon = fileURLToPath(new URL("./resumed-daemon.mjs", import.meta.url));
const length = 48 * 2 ** 20;
/** Of one backup. */
const killsMax = 4;

/** @param {{ rounds: number, seed: string, report?: (line: string) => void }} job */
export async function resumeLoop({ rounds, seed, report = () => {} }) {
  const place = mkdtempSync(join(tmpdir(), "heirloom-resume-"));
  const random = new Random(`resume ${seed}`);
  const [image, shadow, target] = ["image.raw", "shadow.raw", "target.raw"].map((name) => join(place, name));
  const sums = { rounds: 0, kills: 0, resumed: 0, again: 0 };
  try {
    makeImage(image, random);
    makeImage(target, random);
    for (let round = 0; round < rounds; round++) {
      const attached = round % 2 === 1;
      const options = {
        image,
        shadow,
        target,
        length,
        attached,
        syncSpill: round % 4 >= 2,
        sync: round === 0 || random.chance(25) ? "full" : "incremental",
      };
      const speed = 2 ** 20 * random.int(8, 40);
      let kills = 0;
      let known = 0;
      let frozen = false;
      for (;;) {
        const life = live({ ...options, speed, seed: `${seed}/${round}/${kills}` });
        // Mostly at work, at times while it starts: everything that a life does is cut off somewhere.
        const early = random.chance(20);
        const moment =
          kills < killsMax
            ? { after: early ? undefined : "copying", ms: early ? random.int(50, 900) : random.spread(1, 900) }
            : undefined;
        const said = await life.until(moment);
        const begun = said.find(({ word }) => word === "attached");
        if (begun?.resumed === true) {
          sums.resumed++;
          if (begun.offset < known)
            throw new Error(
              `round ${round}: ${begun.offset} bytes are known to be copied, and were ${known}: ${begun.story}`,
            );
        } else if (frozen && begun !== undefined) throw new Error(`round ${round}: the job is gone: ${begun.story}`);
        frozen ||= said.some(({ word }) => word === "frozen");
        const done = said.find(({ word }) => word === "done");
        known = said.findLast(({ word }) => word === "progress")?.offset ?? begun?.offset ?? known;
        if (done === undefined) {
          kills++;
          continue;
        }
        if (done.status !== "completed") throw new Error(`round ${round}: it ended ${done.status}: ${done.error}`);
        if (attached) sums.again = Math.max(sums.again, done.written - (done.length - (begun.offset ?? 0)));
        break;
      }
      sums.kills += kills;
      const difference = firstDifference(shadow, target);
      if (difference !== -1)
        throw new Error(`round ${round}: the target differs from the point in time at ${difference}`);
      const left = readdirSync(place).filter((name) => name.endsWith(".spill"));
      if (left.length > 0) throw new Error(`round ${round}: ${left.join(", ")} is left behind`);
      sums.rounds++;
      report(
        `round ${round}: ${options.sync} to ${attached ? "a disk" : "a file"}${options.syncSpill ? ", spill synced" : ""}, killed ${kills} times`,
      );
    }
    return sums;
  } finally {
    rmSync(place, { recursive: true, force: true });
  }
}

/** @param {string} path @param {Random} random */
function makeImage(path, random) {
  const fd = openSync(path, "w");
  ftruncateSync(fd, length);
  for (let piece = 0; piece < 64; piece++)
    writeSync(fd, Buffer.alloc(65536, random.int(1, 255)), 0, 65536, 65536 * random.int(0, length / 65536 - 1));
  closeSync(fd);
}

/** @param {object} options */
function live(options) {
  const child = spawn(process.execPath, [daemon, JSON.stringify(options)], { stdio: ["ignore", "pipe", "pipe"] });
  /** @type {any[]} */
  const said = [];
  let errors = "";
  child.stderr.on("data", (data) => (errors += data));
  const lines = createInterface({ input: child.stdout });
  lines.on("line", (line) => said.push(JSON.parse(line)));
  return {
    /** Killed so long after it said the word, or began, unless it ends before. @param {{ after: string | undefined, ms: number } | undefined} moment */
    async until(moment) {
      /** @type {NodeJS.Timeout | undefined} */
      let timer;
      const arm = () => (timer = setTimeout(() => child.kill("SIGKILL"), moment?.ms));
      if (moment !== undefined && moment.after === undefined) arm();
      lines.on("line", (line) => {
        if (moment?.after !== undefined && JSON.parse(line).word === moment.after) arm();
      });
      /** @type {[number | null, string | null]} */
      const [code, signal] = await new Promise((resolve) => child.on("close", (status, by) => resolve([status, by])));
      clearTimeout(timer);
      if (signal !== "SIGKILL" && code !== 0) throw new Error(`it ended by itself (${signal ?? code}): ${errors}`);
      return said;
    },
  };
}

/** @param {string} one @param {string} other */
function firstDifference(one, other) {
  const [left, right] = [readFileSync(one), readFileSync(other)];
  return left.equals(right) ? -1 : left.findIndex((byte, index) => byte !== right[index]);
}
