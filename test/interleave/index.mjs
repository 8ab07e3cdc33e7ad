/** What tests and the command line use. */
import { faults } from "./faults.mjs";
import { Harness } from "./harness.mjs";
import { scenarioThreads } from "./scenario-names.mjs";

export { describeFailure } from "./report.mjs";
export { faults, scenarioThreads };

/** Runs schedules of one scenario on threads of its own. @param {Omit<import("./batch.mjs").Job, "bound"> & { bound?: number }} job @param {import("./faults.mjs").Fault} [fault] */
export async function explore(job, fault) {
  const threads = scenarioThreads[job.scenario];
  if (threads === undefined)
    throw new Error(`explore: expected one of ${Object.keys(scenarioThreads).join(", ")}, got ${job.scenario}`);
  const harness = new Harness(threads, fault === undefined ? undefined : { edits: fault.edits });
  try {
    return await harness.run({ bound: 0, ...job });
  } finally {
    await harness.close();
  }
}
