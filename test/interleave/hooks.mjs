/**
 * Module hooks of the workers. The engine is loaded from its own dist, as it ships; only its import of `@heirloom/block` is
 * answered by block-io.mjs (system calls that are steps), and a planted fault patches the source of one module while it is
 * loaded.
 */
const blockUrl = new URL("./block-io.mjs", import.meta.url).href;
/** @type {{ file: string, find: string, replace: string } | undefined} */
let fault;

/** @param {typeof fault} data */
export function initialize(data) {
  fault = data;
}

/** @param {string} specifier @param {{ parentURL?: string }} context @param {Function} next */
export function resolve(specifier, context, next) {
  if (specifier === "@heirloom/block" && context.parentURL?.includes("/packages/engine/dist/")) return { url: blockUrl, shortCircuit: true };
  return next(specifier, context);
}

/** @param {string} url @param {object} context @param {Function} next */
export function load(url, context, next) {
  if (fault === undefined || !url.endsWith(fault.file)) return next(url, context);
  const loaded = next(url, context);
  return typeof loaded.then === "function" ? loaded.then(plant) : plant(loaded);
}

/** @param {{ source: string | Uint8Array }} loaded */
function plant(loaded) {
  if (fault === undefined) return loaded;
  const source = typeof loaded.source === "string" ? loaded.source : new TextDecoder().decode(loaded.source);
  const parts = source.split(new RegExp(fault.find, "s"));
  const pattern = new RegExp(fault.find, "s");
  if (!pattern.test(source)) throw new Error(`the planted fault does not fit ${fault.file} any more: /${fault.find}/ is not found (${parts.length})`);
  return { ...loaded, source: source.replace(pattern, fault.replace) };
}
