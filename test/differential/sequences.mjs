/** One sequence after another on one pair of daemons. */
import { readFileSync } from "node:fs";
import { Choice } from "./random.mjs";
import { Pair, shrink, tell } from "./run.mjs";
import { makeSequence } from "./steps.mjs";

/**
 * @param {object} options
 * @param {number} options.seed of the first; each further one has the next
 * @param {number} options.sequences at most
 * @param {number} options.seconds after which none begins
 * @param {boolean} [options.keepGoing] after a difference
 * @param {AbortSignal} [options.signal] after which none begins
 * @param {(line: string) => void} options.report
 */
export async function runSequences({ seed, sequences, seconds, keepGoing = false, signal, report }) {
  const begun = performance.now();
  const elapsed = () => (performance.now() - begun) / 1000;
  const pair = new Pair();
  const sums = { sequences: 0, steps: 0, differences: 0, qemuEnded: 0, perSecond: 0, oursMiB: 0 };
  try {
    for (let next = seed; next < seed + sequences && elapsed() < seconds && signal?.aborted !== true; next++) {
      const choice = new Choice(next);
      const steps = makeSequence(choice, 5 + choice.below(35));
      const ended = pair.qemuEnded;
      const found = await pair.run(steps, next);
      sums.sequences++;
      sums.steps = pair.steps;
      sums.qemuEnded = pair.qemuEnded;
      sums.perSecond = Math.round((sums.sequences / elapsed()) * 10) / 10;
      if (next % 500 === 0) report(`${JSON.stringify(sums)} at seed ${next}`);
      if (pair.qemuEnded > ended) report(`seed ${next}: QEMU ended or hung: ${JSON.stringify(pair.qemuEndedBy)}`);
      if (found === undefined) continue;
      sums.differences++;
      report(tell(await shrink(pair, found, next), next));
      if (!keepGoing) break;
    }
    if (pair.oursPid !== undefined) sums.oursMiB = residentMiB(pair.oursPid);
  } finally {
    await pair.stop();
  }
  return sums;
}

/** @param {number} pid */
function residentMiB(pid) {
  const line = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"));
  return Math.round(Number(line?.[1]) / 1024);
}
