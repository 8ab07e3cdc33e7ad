/**
 * Crashes of the recovery from a crash: what a start does with the sidecar that it finds, written down step by step, and cut off
 * after each of them, by a kill or by a power loss. The order is the journal's (disk-journal.ts): bits are joined layer by layer, then
 * the record names what is left. What is found after the second crash has to be right for the same model as after the first.
 */
import { SharedBitmap } from "../../packages/bitmap/dist/index.js";
import { BlockBits, layerMemoryWords } from "../../packages/journal/dist/block-bits.js";
import { Journal } from "../../packages/journal/dist/journal.js";
import { readSidecar } from "../../packages/journal/dist/recover.js";
import { recoverLayer } from "../../packages/journal/dist/recover-bits.js";
import { createLayer, writeDirectory } from "../../packages/journal/dist/steps.js";
import { Recorder } from "./recording.mjs";
import { diskBytes, granularity } from "./world.mjs";

/** Of the system that recovers: whoever finds it in the directory after a kill knows that the page cache is there. */
const bootId = "11".repeat(16);

/**
 * @param {Uint8Array} found the sidecar as the crash left it; it is changed
 * @param {boolean} lost whether the crash was a power loss
 * @returns {Promise<import("./recording.mjs").Step[]>} what the recovery wrote and synced
 */
export async function recoverRecorded(found, lost) {
  const recorder = new Recorder(0);
  recorder.journal = found;
  const storage = recorder.storage();
  const sidecar = readSidecar(storage, "test");
  const { tag } = sidecar;
  const journal = new Journal(sidecar, {
    createLayer: async (/** @type {any} */ layer) => createLayer(storage, tag, layer),
    writeDirectory: async (/** @type {Uint8Array} */ record, /** @type {number} */ sequence) =>
      writeDirectory(storage, record, sequence),
  });
  /** @type {Map<string, any>} */
  const left = new Map();
  for (const bitmap of journal.bitmaps.values()) {
    const [layer] = bitmap.layers;
    const entry = /** @type {any} */ (sidecar.directory.bitmaps.find(({ name }) => name === bitmap.name));
    const bits = new BlockBits({
      storage,
      tag,
      layer: layer.id,
      offset: layer.offset,
      length: diskBytes,
      granularity,
      words: new Int32Array(new SharedArrayBuffer(layerMemoryWords(diskBytes, granularity) * 4)),
      holder: 1,
    });
    const marks = SharedBitmap.create(diskBytes, granularity);
    const { errno } = recoverLayer(storage, sidecar, entry, { decided: false, lost }, { bits, marks });
    if (errno !== 0) throw new Error(`recovery: ${errno}`);
    left.set(bitmap.name, layer);
  }
  await journal.update(() => {
    for (const bitmap of journal.bitmaps.values())
      bitmap.layers = [Object.assign(left.get(bitmap.name), { role: "bits" })];
    journal.setHead({ inUse: true, bootId, generation: sidecar.directory.generation + 1 });
    journal.noteRecovery({ at: 1, kind: lost ? "power-loss" : "killed", regions: sidecar.marks?.length ?? 0 });
  });
  return recorder.log;
}

/** Whether the next start after a second crash takes the page cache for gone. @param {any} storage @param {boolean} first @param {boolean} second */
export function concludesLoss(storage, first, second) {
  if (second) return true;
  return first && readSidecar(storage, "test").directory.bootId !== bootId;
}
