/**
 * What is found of a resumable job after a crash: if it can go on, then each cluster that it has to copy is where its rules say, as it
 * was at the freeze. Throws with what is wrong.
 */
import { SharedBitmap } from "../../packages/bitmap/dist/index.js";
import {
  entryHeadBytes,
  entryOffset,
  givenUpAt,
  isGivenUp,
  isHeader,
  openEntry,
} from "../../packages/engine/dist/spill-entry.js";
import { join, recoverBits } from "../../packages/journal/dist/recover-bits.js";
import { recoverJob } from "../../packages/journal/dist/recover-job.js";
import { readLayer } from "../../packages/journal/dist/recover.js";
import { clusterBytes, spillSlots, spillTag } from "./job-view.mjs";
import { diskBytes, granularity } from "./world.mjs";

/**
 * What is there after the crash. `versions`: what each granule that was ever written may hold on the disk now; `onDisk` and
 * `onTarget` the same of any granule.
 *
 * @typedef {{ lost: boolean, versions: Map<number, Set<number>>, spill: Uint8Array,
 *   onDisk: (granule: number) => Iterable<number>, onTarget: (granule: number) => Iterable<number> }} After
 */

/**
 * @param {any} storage @param {any} sidecar @param {import("./model.mjs").Model} model
 * @param {After} after
 * @returns {"none" | "goes on" | "reclaimed"}
 */
export function checkJob(storage, sidecar, model, after) {
  const entry = sidecar.directory.bitmaps.find((/** @type {any} */ one) => one.job !== null);
  const known = model.job;
  if (entry === undefined) {
    if (known?.must === true) throw new Error("the job is gone");
    return "none";
  }
  if (known === undefined || known.name !== entry.name) throw new Error("there is a job that has ended");
  const { spill } = after;
  const usable =
    isHeader(spill.subarray(0, 512), spillTag, clusterBytes) && !isGivenUp(spill.subarray(givenUpAt, givenUpAt + 512));
  const set = SharedBitmap.create(diskBytes, granularity);
  const errno = readLayer(storage, sidecar.tag, entry.job.set, granularity, (block, words) => {
    if (words === undefined) throw new Error("the set is damaged");
    join(set, entry.job.set, block, words);
  });
  if (errno !== 0) throw new Error(`errno ${errno}`);
  const heir = { ...entry, layers: entry.layers.filter((/** @type {any} */ { role }) => role === "successor") };
  const successor = SharedBitmap.create(diskBytes, granularity);
  recoverBits(storage, sidecar, heir, { decided: false, lost: after.lost }, successor);
  const stored = usable ? entriesOf(spill) : new Map();
  const entries = Int32Array.from([...stored.keys()].flatMap((granule) => [0, granule]));
  const state = recoverJob(storage, sidecar, entry.job, after.lost, set, successor, entries);
  if (!usable || state.refused !== undefined) {
    if ((!after.lost || known.synced) && known.must)
      throw new Error(`the job cannot go on: ${state.refused ?? "its spill"}`);
    return "reclaimed";
  }
  for (const granule of known.set) {
    const wanted = known.pit[granule];
    if (!set.test(granule * granularity)) throw new Error(`granule ${granule} is not copied, and ought to be`);
    const isCopied = (state.copied[granule >>> 5] & (1 << (granule & 31))) !== 0;
    const entryVersion = stored.get(granule);
    const found = isCopied
      ? after.onTarget(granule)
      : entryVersion !== undefined
        ? [entryVersion]
        : after.onDisk(granule);
    for (const version of found) {
      if (version !== wanted)
        throw new Error(
          `I2: granule ${granule} was ${wanted} at the freeze, and ${isCopied ? "the target" : entryVersion === undefined ? "the disk" : "the spill"} has ${version}`,
        );
    }
  }
  for (const { offset, length } of set.extents())
    for (let at = offset; at < offset + length; at += granularity)
      if (!known.set.has(at / granularity))
        throw new Error(`granule ${at / granularity} is copied, and was not in the set`);
  checkHeir(successor, known, after);
  return "goes on";
}

/** If it succeeds its bitmap is the heir: that misses nothing that was written since. @param {SharedBitmap} heir @param {NonNullable<import("./model.mjs").Model["job"]>} known @param {After} after */
function checkHeir(heir, known, after) {
  if (!after.lost) {
    for (const granule of known.since.dirty)
      if (!heir.test(granule * granularity))
        throw new Error(`I1: granule ${granule} was written since the freeze, and its heir is clean`);
    return;
  }
  for (const [granule, versions] of after.versions)
    for (const version of versions)
      if (version !== known.pit[granule] && !heir.test(granule * granularity))
        throw new Error(
          `I1: granule ${granule} may hold ${version}, was ${known.pit[granule]} at the freeze, and its heir is clean`,
        );
}

/** Granule to version. @param {Uint8Array} spill @returns {Map<number, number>} */
function entriesOf(spill) {
  const found = new Map();
  for (let slot = 0; slot < spillSlots; slot++) {
    const at = entryOffset(slot, clusterBytes);
    const entry = spill.subarray(at, at + entryHeadBytes + clusterBytes);
    const granule = openEntry(entry, spillTag);
    if (granule !== -1) found.set(granule, new DataView(entry.buffer, entry.byteOffset).getInt32(entryHeadBytes, true));
  }
  return found;
}
