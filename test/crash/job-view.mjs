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
  /** @param {import("./world.mjs").World} world @param {Set<number>} set @param {boolean} synced its spill is synced */
  constructor(world, set, synced) {
    this.world = world;
    this.synced = synced;
    /** Of a synced spill: what a guest may overwrite. @type {Set<number>} */
    this.safe = new Set();
    /** Of a synced spill: granules that were drained, and whose places wait for a flush of the target. @type {Set<number>} */
    this.held = new Set();
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
    if (this.synced) this.#preserveSynced(granule);
    else if (this.isNeeded(granule)) this.#store(granule);
  }

  /** Stored and synced, though it may be on the target: no flush covers that yet. @param {number} granule */
  #preserveSynced(granule) {
    if (this.broken || !this.set.has(granule) || this.safe.has(granule)) return;
    if (!this.stored.has(granule)) this.#store(granule);
    this.world.recorder.add({ file: "spill", type: "sync" });
    if (!this.broken) this.safe.add(granule);
  }

  /** @param {number} granule */
  #store(granule) {
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

  /** A flush of the target covers these, and that is durable. @param {Iterable<number>} granules */
  flushed(granules) {
    for (const granule of granules) {
      this.safe.add(granule);
      const slot = this.stored.get(granule);
      if (slot === undefined || !this.held.delete(granule)) continue;
      this.stored.delete(granule);
      this.slots[slot] = undefined;
    }
  }

  /** It is on the target. @param {number} granule @param {number} slot */
  free(granule, slot) {
    if (this.synced) {
      this.held.add(granule);
      return;
    }
    this.stored.delete(granule);
    this.slots[slot] = undefined;
  }
}

function newSpill() {
  const bytes = new Uint8Array(spillBytes);
  bytes.set(encodeHeader(spillTag, clusterBytes), 0);
  return bytes;
}
