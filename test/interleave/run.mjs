/**
 * Long runs and replays:
 *   node test/interleave/run.mjs --scenario copy --seed 1 --minutes 1     from this seed on
 *   node test/interleave/run.mjs --scenario copy --seed 4711 --count 1    this one schedule
 *   node test/interleave/run.mjs --scenario gate --exhaustive 2           every path with up to two preemptions
 *   node test/interleave/run.mjs --all --minutes 5                        all scenarios, the time shared
 *   node test/interleave/run.mjs --fault NAME                             with a planted fault (faults.mjs)
 */
import { parseArgs } from "node:util";
import { faults } from "./faults.mjs";
import { Harness } from "./harness.mjs";
import { describeFailure } from "./report.mjs";
import { scenarioThreads } from "./scenario-names.mjs";

const { values } = parseArgs({
  options: {
    scenario: { type: "string" },
    all: { type: "boolean", default: false },
    seed: { type: "string", default: "1" },
    count: { type: "string" },
    minutes: { type: "string" },
    exhaustive: { type: "string" },
    fault: { type: "string" },
    full: { type: "boolean", default: false },
  },
});

const fault = values.fault === undefined ? undefined : faults.find(({ name }) => name === values.fault);
if (values.fault !== undefined && fault === undefined)
  throw new Error(`no fault is named ${values.fault}; there are ${faults.map(({ name }) => name).join(", ")}`);
const names = values.all ? Object.keys(scenarioThreads) : [values.scenario ?? fault?.scenario ?? ""];
const milliseconds = values.minutes === undefined ? undefined : (Number(values.minutes) * 60_000) / names.length;
let failed = false;
for (const name of names) {
  const threads = scenarioThreads[name];
  if (threads === undefined)
    throw new Error(`run: expected --scenario with one of ${Object.keys(scenarioThreads).join(", ")}`);
  const harness = new Harness(threads, fault);
  const result = await harness.run({
    scenario: name,
    mode: values.exhaustive === undefined ? "seeds" : "exhaustive",
    from: Number(values.seed),
    count: values.count === undefined ? (milliseconds === undefined ? 2000 : 1e9) : Number(values.count),
    bound: Number(values.exhaustive ?? 0),
    milliseconds,
  });
  await harness.close();
  const { schedules, steps, complete, milliseconds: took, failure, kinds } = result;
  console.log(
    `${name}: ${schedules} schedules, ${steps} steps, ${Math.round((schedules / took) * 60_000)} a minute${complete ? ", all paths" : ""}${failure === undefined ? "" : ", FAILED"}`,
  );
  for (const [kind, count] of Object.entries(kinds)) if (kind !== "") console.log(`  ${count} ${kind}`);
  if (failure !== undefined) {
    failed = true;
    console.log(describeFailure(name, failure, values.full ? Number.POSITIVE_INFINITY : 400));
  }
}
process.exitCode = failed ? 1 : 0;
