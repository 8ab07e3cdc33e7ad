/** `npm run demo`: reads the command line, runs the demo, prints what came out, and cleans up whatever happens. */
import { randomInt } from "node:crypto";
import { BlockError } from "@heirloom/block";
import { HeirloomError } from "@heirloom/runtime";
import { DemoError } from "./demo-error.ts";
import { runDemo } from "./demo.ts";
import { defaultLength, lengthOf } from "./image.ts";
import { help, readOptions } from "./options.ts";
import { Progress } from "./progress.ts";
import { report } from "./report.ts";
import { paintFor } from "./style.ts";
import { summary } from "./summary.ts";
import { makeWorkplace } from "./workplace.ts";

/** Image, shadow copy, rebuilt image, artefacts of about three times the disk; `--keep` keeps three of each. */
const copiesAtOnce = 6;
const copiesKept = 11;

async function main(): Promise<number> {
  const options = readOptions(process.argv.slice(2), randomInt(1_000_000));
  if (options === undefined) {
    process.stdout.write(help);
    return 0;
  }
  const length = options.image === undefined ? defaultLength : lengthOf(options.image);
  const workplace = makeWorkplace(length * (options.keep ? copiesKept : copiesAtOnce));
  const progress = new Progress(options.json ? process.stderr : process.stdout);
  const paint = paintFor(process.stdout);
  // Threads may be anywhere: nothing is waited for. What they have open is gone with the process.
  for (const [signal, number] of [
    ["SIGINT", 2],
    ["SIGTERM", 15],
  ] as const) {
    process.once(signal, () => {
      progress.clear();
      if (options.keep) process.stderr.write(`Kept in ${workplace.directory}\n`);
      else workplace.remove();
      process.exit(128 + number);
    });
  }
  try {
    if (!options.json)
      process.stdout.write(
        `${paint("bold", "Heirloom demo")}: a disk is backed up while guests write to it (seed ${options.seed})\n\n`,
      );
    const result = await runDemo(options, workplace, progress);
    process.stdout.write(options.json ? summary(result) : `\n${report(result, paint)}`);
    return result.problems.length === 0 ? 0 : 1;
  } catch (error) {
    progress.clear();
    throw error;
  } finally {
    if (!options.keep) workplace.remove();
  }
}

/** 2: something that the user can put right; 1: the demo did not hold. */
function explain(error: unknown): number {
  if (error instanceof DemoError) {
    process.stderr.write(`demo: ${error.message}\n`);
    return 2;
  }
  process.stderr.write(`demo: ${textOf(error)}\n`);
  return 1;
}

/** A stack is for a bug of ours alone. */
function textOf(error: unknown): string {
  if (error instanceof HeirloomError || error instanceof BlockError) return `${error.message} (${error.code})`;
  if (!(error instanceof Error)) return String(error);
  return "syscall" in error ? error.message : (error.stack ?? error.message);
}

process.exitCode = await main().catch(explain);
