/** What the tests and the command line use. */
import { once } from "node:events";
import { Worker } from "node:worker_threads";

export { faults } from "./faults.mjs";

/**
 * @param {{ from: number, to: number, commands?: number, fault?: import("./faults.mjs").Fault }} job
 * @returns {Promise<{ seeds: number, steps: number, kills: number, losses: number, resumedKills: number, resumedLosses: number, failure?: { seed: number, message: string, stack?: string } }>}
 */
export async function explore({ from, to, commands = 12, fault }) {
  const { jobs, edits } = fault ?? {};
  const worker = new Worker(new URL("./worker.mjs", import.meta.url), {
    workerData: {
      from,
      to,
      commands: jobs === undefined ? commands : 6,
      jobs: jobs !== undefined,
      only: jobs,
      fault: edits === undefined ? undefined : { edits },
    },
  });
  const [result] = await once(worker, "message");
  await worker.terminate();
  return result;
}
