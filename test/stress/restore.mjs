/**
 * I2: what a user restores is what the disk held at the freeze. Full targets are compared as they are; an incremental is laid
 * over the checkpoint that it builds on.
 */
import { clean } from "./granules.mjs";
import { firstDifference } from "./guest.mjs";

/** @param {import("./job-run.mjs").JobRun} run @param {import("./replay.mjs").Fail} fail */
export function checkRestored(run, fail) {
  const { plan, result, frozen } = run;
  if (result?.status !== "completed" || frozen === undefined || plan.sync === "none") return;
  const target = run.targetImage();
  const about = { job: plan.id, sync: plan.sync, target: plan.target, trouble: plan.trouble.kind };
  const whole =
    plan.sync === "full" ||
    plan.sync === "top" ||
    (plan.target === "update" && run.checkpoint !== undefined && run.updates);
  if (whole) {
    const at = firstDifference(target, frozen);
    if (at !== -1)
      fail("I2: the target is not the disk at the freeze", { ...about, at, target: target[at], frozen: frozen[at] });
    return;
  }
  if (run.extents === undefined) return;
  for (const { offset, length } of run.extents) {
    const at = firstDifference(target.subarray(offset, offset + length), frozen.subarray(offset, offset + length));
    if (at !== -1)
      fail("I2: an artefact holds something else than the disk at the freeze", { ...about, at: offset + at });
  }
  checkSet(run, fail, about);
  if (run.checkpoint === undefined) return;
  const restored = Buffer.from(run.checkpoint);
  for (const { offset, length } of run.extents) target.copy(restored, offset, offset, offset + length);
  const at = firstDifference(restored, frozen);
  if (at !== -1)
    fail("I2: the restored chain is not the disk at the freeze", {
      ...about,
      at,
      restored: restored[at],
      frozen: frozen[at],
    });
}

/** What was copied is what the bitmap said, rounded to clusters: not less, not more. @param {import("./job-run.mjs").JobRun} run @param {import("./replay.mjs").Fail} fail @param {object} about */
function checkSet(run, fail, about) {
  const { frozenGranules, frozen, extents } = run;
  if (frozenGranules === undefined || frozen === undefined || extents === undefined) return;
  const wanted = roundToClusters(frozenGranules, run.granularity, run.clusterSize, frozen.length);
  const copied = new Uint8Array(wanted.length);
  for (const { offset, length } of extents)
    copied.fill(1, Math.floor(offset / run.clusterSize), Math.ceil((offset + length) / run.clusterSize));
  const at = firstDifference(copied, wanted);
  if (at !== -1)
    fail("I2: what was copied is not what the bitmap said", {
      ...about,
      cluster: at,
      clusterSize: run.clusterSize,
      copied: copied[at],
      wanted: wanted[at],
    });
}

/**
 * Bitmap-mode always kept what reached the target: what the bitmap does not say any more is there.
 * @param {import("./job-run.mjs").JobRun} run @param {import("./replay.mjs").BitmapModel} bitmap as all was quiet after the job @param {import("./replay.mjs").Fail} fail
 */
export function checkKept(run, bitmap, fail) {
  const { frozen, frozenGranules, plan } = run;
  if (frozen === undefined || frozenGranules === undefined) return;
  const target = run.targetImage();
  for (let granule = 0; granule < bitmap.granules.length; granule++) {
    // Outside the job's set nothing was to be copied: there the older backup holds.
    if (bitmap.granules[granule] !== clean || (plan.sync === "bitmap" && frozenGranules[granule] === clean)) continue;
    const offset = granule * bitmap.granularity;
    const end = Math.min(offset + bitmap.granularity, frozen.length);
    const at = firstDifference(target.subarray(offset, end), frozen.subarray(offset, end));
    if (at !== -1) {
      fail("I2: bitmap-mode always gave up a cluster that is not on the target", {
        job: plan.id,
        granule,
        at: offset + at,
      });
      return;
    }
  }
}

/** A byte a cluster: whether any of its granules is set. @param {Uint8Array} granules @param {number} granularity @param {number} clusterSize @param {number} length */
export function roundToClusters(granules, granularity, clusterSize, length) {
  const clusters = new Uint8Array(Math.ceil(length / clusterSize));
  for (let at = 0; at < granules.length; at++) {
    if (granules[at] === clean) continue;
    const offset = at * granularity;
    clusters.fill(1, Math.floor(offset / clusterSize), Math.ceil(Math.min(offset + granularity, length) / clusterSize));
  }
  return clusters;
}
