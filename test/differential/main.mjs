/**
 * Sequence after sequence, each of its seed:
 *
 *     npm run differential -- [--seed N] [--sequences N] [--minutes M] [--keep-going]
 *
 * Ends with status 1 at the first difference, told as the shortest sequence that shows it; with --keep-going it tells them
 * all.
 */
import { parseArgs } from "node:util";
import { runSequences } from "./sequences.mjs";

const { values } = parseArgs({
  args: process.argv.slice(2).filter((argument) => argument !== "--"),
  options: {
    seed: { type: "string", default: "1" },
    sequences: { type: "string" },
    minutes: { type: "string" },
    "keep-going": { type: "boolean", default: false },
  },
});
// The daemons are told to end, and what they have on disk goes.
for (const signal of /** @type {const} */ (["SIGINT", "SIGTERM"])) process.once(signal, () => stop.abort());
const stop = new AbortController();
const unlimited = values.sequences === undefined && values.minutes === undefined;
const sums = await runSequences({
  seed: Number(values.seed),
  sequences: unlimited ? 1000 : Number(values.sequences ?? Infinity),
  seconds: Number(values.minutes ?? Infinity) * 60,
  keepGoing: values["keep-going"],
  signal: stop.signal,
  report: (line) => console.log(line),
});
console.log(JSON.stringify(sums));
if (sums.differences > 0) process.exitCode = 1;
