/**
 * The spill, from the side of a thread: slots for old data, in memory first, then in a local file; both bounded.
 *
 * A slot goes free -> filling -> full -> draining -> freeing -> free; each step is a compare-exchange or a store by its one
 * owner. A reader pins a slot (adds to `readers`), looks at its state and cluster, copies, unpins. A slot can be read while a
 * drainer writes it to a target, which may take for ever; when that is done the drainer marks it as freeing, and frees it only
 * after it saw `readers` at 0: a reader that pinned before is waited for; one that pins after sees that the slot is going.
 * (Comparing a version afterwards is not enough: on arm64 plain reads may pass it.)
 *
 * Of a spill that is synced, a drained slot is held until a flush of the target covers its cluster (spill-sync.ts).
 *
 * Of a resumable job there are file slots only, each an entry that is found again after a restart (spill-entry.ts): what a guest
 * overwrites is in the file before.
 */
import { type Errno, readFully, truncateFile, writeFully } from "@heirloom/block";
import * as entries from "./spill-entry.ts";
import * as layout from "./spill-layout.ts";

/** EBADMSG: an entry of the file is not what was stored. */
const badMessage = 74;
/** No slot is free. */
export const noSlot = -1;

const { slotFields, slotsStart } = layout;

export class Spill {
  readonly words: Int32Array;
  readonly #memory: Uint8Array;
  readonly #clusterSize: number;
  readonly #memorySlots: number;
  readonly #fileSlotsMax: number;
  readonly #zeroSlots: number;
  /** -1 without readers. */
  readonly #indexMask: number;
  readonly #indexStart: number;
  readonly #slices: (Uint8Array | undefined)[] = [];
  /** Of a resumable job; 0: slots are bytes and nothing else. */
  readonly #entryTag: number;
  /** What is stored is synced before a guest overwrites it. */
  readonly syncs: boolean;
  /** This thread's buffer for an entry. */
  #entry: Uint8Array | undefined;

  constructor(words: Int32Array, memory: Uint8Array, clusterSize: number) {
    this.words = words;
    this.#memory = memory;
    this.#clusterSize = clusterSize;
    this.#memorySlots = words[layout.memorySlotsWord];
    this.#fileSlotsMax = words[layout.fileSlotsMaxWord];
    this.#zeroSlots = words[layout.zeroSlotsWord];
    this.#indexMask = words[layout.indexSizeWord] - 1;
    this.#entryTag = words[layout.entryTagWord];
    this.syncs = words[layout.syncsWord] !== 0;
    this.#indexStart = slotsStart + (this.#memorySlots + this.#fileSlotsMax + this.#zeroSlots) * slotFields;
  }

  /** Slots that wait for a drainer. */
  get full(): number {
    return Atomics.load(this.words, layout.fullWord);
  }

  /** What is stored here is found again after a restart. */
  get isKept(): boolean {
    return this.#entryTag !== 0;
  }

