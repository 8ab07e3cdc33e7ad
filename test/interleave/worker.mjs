/**
 * One thread of the scenarios: worker 0 is the main thread of each schedule and runs the batch, the others are guests and
 * movers. The threads live on from schedule to schedule; only the shared memory is laid out anew.
 */
import Module, { register } from "node:module";
import { parentPort, threadId, workerData } from "node:worker_threads";
import { instrument } from "./instrument.mjs";
import { lab } from "./lab.mjs";

const { self, shared, control, text, planText, fault } = workerData;
// Node 22.15 and later run hooks on the thread itself; before that they had a thread of their own.
const registerHooks = /** @type {any} */ (Module).registerHooks;
if (registerHooks !== undefined) {
  const hooks = await import("./hooks.mjs");
  hooks.initialize(fault);
  registerHooks({ resolve: hooks.resolve, load: hooks.load });
} else register("./hooks.mjs", import.meta.url, { data: fault });

lab.open({ control, text, shared, self });
instrument();

const { runBatch, serve } = await import("./batch.mjs");
// oxlint-disable-next-line typescript/no-misused-promises -- a rejection ends the thread, and its owner sees that
parentPort?.on("message", async (/** @type {any} */ job) => {
  const { scenarios } = await import("./scenarios/index.mjs");
  const scenario = scenarios.find(({ name }) => name === job.scenario);
  if (scenario === undefined) throw new Error(`no scenario is named ${job.scenario}`);
  const parts = {
    arena: shared[0],
    disks: shared[1],
    oracle: shared[2],
    images: shared[3],
    registry: shared[4],
    planText,
  };
  if (self === 0) parentPort?.postMessage(runBatch(scenario, job, parts));
  else {
    serve(scenario, parts);
    parentPort?.postMessage({ done: threadId });
  }
});
parentPort?.postMessage("ready");
