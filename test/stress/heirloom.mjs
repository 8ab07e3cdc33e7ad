/**
 * The code under test, by its public API and nothing else. `HEIRLOOM_PACKAGES` names another folder of packages: that is how
 * `mutations.mjs` runs the same stress against code with a planted fault.
 */
import { syncBuiltinESMExports } from "node:module";
import os from "node:os";
import { pathToFileURL } from "node:url";

const given = process.env.HEIRLOOM_PACKAGES;
const packages =
  given === undefined ? new URL("../../packages/", import.meta.url) : new URL(`${pathToFileURL(given)}/`);

// A job has as many threads as there are cores to spare. Copiers that meet copiers are a good part of what is tested here, so
// a small machine counts as a larger one; `maxWorkers` of each job says how many it really gets.
os.availableParallelism = () => 5;
syncBuiltinESMExports();

/** @type {typeof import("../../packages/runtime/dist/index.js")} */
export const runtimeApi = await import(new URL("runtime/dist/index.js", packages).href);
/** @type {typeof import("../../packages/block/dist/index.js")} */
export const blockApi = await import(new URL("block/dist/index.js", packages).href);
