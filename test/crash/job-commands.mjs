/**
 * A resumable backup, in the order in which runtime and engine carry it out: records, copies, drains and flushes, with guests going on
 * between any two steps. The comments say what a crash at the place may find.
 */
import { SharedBitmap } from "../../packages/bitmap/dist/index.js";
import { foldInto } from "../../packages/journal/dist/fold.js";
import { blockGranules, blockWords } from "../../packages/journal/dist/layout.js";
import { JobView, spillTag } from "./job-view.mjs";
import { diskBytes, granularity } from "./world.mjs";

/** @typedef {import("./world.mjs").World} World */
/** @typedef {import("./world.mjs").Layer} Layer */

/** @param {World} world @param {string} name @param {boolean} success @param {boolean} synced its spill is synced */
export async function resumable(world, name, success, synced) {
  const bitmap = world.bitmaps.get(name);
  const entry = world.journal.bitmaps.get(name);
  if (bitmap === undefined || entry === undefined) throw new Error(`no bitmap ${name}`);
  const successor = await world.layer("successor");
  const [set, copied, flushed] = [await world.layer(), await world.layer(), await world.layer()];
  await world.journal.update(() => {
    entry.layers = [...entry.layers, successor.kept];
  });
  /** @type {import("./model.mjs").Life | undefined} */
  let next;
  /** @type {JobView | undefined} */
  let frozen;
  world.transition(() => {
    bitmap.successor = successor;
    next = world.life(name, world.content);
    lives(world, name).pop();
    frozen = new JobView(world, granulesOf(bitmap.bits.marks), synced);
    world.view = frozen;
  });
  const since = /** @type {import("./model.mjs").Life} */ (next);
  const view = /** @type {JobView} */ (frozen);
  world.following(since, name);
  world.mingle();
  // Until the record names it a crash reclaims; nobody was told of the job yet.
  if (foldInto(set.bits, SharedBitmap.create(diskBytes, granularity), bitmap.bits.marks) !== 0) throw new Error("set");
  world.mingle();
  if (synced) {
    world.syncImage();
    world.mingle();
  }
  world.model.job = { name, synced, pit: view.pit, set: view.set, since, must: false };
  world.tell();
  await world.journal.update(() => {
    entry.job = jobEntry(set, copied, flushed, synced);
  });
  world.model.job.must = !view.broken; // killed from here on it has to go on
  world.tell();

  for (let step = world.random.int(0, 12); step > 0 && !view.broken; step--) work(world, view, copied, flushed);
  const done = success && finish(world, view, copied);
  world.model.job.must = false; // what comes now ends it, or does not: a crash finds the one or the other
  world.tell();
  if (done) {
    world.transition(() => {
      world.view = undefined;
    });
    lives(world, name).push(since);
    world.tell();
    await world.journal.update(() => {
      entry.layers = [Object.assign(successor.kept, { role: "bits" })];
      entry.job = null;
    });
    lives(world, name).shift();
    world.model.job = undefined;
    world.tell();
    const old = bitmap.bits;
    world.transition(() => {
      bitmap.bits = successor;
      bitmap.successor = undefined;
    });
    world.unfollow(since);
    world.quiesce();
    for (const layer of [old, set, copied, flushed]) world.journal.freeLayer(layer.kept);
    return;
  }
  world.unfollow(since);
  // Before guests may overwrite what is stored nowhere.
  await world.journal.update(() => {
    entry.job = null;
  });
  world.model.job = undefined;
  world.tell();
  world.transition(() => {
    world.view = undefined;
    bitmap.successor = undefined;
  });
  world.fold(bitmap.bits, successor.marks);
  await world.journal.update(() => {
    entry.layers = [bitmap.bits.kept];
  });
  world.quiesce();
  for (const layer of [successor, set, copied, flushed]) world.journal.freeLayer(layer.kept);
}