  /** Less than half of the memory (of what there is, where there is none) is free: movers should come now, and not when they look next. */
  isPressing(): boolean {
    if (this.#memorySlots === 0)
      return Atomics.load(this.words, layout.freeFileWord) * 2 < Atomics.load(this.words, layout.fileSlotsWord);
    return Atomics.load(this.words, layout.freeMemoryWord) * 2 < this.#memorySlots;
  }

  /** A filling slot with room for a cluster, or `noSlot`. */
  take(): number {
    const memory = this.#takeOf(layout.freeMemoryWord, layout.hintMemoryWord, 0, this.#memorySlots);
    if (memory !== noSlot) {
      if (this.#fileSlotsMax > 0 && this.isPressing()) this.#wantFile(false);
      return memory;
    }
    const file = this.#takeOf(layout.freeFileWord, layout.hintFileWord, this.#memorySlots, -1);
    if (
      file === noSlot ||
      Atomics.load(this.words, layout.freeFileWord) * 2 < Atomics.load(this.words, layout.fileSlotsWord)
    ) {
      this.#wantFile(true);
    }
    return file;
  }

  /** A filling slot for a cluster of zeroes, or `noSlot`. */
  takeZero(): number {
    return this.#takeOf(
      layout.freeZeroWord,
      layout.hintZeroWord,
      this.#memorySlots + this.#fileSlotsMax,
      this.#zeroSlots,
    );
  }

  isZeroSlot(slot: number): boolean {
    return slot >= this.#memorySlots + this.#fileSlotsMax;
  }

  /** The bytes of a memory slot; undefined for the other kinds. */
  memory(slot: number): Uint8Array | undefined {
    if (slot >= this.#memorySlots) return undefined;
    return (this.#slices[slot] ??= this.#memory.subarray(slot * this.#clusterSize, (slot + 1) * this.#clusterSize));
  }

  /** Writes a file slot that is being filled with what the cluster held. @returns errno */
  store(slot: number, data: Uint8Array, cluster: number): Errno {
    const fd = Atomics.load(this.words, layout.fileDescriptorWord);
    if (this.#entryTag === 0) return writeFully(fd, data, this.#fileOffset(slot));
    const entry = this.#entryBuffer();
    entry.set(data, entries.entryHeadBytes);
    entry.fill(0, entries.entryHeadBytes + data.length); // the disk's last cluster may be a short one
    entries.sealEntry(entry, this.#entryTag, cluster);
    const errno = writeFully(fd, entry, this.#fileOffset(slot));
    if (errno === 0 && this.syncs) Atomics.add(this.words, layout.storedWord, 1); // before its cluster is preserved
    return errno;
  }

  /** Reads a slot of any kind into `data`, which may be shorter than a cluster. @returns errno */
  load(slot: number, data: Uint8Array, from = 0): Errno {
    if (this.isZeroSlot(slot)) {
      data.fill(0);
      return 0;
    }
    const memory = this.memory(slot);
    if (memory !== undefined) {
      data.set(memory.subarray(from, from + data.length));
      return 0;
    }
    const fd = Atomics.load(this.words, layout.fileDescriptorWord);
    if (this.#entryTag === 0) return readFully(fd, data, this.#fileOffset(slot) + from);
    const entry = this.#entryBuffer();
    const errno = readFully(fd, entry, this.#fileOffset(slot));
    if (errno !== 0) return errno;
    if (entries.openEntry(entry, this.#entryTag) !== this.cluster(slot)) return badMessage;
    const start = entries.entryHeadBytes + from;
    data.set(entry.subarray(start, start + data.length));
    return 0;
  }

  /**
   * A view that is given up: a guest is about to overwrite what is stored nowhere, and a restart must not take the job up. Said in
   * the file before the guest writes; where that fails the file is made useless, which says the same.
   */
  giveUp(): void {
    const fd = Atomics.load(this.words, layout.fileDescriptorWord);
    if (this.#entryTag === 0 || fd === -1) return;
    if (writeFully(fd, entries.encodeGivenUp(this.#entryTag), entries.givenUpAt) !== 0) truncateFile(fd, 0);
  }

  #entryBuffer(): Uint8Array {
    return (this.#entry ??= new Uint8Array(entries.entryHeadBytes + this.#clusterSize));
  }

  /** A filled slot becomes full: drainers and readers may find it. */
  publish(slot: number, cluster: number): void {
    Atomics.store(this.words, slotsStart + slot * slotFields + layout.clusterField, cluster);
    this.setFailure(slot, 0);
    Atomics.store(this.words, slotsStart + slot * slotFields + layout.stateField, layout.slotFull);
    Atomics.add(this.words, layout.fullWord, 1);
    if (this.#indexMask < 0) return;
    // There are twice as many entries as slots, and a slot has one at most: the search ends.
    for (let at = hashOf(cluster) & this.#indexMask; ; at = (at + 1) & this.#indexMask) {
      const entry = Atomics.load(this.words, this.#indexStart + at);
      if (entry !== 0 && entry !== layout.tombstone) continue;
      if (Atomics.compareExchange(this.words, this.#indexStart + at, entry, slot + 1) === entry) return;
    }
  }

  /** Gives back a slot that was taken and not published. A reader that pins it sees that it is not full: no wait. */
  giveBack(slot: number): void {
    Atomics.store(this.words, slotsStart + slot * slotFields + layout.stateField, layout.slotFree);
    Atomics.add(this.words, this.#freeWordOf(slot), 1);
  }

  /**
   * Frees a drained slot, once its readers have unpinned it. `over` ends the wait: a reader that died keeps its pin, and
   * then the view is over and the slot stays draining until the view's memory is given back.
   */
  freeDrained(slot: number, over: () => boolean): void {
    const readers = slotsStart + slot * slotFields + layout.readersField;
    Atomics.store(this.words, slotsStart + slot * slotFields + layout.stateField, layout.slotFreeing);
    for (;;) {
      const pins = Atomics.load(this.words, readers);
      if (pins === 0) break;
      if (over()) return;
      Atomics.wait(this.words, readers, pins, 1);
    }
    this.#leaveIndex(slot);
    this.giveBack(slot);
  }

  /** A slot taken to drain, whose cluster is on the target: its place is kept until a flush covers that. */
  hold(slot: number): void {
    Atomics.store(this.words, slotsStart + slot * slotFields + layout.stateField, layout.slotHeld);
    Atomics.add(this.words, layout.heldWord, 1);
  }

  /** Slots that wait for a flush of the target. */
  get held(): number {
    return Atomics.load(this.words, layout.heldWord);
  }

  /** Frees the held slots of clusters that `covered` has: a bit a cluster. */
  freeHeld(covered: Int32Array): void {
    const slots = this.#memorySlots + Atomics.load(this.words, layout.fileSlotsWord);
    for (let slot = this.#memorySlots, left = this.held; slot < slots && left > 0; slot++) {
      if (Atomics.load(this.words, slotsStart + slot * slotFields + layout.stateField) !== layout.slotHeld) continue;
      left--;
      const cluster = this.cluster(slot);
      if ((covered[cluster >>> 5] & (1 << (cluster & 31))) === 0) continue;
      Atomics.sub(this.words, layout.heldWord, 1);
      this.giveBack(slot);
    }
  }

  /**
   * Takes the next full slot to drain, or `noSlot`. The caller looks whether its cluster may be drained now and either
   * frees it or puts it back.
   */
  takeFull(): number {
    if (this.full <= 0) return noSlot;
    const used = this.#memorySlots + Atomics.load(this.words, layout.fileSlotsWord);
    const zeroStart = this.#memorySlots + this.#fileSlotsMax;
    const searched = used + this.#zeroSlots;
    let at = Atomics.load(this.words, layout.hintDrainWord) % searched;
    for (let looked = 0; looked < searched; looked++, at = at + 1 === searched ? 0 : at + 1) {
      const slot = at < used ? at : zeroStart + at - used;
      const state = slotsStart + slot * slotFields + layout.stateField;
      if (Atomics.load(this.words, state) !== layout.slotFull) continue;
      if (Atomics.compareExchange(this.words, state, layout.slotFull, layout.slotDraining) !== layout.slotFull)
        continue;
      Atomics.sub(this.words, layout.fullWord, 1);
      Atomics.store(this.words, layout.hintDrainWord, at + 1);
      return slot;
    }
    return noSlot;
  }

  /** Clusters are found by an index. */
  get isIndexed(): boolean {
    return this.#indexMask >= 0;
  }

  /** Takes the full slot that holds `cluster`, to drain it, or `noSlot`. */
  takeFullOf(cluster: number): number {
    const slot = this.pin(cluster);
    if (slot === noSlot) return noSlot;
    const state = slotsStart + slot * slotFields + layout.stateField;
    const taken = Atomics.compareExchange(this.words, state, layout.slotFull, layout.slotDraining) === layout.slotFull;
    this.unpin(slot); // pinned, it was not given to another cluster
    if (!taken) return noSlot;
    Atomics.sub(this.words, layout.fullWord, 1);
    return slot;
  }

  /** A slot taken to drain is full again. */
  putBack(slot: number): void {
    Atomics.store(this.words, slotsStart + slot * slotFields + layout.stateField, layout.slotFull);
    Atomics.add(this.words, layout.fullWord, 1);
  }

  /** Errno that the target answered for a slot that the caller owns or pins; 0 if it is to be tried (again). */
  failure(slot: number): number {
    return Atomics.load(this.words, slotsStart + slot * slotFields + layout.failureField);
  }
  setFailure(slot: number, errno: number): void {
    Atomics.store(this.words, slotsStart + slot * slotFields + layout.failureField, errno);
  }

  /** The cluster of a slot that the caller owns or pins. */
  cluster(slot: number): number {
    return Atomics.load(this.words, slotsStart + slot * slotFields + layout.clusterField);
  }

  /** A reader's look: the slot that holds `cluster`, pinned, or `noSlot`. Whoever pins unpins. */
  pin(cluster: number): number {
    let at = hashOf(cluster) & this.#indexMask;
    for (let looked = 0; looked <= this.#indexMask; looked++, at = (at + 1) & this.#indexMask) {
      const entry = Atomics.load(this.words, this.#indexStart + at);
      if (entry === 0) return noSlot;
      if (entry === layout.tombstone) continue;
      const slot = entry - 1;
      if (!this.#holds(slot, cluster)) continue;
      Atomics.add(this.words, slotsStart + slot * slotFields + layout.readersField, 1);
      if (this.#holds(slot, cluster)) return slot;
      this.unpin(slot);
    }
    return noSlot;
  }

  unpin(slot: number): void {
    const readers = slotsStart + slot * slotFields + layout.readersField;
    if (Atomics.sub(this.words, readers, 1) === 1) Atomics.notify(this.words, readers);
  }

  #holds(slot: number, cluster: number): boolean {
    const base = slotsStart + slot * slotFields;
    const state = Atomics.load(this.words, base + layout.stateField);
    return (
      (state === layout.slotFull || state === layout.slotDraining) &&
      Atomics.load(this.words, base + layout.clusterField) === cluster
    );
  }

  /** The slot is the caller's, and nobody reads it. */
  #leaveIndex(slot: number): void {
    if (this.#indexMask < 0) return;
    for (let at = hashOf(this.cluster(slot)) & this.#indexMask; ; at = (at + 1) & this.#indexMask) {
      if (Atomics.load(this.words, this.#indexStart + at) !== slot + 1) continue;
      Atomics.store(this.words, this.#indexStart + at, layout.tombstone);
      return;
    }
  }

  #freeWordOf(slot: number): number {
    if (slot < this.#memorySlots) return layout.freeMemoryWord;
    return this.isZeroSlot(slot) ? layout.freeZeroWord : layout.freeFileWord;
  }

  #fileOffset(slot: number): number {
    if (this.#entryTag !== 0) return entries.entryOffset(slot - this.#memorySlots, this.#clusterSize);
    return (slot - this.#memorySlots) * this.#clusterSize;
  }

  /**
   * The count of free slots is taken down first, so a search that begins is sure to end: there is a free slot for
   * everybody who got through the count. A thread that dies in between loses a slot until the view ends; its view breaks.
   * File slots grow in number before their count of free ones does, so their number is read after the count (-1).
   */
  #takeOf(freeWord: number, hintWord: number, first: number, fixed: number): number {
    // Never below 0, not even for a moment: whoever looks whether there is room must not see less than there is.
    for (;;) {
      const free = Atomics.load(this.words, freeWord);
      if (free === 0) return noSlot;
      if (Atomics.compareExchange(this.words, freeWord, free, free - 1) === free) break;
    }
    const count = fixed === -1 ? Atomics.load(this.words, layout.fileSlotsWord) : fixed;
    let at = Atomics.load(this.words, hintWord) % count;
    for (;;) {
      const slot = first + at;
      const state = slotsStart + slot * slotFields + layout.stateField;
      at = at + 1 === count ? 0 : at + 1;
      if (Atomics.load(this.words, state) !== layout.slotFree) continue;
      if (Atomics.compareExchange(this.words, state, layout.slotFree, layout.slotFilling) !== layout.slotFree) continue;
      Atomics.store(this.words, hintWord, at);
      return slot;
    }
  }

  /** Asks the main thread for (more of) the file, off this thread's path. */
  #wantFile(more: boolean): void {
    if (this.#fileSlotsMax === 0) return;
    const asked = Atomics.load(this.words, layout.fileWantedWord);
    if (!more && asked !== 0) return;
    const ready = Atomics.load(this.words, layout.fileSlotsWord);
    if (ready === this.#fileSlotsMax) return;
    // `asked` is 2 * times asked + 1 while one request is under way: ask once at a time.
    if ((asked & 1) !== 0) return;
    if (Atomics.compareExchange(this.words, layout.fileWantedWord, asked, asked + 1) === asked) {
      Atomics.notify(this.words, layout.fileWantedWord);
    }
  }
}

function hashOf(cluster: number): number {
  return Math.imul(cluster, 0x9e3779b1) >>> 7;
}
