/** What must hold of what a schedule has left. Each check throws with a sentence. */
import assert from "node:assert/strict";
import { operationField, slotWord } from "../../packages/engine/dist/gate-layout.js";
import * as spillLayout from "../../packages/engine/dist/spill-layout.js";
import { clusterSize, diskBytes, storage } from "./disks.mjs";
import { lab } from "./lab.mjs";
import { header } from "./control-words.mjs";

/** @typedef {import("./world.mjs").World} World */

/** @param {number} disk @param {number} cluster */
export function clusterOf(disk, cluster) {
  return storage.bytes.subarray(
    disk * diskBytes + cluster * clusterSize,
    disk * diskBytes + (cluster + 1) * clusterSize,
  );
}

/** @param {Uint8Array} one @param {Uint8Array} other */
function same(one, other) {
  return Buffer.compare(one, other) === 0;
}
/** A cluster in words: what its halves hold. @param {Uint8Array} bytes */
export function show(bytes) {
  const words = new Int32Array(bytes.slice().buffer);
  return words[0] === words[words.length - 1] ? String(words[0]) : `${words[0]}|${words[words.length - 1]}`;
}

/** I2: whatever a view says is copied or holds in its spill is what the disk held at its instant. @param {World} world @param {number} target disk of the view's target */
export function checkView(world, target, index = 0) {
  const { memory, image, base } = world.views[index];
  const { view } = memory;
  const origin = base / clusterSize;
  for (let cluster = 0; cluster < view.clusters; cluster++) {
    if (!view.isCopied(cluster)) continue;
    const held = clusterOf(target, cluster);
    const expected = world.oracle.imageOf(image, origin + cluster);
    assert.ok(
      same(held, expected),
      `I2: cluster ${cluster} is copied as ${show(held)}; at the instant it was ${show(expected)}`,
    );
  }
  const { spillWords } = memory;
  const slots =
    spillWords[spillLayout.memorySlotsWord] +
    spillWords[spillLayout.fileSlotsMaxWord] +
    spillWords[spillLayout.zeroSlotsWord];
  for (let slot = 0; slot < slots; slot++) {
    const at = spillLayout.slotsStart + slot * spillLayout.slotFields;
    if (spillWords[at + spillLayout.stateField] !== spillLayout.slotFull) continue;
    const cluster = view.spill.cluster(slot);
    const data = new Uint8Array(clusterSize);
    view.spill.load(slot, data);
    const expected = world.oracle.imageOf(image, origin + cluster);
    assert.ok(
      same(data, expected),
      `I2: slot ${slot} holds cluster ${cluster} as ${show(data)}; at the instant it was ${show(expected)}`,
    );
  }
}

/** Claims and slots after a schedule in which nobody died: nothing is held. @param {World} world */
export function checkReleased(world) {
  if (lab.words[header.killed] !== 0) return;
  for (const [index, { memory }] of world.views.entries()) {
    const { view, spillWords } = memory;
    for (const [word, bits] of view.busy.entries())
      assert.equal(bits, 0, `view ${index}: claims of word ${word} are still held`);
    const kinds = [
      { name: "memory", first: 0, count: spillWords[spillLayout.memorySlotsWord], free: spillLayout.freeMemoryWord },
      {
        name: "file",
        first: spillWords[spillLayout.memorySlotsWord],
        count: spillWords[spillLayout.fileSlotsMaxWord],
        free: spillLayout.freeFileWord,
      },
      {
        name: "zero",
        first: spillWords[spillLayout.memorySlotsWord] + spillWords[spillLayout.fileSlotsMaxWord],
        count: spillWords[spillLayout.zeroSlotsWord],
        free: spillLayout.freeZeroWord,
      },
    ];
    let full = 0;
    for (const { name, first, count, free } of kinds) {
      let unused = 0;
      for (let slot = first; slot < first + count; slot++) {
        const at = spillLayout.slotsStart + slot * spillLayout.slotFields;
        const state = spillWords[at + spillLayout.stateField];
        // A drainer that met a reader's pin when the view ended leaves its slot as it is (spill.ts, freeDrained).
        const leftDraining = memory.readers && view.over() && state === spillLayout.slotFreeing;
        assert.ok(
          state === spillLayout.slotFree || state === spillLayout.slotFull || leftDraining,
          `view ${index}: slot ${slot} is left in state ${state}`,
        );
        assert.equal(spillWords[at + spillLayout.readersField], 0, `view ${index}: slot ${slot} is still pinned`);
        if (state === spillLayout.slotFree) unused++;
        else if (!leftDraining) full++;
      }
      assert.equal(spillWords[free], unused, `view ${index}: count of free ${name} slots`);
    }
    assert.equal(spillWords[spillLayout.fullWord], full, `view ${index}: count of full slots`);
  }
  for (const stack of world.stacks) {
    for (let participant = 0; participant < 8; participant++)
      assert.equal(stack.words[slotWord(participant, operationField)], 0, `slot of thread ${participant} is not empty`);
  }
}

/**
 * I1 and I5: a bitmap has exactly the bits that it should, and a cluster that is clean is what it was at its checkpoint.
 * @param {World} world @param {number} recorder @param {(cluster: number) => boolean} expected @param {number} checkpoint image
 */
export function checkBitmap(world, recorder, expected, checkpoint) {
  const { recorder: of, disk, base } = world.recorders[recorder];
  const died = lab.words[header.killed] !== 0;
  for (let cluster = 0; cluster < of.bitmap.length / clusterSize; cluster++) {
    const set = of.bitmap.test(cluster * clusterSize);
    // Who died may have marked what it did not come to write.
    if (!(died && set)) assert.equal(set, expected(cluster), `I5: bit of cluster ${cluster} in bitmap ${recorder}`);
    if (set) continue;
    const at = base / clusterSize + cluster;
    const [now, then] = [clusterOf(disk, at), world.oracle.imageOf(checkpoint, at)];
    assert.ok(
      same(now, then),
      `I1: cluster ${cluster} is clean in bitmap ${recorder}, but it is ${show(now)} and was ${show(then)}`,
    );
  }
}
