/**
 * Crashes of recorded runs, enumerated:
 *   node test/crash/run-enumeration.mjs --seeds 200            from seed 1 on
 *   node test/crash/run-enumeration.mjs --seed 4711            this one again
 *   node test/crash/run-enumeration.mjs --jobs --seeds 100     runs of resumable jobs
 *   node test/crash/run-enumeration.mjs --faults               every planted fault, and what saw it
 */
import { parseArgs } from "node:util";
import { explore, faults, seedsOf } from "./index.mjs";

const { values } = parseArgs({
  options: {
    seeds: { type: "string", default: "50" },
    seed: { type: "string" },
    jobs: { type: "boolean", default: false },
    faults: { type: "boolean", default: false },
  },
});
let failed = false;
if (values.faults) {
  for (const fault of faults) {
    const { failure, seeds } = await explore({ ...seedsOf(fault), fault });
    const seen = failure !== undefined && fault.expect.test(failure.message);
    failed ||= !seen;
    console.log(
      `${seen ? "seen" : "NOT SEEN"} ${fault.name}: ${failure === undefined ? `nothing in ${seeds} runs` : `seed ${failure.seed}: ${failure.message}`}`,
    );
  }
} else {
  const from = Number(values.seed ?? 1);
  const begun = performance.now();
  const { seeds, steps, kills, losses, again, resumedKills, resumedLosses, failure } = await explore({
    jobs: values.jobs,
    from,
    to: values.seed === undefined ? Number(values.seeds) : from,
  });
  const seconds = (performance.now() - begun) / 1000;
  console.log(
    `${seeds} runs, ${steps} writes and syncs, ${kills} kills and ${losses} power losses, ${values.jobs ? `after ${resumedKills} and ${resumedLosses} of them a resumable job goes on,` : `${again} crashes of recoveries`} in ${seconds.toFixed(1)} s`,
  );
  if (failure !== undefined)
    console.log(
      `FAILED: ${failure.message}\nreplay: node test/crash/run-enumeration.mjs --seed ${failure.seed}\n${failure.stack}`,
    );
  failed = failure !== undefined;
}
process.exitCode = failed ? 1 : 0;
