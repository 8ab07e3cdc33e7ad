/** What the tests and the command line use. */
import { once } from "node:events";
import { Worker } from "node:worker_threads";

export { faults } from "./faults.mjs";

/**
 * @param {{ from: number, to: number, commands?: number, jobs?: boolean, synced?: boolean, fault?: import("./faults.mjs").Fault }} job
 * @returns {Promise<{ seeds: number, steps: number, kills: number, losses: number, again: number, resumedKills: number, resumedLosses: number, failure?: { seed: number, message: string, stack?: string } }>}
 */
export async function explore({ from, to, commands, jobs = false, synced = false, fault }) {
  const worker = new Worker(new URL("./worker.mjs", import.meta.url), {
    workerData: {
      from,
      to,
      commands: commands ?? (jobs || fault?.jobs !== undefined ? 6 : 12),
      jobs: jobs || fault?.jobs !== undefined,
      synced: synced || fault?.synced === true,
      only: fault?.jobs,
      fault: fault === undefined ? undefined : { edits: fault.edits },
    },
  });
  const [result] = await once(worker, "message");
  await worker.terminate();
  return result;
}

/**
 * The seeds that are tried for a planted fault.
 * @param {import("./faults.mjs").Fault} fault
 */
export function seedsOf({ from = 1, seeds = 100 }) {
  return { from, to: from + seeds - 1 };
}
