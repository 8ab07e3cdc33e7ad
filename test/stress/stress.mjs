/** Epochs until the time is over: what the command and the test call. */
import { mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { Epoch } from "./epoch.mjs";
import { Random } from "./random.mjs";
import { Tally } from "./tally.mjs";

/** MiB that a long run may grow by, from its early epochs to its last: images that wait to be collected included. */
const growthMax = 192;

/**
 * @param {{ seed: number, minutes: number, epoch?: number | undefined, disks: number, writers: number, directory: string }} options
 * @param {(line: string) => void} progress
 */
export async function stress(options, progress) {
  const tally = new Tally(Date.now() + options.minutes * 60_000);
  const directory = mkdtempSync(join(options.directory, `heirloom-stress-${options.seed}-`));
  const random = new Random(`seed ${options.seed}`);
  const timer = setInterval(() => progress(tally.line), 5000);
  /** @type {Epoch | undefined} */
  let epoch;
  const bug = (/** @type {unknown} */ error) => {
    const stack = String(/** @type {Error} */ (error)?.stack ?? error);
    if (epoch === undefined) tally.fail("an error that nobody caught", { error: stack });
    else epoch.fail("an error that nobody caught", { error: stack });
  };
  process.on("uncaughtException", bug);
  process.on("unhandledRejection", bug);
  try {
    for (; !tally.over; tally.epochs++) {
      const number = options.epoch ?? tally.epochs;
      epoch = new Epoch(random.fork(`epoch ${number}`), options, join(directory, `epoch-${tally.epochs}`), tally);
      try {
        await epoch.run();
      } catch (error) {
        bug(error);
      }
    }
  } finally {
    clearInterval(timer);
    process.off("uncaughtException", bug);
    process.off("unhandledRejection", bug);
  }
  checkGrowth(tally);
  if (tally.failures.length === 0) rmSync(directory, { recursive: true, force: true });
  return tally;
}

/** I8: memory is flat over many jobs. @param {Tally} tally */
function checkGrowth(tally) {
  const { rss } = tally;
  if (rss.length < 8) return;
  const early = Math.max(...rss.slice(1, 4));
  const late = Math.min(...rss.slice(-3));
  if (late > early + growthMax) tally.fail("I8: the process grows with its jobs", { rss });
}
