/** Whether what is recovered from one state after a crash is right. Throws with what is wrong. */
import { SharedBitmap } from "../../packages/bitmap/dist/index.js";
import { recoverBits } from "../../packages/journal/dist/recover-bits.js";
import { readSidecar } from "../../packages/journal/dist/recover.js";
import { diskBytes, granularity, regionBytes } from "./world.mjs";

/**
 * @param {any} storage
 * @param {import("./model.mjs").Model} model
 * @param {{ lost: boolean, concludes?: boolean, markedMax: number, versions: Map<number, Set<number>> }} after concludes: whether the next
 *   start sees that the page cache was lost, where that is not the same; versions: what each granule that was ever written may hold on
 *   the disk now
 */
export function check(storage, model, after) {
  const sidecar = readSidecar(storage, "test");
  const entries = new Map(sidecar.directory.bitmaps.map((entry) => [entry.name, entry]));
  for (const [name, bitmap] of model.bitmaps) {
    const entry = entries.get(name);
    if (entry === undefined) {
      if (bitmap.absent) continue;
      throw new Error(`bitmap ${name.slice(0, 5)} is lost`);
    }
    if (entry.inconsistent !== null)
      throw new Error(`bitmap ${name.slice(0, 5)} is inconsistent: ${entry.inconsistent}`);
    if (bitmap.recording !== undefined && bitmap.recording !== entry.recording && !bitmap.absent)
      throw new Error(`bitmap ${name.slice(0, 5)}: recording is ${entry.recording}`);
    checkBits(storage, sidecar, entry, bitmap, model, after);
  }
  for (const name of entries.keys())
    if (!model.bitmaps.has(name)) throw new Error(`bitmap ${name.slice(0, 5)} is back`);
  if ((sidecar.marks ?? []).length > after.markedMax)
    throw new Error(`I4: ${sidecar.marks?.length} regions are not settled`);
}

/** @param {any} storage @param {any} sidecar @param {any} entry @param {import("./model.mjs").BitmapModel} bitmap @param {import("./model.mjs").Model} model @param {Parameters<typeof check>[2]} after */
function checkBits(storage, sidecar, entry, bitmap, model, after) {
  const bits = SharedBitmap.create(diskBytes, granularity);
  const { errno, damaged } = recoverBits(
    storage,
    sidecar,
    entry,
    { decided: false, lost: after.concludes ?? after.lost },
    bits,
  );
  if (errno !== 0 || damaged !== 0) throw new Error(`errno ${errno}, ${damaged} damaged blocks`);
  const reasons = bitmap.lives.map((life) => wrong(life, bits, entry, sidecar, bitmap, model, after));
  if (reasons.length > 0 && reasons.every((reason) => reason !== undefined))
    throw new Error(`bitmap ${entry.name.slice(0, 5)}: ${reasons.join("; or ")}`);
}

/** @returns {string | undefined} */
function wrong(
  /** @type {import("./model.mjs").Life} */ life,
  /** @type {SharedBitmap} */ bits,
  /** @type {any} */ entry,
  /** @type {any} */ sidecar,
  /** @type {import("./model.mjs").BitmapModel} */ bitmap,
  /** @type {import("./model.mjs").Model} */ model,
  /** @type {Parameters<typeof check>[2]} */ after,
) {
  const dirty = (/** @type {number} */ granule) => bits.test(granule * granularity);
  for (const granule of life.must) if (!dirty(granule)) return `I5: granule ${granule} was merged and is gone`;
  const counts = entry.recording && bitmap.recording === true;
  if (!after.lost) {
    if (counts)
      for (const granule of life.dirty) if (!dirty(granule)) return `I1: granule ${granule} was written and is clean`;
  } else if (counts) {
    for (const [granule, versions] of after.versions) {
      if (dirty(granule)) continue;
      for (const version of versions)
        if (version !== life.checkpoint[granule])
          return `I1: granule ${granule} is clean, but the disk may hold ${version} and held ${life.checkpoint[granule]}`;
    }
  } else if (!entry.recording && !entry.unsettled && bitmap.recording === false) {
    for (const granule of life.dirty)
      if (!dirty(granule)) return `I1: granule ${granule} was written before it was disabled, and is clean`;
  }
  const marks = new Set(after.lost && entry.unsettled ? sidecar.marks : []);
  for (const { offset, length } of bits.extents()) {
    for (let at = offset; at < offset + length; at += granularity) {
      const granule = at / granularity;
      if (life.dirty.has(granule) || life.optional.has(granule) || model.inFlight.has(granule)) continue;
      if (marks.has(Math.floor(at / regionBytes))) continue;
      return `${after.lost ? "I4" : "exactness"}: granule ${granule} is dirty for no reason`;
    }
  }
  return undefined;
}