/** One step of the job's threads, or of its flushes. @param {World} world @param {JobView} view @param {Layer} copied @param {Layer} flushed */
function work(world, view, copied, flushed) {
  const kind = world.random.int(0, 9);
  if (kind < 5) copyOne(world, view, copied);
  else if (kind < 7) drainOne(world, view, copied);
  else flush(world, view, flushed);
  world.mingle();
}

/** Reads and writes without a claim, then looks again under one. @param {World} world @param {JobView} view @param {Layer} copied */
function copyOne(world, view, copied) {
  const open = view.needed();
  if (open.length === 0) return;
  const granule = world.random.pick(open);
  world.mingle();
  const version = world.content[granule]; // it may be new by now
  world.mingle();
  world.recorder.add({ file: "target", type: "write", granule, version });
  world.mingle();
  if (view.isNeeded(granule)) sayCopied(view, granule, copied);
}

/** @param {World} world @param {JobView} view @param {Layer} copied */
function drainOne(world, view, copied) {
  const first = [...view.stored].find(([granule]) => !view.held.has(granule));
  if (first === undefined) return;
  const [granule, slot] = first;
  if (view.synced && view.copied.has(granule)) {
    view.free(granule, slot); // a copier was quicker
    return;
  }
  world.recorder.add({ file: "target", type: "write", granule, version: view.pit[granule] });
  sayCopied(view, granule, copied);
  view.free(granule, slot);
}

/** The record first, then memory: a guest that finds it there overwrites. @param {JobView} view @param {number} granule @param {Layer} copied */
function sayCopied(view, granule, copied) {
  add(copied, [granule]);
  view.copied.add(granule);
}

/** What a flush covers is what was copied before it. @param {World} world @param {JobView} view @param {Layer} flushed */
function flush(world, view, flushed) {
  const covered = [...view.copied];
  world.mingle();
  world.recorder.add({ file: "target", type: "sync" });
  world.mingle();
  add(flushed, covered);
  if (!view.synced) return;
  world.storage.sync();
  world.mingle();
  view.flushed(covered);
}

/** Everything is copied and the target flushed. @param {World} world @param {JobView} view @param {Layer} copied @returns {boolean} */
function finish(world, view, copied) {
  while (!view.broken && view.copied.size < view.set.size) {
    copyOne(world, view, copied);
    drainOne(world, view, copied);
  }
  if (view.copied.size < view.set.size) return false;
  world.recorder.add({ file: "target", type: "sync" });
  return true;
}

/** @param {Layer} layer @param {Iterable<number>} granules */
function add({ bits }, granules) {
  /** @type {Map<number, Int32Array>} */
  const blocks = new Map();
  for (const granule of granules) {
    const block = Math.floor(granule / blockGranules);
    const words = blocks.get(block) ?? new Int32Array(blockWords);
    const at = granule - block * blockGranules;
    words[at >>> 5] |= 1 << (at & 31);
    blocks.set(block, words);
  }
  for (const [block, words] of blocks) if (bits.add(block, words, true) !== 0) throw new Error("record");
}

/** @param {SharedBitmap} marks @returns {Set<number>} */
function granulesOf(marks) {
  const found = new Set();
  for (const { offset, length } of marks.extents())
    for (let at = offset; at < offset + length; at += granularity) found.add(at / granularity);
  return found;
}

/** @param {Layer} set @param {Layer} copied @param {Layer} flushed @param {boolean} synced @returns {any} */
function jobEntry(set, copied, flushed, synced) {
  return {
    id: "job",
    options: "",
    target: "target",
    targetName: "target",
    spill: "spill",
    tag: spillTag,
    clusterSize: granularity,
    all: false,
    synced,
    unit: granularity,
    frozenAt: 1,
    waitingSince: 0,
    set: set.kept,
    copied: copied.kept,
    flushed: flushed.kept,
  };
}

/** @param {World} world @param {string} name */
function lives(world, name) {
  const bitmap = world.model.bitmaps.get(name);
  if (bitmap === undefined) throw new Error(`no bitmap ${name}`);
  return bitmap.lives;
}
