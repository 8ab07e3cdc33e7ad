/**
 * Module hooks of the workers. The engine is loaded from its own dist, as it ships; only its imports of `@heirloom/block`
 * and `node:fs` are answered by block-io.mjs and file-system.mjs (system calls that are steps), and a planted fault patches the source of one module while it is
 * loaded.
 */
const answers = new Map([
  ["@heirloom/block", new URL("./block-io.mjs", import.meta.url).href],
  ["node:fs", new URL("./file-system.mjs", import.meta.url).href],
]);
/** @type {{ edits: [string, string, string][] } | undefined} */
let fault;

/** @param {typeof fault} data */
export function initialize(data) {
  fault = data;
}

/** @param {string} specifier @param {{ parentURL?: string }} context @param {Function} next */
export function resolve(specifier, context, next) {
  const url = context.parentURL?.includes("/packages/engine/dist/") ? answers.get(specifier) : undefined;
  if (url !== undefined) return { url, shortCircuit: true };
  return next(specifier, context);
}

/** @param {string} url @param {object} context @param {Function} next */
export function load(url, context, next) {
  if (fault === undefined || !fault.edits.some(([file]) => url.endsWith(file))) return next(url, context);
  const loaded = next(url, context);
  return typeof loaded.then === "function"
    ? loaded.then((/** @type {{ source: string | Uint8Array }} */ module) => plant(url, module))
    : plant(url, loaded);
}

/** @param {string} url @param {{ source: string | Uint8Array }} loaded */
function plant(url, loaded) {
  if (fault === undefined) return loaded;
  let source = typeof loaded.source === "string" ? loaded.source : new TextDecoder().decode(loaded.source);
  for (const [file, find, replace] of fault.edits) {
    if (!url.endsWith(file)) continue;
    const pattern = new RegExp(find);
    if (!pattern.test(source))
      throw new Error(`the planted fault does not fit ${file} any more: /${find}/ is not found`);
    source = source.replace(pattern, replace);
  }
  return { ...loaded, source };
}
