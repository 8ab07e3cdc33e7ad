/** Runs seeds on a thread of its own, with a fault planted where one was given. */
import { register } from "node:module";
import { parentPort, workerData } from "node:worker_threads";

const { fault, from, to, commands, jobs, synced, only } = workerData;
if (fault !== undefined) register("../interleave/hooks.mjs", import.meta.url, { data: fault });
const { runSeed } = await import("./run-seed.mjs");
const sum = { seeds: 0, steps: 0, kills: 0, losses: 0, again: 0, resumedKills: 0, resumedLosses: 0 };
let failure;
for (let seed = from; seed <= to && failure === undefined; seed++) {
  try {
    const counts = await runSeed(seed, commands, { jobs, synced, only });
    sum.seeds++;
    for (const [name, count] of Object.entries(counts)) sum[/** @type {keyof typeof sum} */ (name)] += count;
  } catch (error) {
    failure = { seed, message: /** @type {Error} */ (error).message, stack: /** @type {Error} */ (error).stack };
  }
}
parentPort?.postMessage({ ...sum, failure });
