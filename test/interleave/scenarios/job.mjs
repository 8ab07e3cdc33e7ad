/**
 * A backup as the coordinator carries it out, for all scenarios with a view: freeze, threads of the job, the transition that
 * ends the view, abdicate or reclaim with its fold, and what must hold afterwards.
 */
import assert from "node:assert/strict";
import { fullWord } from "../../../packages/engine/dist/spill-layout.js";
import { flushedAll, flushingWord } from "../../../packages/engine/dist/job-layout.js";
import { nextMissing } from "../../../packages/engine/dist/view-scan.js";
import { ends } from "../actor.mjs";
import { checkBitmap, checkReleased, checkView } from "../check.mjs";
import { clusterSize } from "../disks.mjs";
import { lab } from "../lab.mjs";

/** Images: what the disk held at the bitmap's checkpoint, and at the freeze. */
const checkpointImage = 1;
const frozenImage = 2;

/**
 * @typedef {object} JobOptions
 * @property {number} [clusters] of the disk
 * @property {number[]} [content] a number for each cluster; 0 is a cluster of zeroes
 * @property {number[] | undefined} [dirty] clusters of the set, undefined for all
 * @property {number} [target] number of the target's disk
 * @property {number[]} [movers] threads that the job's end waits for
 * @property {number} [copiers] how many of them copy
 * @property {number[]} [drainers] threads of the job that do not end by themselves
 * @property {"wait" | "at once"} [end] whether the job's end waits for its threads, or is a cancel at any moment
 * @property {boolean} [mustSucceed] nothing that may break the view or fail the job can happen
 * @property {boolean} [mayRefuse] guests' writes may fail
 * @property {object} [view] options of the view: slots of the spill, delay
 */

/** @param {import("../world.mjs").World} world @param {JobOptions} options */
export function setUpJob(world, { clusters = 2, content = [11, 12, 13, 14], dirty, view = {}, target = 3 }) {
  const at = world.attach(0, clusters);
  world.format(0, content.slice(0, clusters));
  world.format(
    target,
    Array.from({ length: clusters }, () => -1),
  );
  const bitmap = world.recorder(at);
  const successor = world.recorder(at);
  for (const cluster of dirty ?? []) bitmap.bitmap.set(cluster * clusterSize, clusterSize);
  world.oracle.take(checkpointImage, 0);
  world.setTable(at.layer, [bitmap], []);
  const memory = world.view(at, { ...view, set: dirty === undefined ? undefined : bitmap, image: frozenImage });
  world.job();
  world.extra = { at, bitmap, successor, memory, initial: new Set(dirty ?? []), success: false, results: [] };
}

/** The main thread's part. @param {import("../world.mjs").World} world @param {JobOptions} options */
export function runJob(world, { movers = [], drainers = [], copiers = movers.length, end = "wait" }) {
  const { at, bitmap, successor, memory, results } = world.extra;
  const { layer } = at;
  world.transition("freeze", [{ layer, recorders: [successor], views: [memory] }]);
  world.start(...movers, ...drainers);
  const left = new Set(movers);
  const count = (/** @type {number} */ event) => {
    const thread = event < 0 ? -1 - event : Math.floor(event / 100);
    if (!left.has(thread)) return;
    left.delete(thread);
    if (event >= 0) results.push(event % 100);
  };
  if (end === "wait") {
    while (left.size > 0) {
      const event = world.turn();
      if (event === undefined) break;
      count(event);
    }
  }
  const words = world.actor.jobs[0];
  const flushed = () =>
    lab.quietly(() => Atomics.load(words, flushingWord) === flushedAll && nextMissing(memory.view, 0) === -1);
  world.extra.success = end === "wait" && copiers > 0 && flushed();
  world.transition("end of the view", [{ layer, recorders: [world.extra.success ? successor : bitmap], views: [] }]);
  if (!world.extra.success) {
    bitmap.bitmap.fold(successor.bitmap);
    lab.quietly(() => successor.bitmap.equals(successor.bitmap));
    for (const region of successor.descriptor.regions) world.giveBack(region);
  }
  for (const drainer of drainers) left.add(drainer);
  while (left.size > 0) {
    const event = world.turn();
    if (event === undefined) break;
    count(event);
  }
  if (process.env["INTERLEAVE_KEEP_VIEWS"] !== undefined) return;
  // All threads of the view have let go of it, and guests are outside of any table that names it.
  world.giveBack(memory.region);
  world.oracle.giveBack(memory.spillWords.byteOffset, memory.spillWords.byteOffset + memory.spillWords.byteLength);
  world.giveBack(world.jobs[0]);
}

/** @param {import("../world.mjs").World} world @param {JobOptions} options */
export function checkJob(
  world,
  {
    target = 3,
    movers = [],
    copiers = movers.length,
    end = "wait",
    mustSucceed = false,
    mayRefuse = false,
    dirty,
    clusters = 2,
  },
) {
  const { initial, success, memory, results } = world.extra;
  const { view } = memory;
  checkReleased(world);
  checkView(world, target);
  const died = world.deaths > 0;
  if (!mayRefuse) assert.equal(world.oracle.noted(0), 0, "a guest's write failed");
  if (mustSucceed && !died) assert.equal(view.broken(), 0, "nothing can have broken the view");
  if (mustSucceed && !died && copiers > 0 && end === "wait")
    assert.ok(success, `the job had to succeed; its threads ended with ${results}`);
  if (success || results.includes(ends["copied"])) {
    for (let cluster = 0; cluster < clusters; cluster++) {
      if (dirty !== undefined && !initial.has(cluster)) continue;
      if (((view.retired[cluster >>> 5] >>> (cluster & 31)) & 1) !== 0) {
        const held = world.oracle.imageOf(frozenImage, cluster);
        assert.ok(
          held.every((/** @type {number} */ byte) => byte === 0),
          `cluster ${cluster} is retired, but it held data at the instant`,
        );
        continue;
      }
      assert.ok(view.isCopied(cluster), `a job that has copied everything has not copied cluster ${cluster}`);
    }
  }
  const kind = `${success ? "abdicated" : "reclaimed"}${["", ", spill full", ", unreadable", ", a thread died", ", spill failed"][view.broken()]}${world.oracle.noted(0) > 0 ? ", a guest's write failed" : ""}${memory.spillWords[fullWord] > 0 ? ", slots left" : ""}`;
  const written = (/** @type {number} */ recorder) => (/** @type {number} */ cluster) =>
    world.oracle.written(recorder, cluster);
  if (success) checkBitmap(world, 1, written(1), frozenImage);
  else
    checkBitmap(
      world,
      0,
      (cluster) => initial.has(cluster) || written(0)(cluster) || written(1)(cluster),
      checkpointImage,
    );
  return kind;
}
