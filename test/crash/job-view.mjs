/** The view of a resumable job: what is needed, stored and copied, and its spill file, whose entries the engine's own code seals. */
import {
  encodeGivenUp,
  encodeHeader,
  entryHeadBytes,
  entryOffset,
  givenUpAt,
  sealEntry,
} from "../../packages/engine/dist/spill-entry.js";

export const spillTag = 4711;
/** Few: at times there is none left, and the view is given up. */
export const spillSlots = 5;
export const clusterBytes = 512;
export const spillBytes = entryOffset(spillSlots, clusterBytes);

export class JobView {
  /** @param {import("./world.mjs").World} world @param {Set<number>} set */
  constructor(world, set) {
    this.world = world;
    this.set = set;
    this.pit = world.content.slice();
    /** Granule to slot. @type {Map<number, number>} */
    this.stored = new Map();
    /** @type {Set<number>} */
    this.copied = new Set();
    this.broken = false;
    /** @type {(number | undefined)[]} */
    this.slots = Array.from({ length: spillSlots }, () => undefined);
    // A new file: nothing of an earlier job's is in it.
    world.recorder.add({ file: "spill", type: "make", bytes: newSpill() });
  }

  /** @param {number} granule */
  isNeeded(granule) {
    return !this.broken && this.set.has(granule) && !this.stored.has(granule) && !this.copied.has(granule);
  }
  needed() {
    return [...this.set].filter((granule) => this.isNeeded(granule));
  }

  /** Before a guest writes. @param {number} granule */
  preserve(granule) {
    if (!this.isNeeded(granule)) return;
    const slot = this.slots.indexOf(undefined);
    if (slot === -1) {
      this.giveUp();
      return;
    }
    const entry = new Uint8Array(entryHeadBytes + clusterBytes);
    new DataView(entry.buffer).setInt32(entryHeadBytes, this.world.content[granule], true);
    sealEntry(entry, spillTag, granule);
    this.world.recorder.add({ file: "spill", type: "write", offset: entryOffset(slot, clusterBytes), bytes: entry });
    this.slots[slot] = granule;
    this.stored.set(granule, slot);
  }

  /** Said in the file before the guest writes. */
  giveUp() {
    if (this.world.model.job !== undefined) this.world.model.job.must = false;
    this.world.tell();
    this.world.recorder.add({ file: "spill", type: "write", offset: givenUpAt, bytes: encodeGivenUp(spillTag) });
    this.broken = true;
  }

  /** @param {number} granule @param {number} slot */
  free(granule, slot) {
    this.stored.delete(granule);
    this.slots[slot] = undefined;
  }
}

function newSpill() {
  const bytes = new Uint8Array(spillBytes);
  bytes.set(encodeHeader(spillTag, clusterBytes), 0);
  return bytes;
}
