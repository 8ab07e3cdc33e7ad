/**
 * A point-in-time view, as every thread sees it: what the disk held at one instant. This file has the words and bits and
 * the claim protocol; who uses them is in preserve.ts (guests), copier.ts, drainer.ts and reader.ts.
 *
 * A cluster is *needed* while it is in the set and not preserved (nor retired). The device is read only while its cluster
 * is needed, and what was read counts only if the view is not over afterwards: so what is kept is neither torn nor new.
 */
import type { SharedBitmap } from "@heirloom/bitmap";
import type { RegionReference } from "./arena.ts";
import type { ArenaLookup } from "./arena-map.ts";
import { makeProgress } from "./gate.ts";
import { closedWord, slotsWord } from "./gate-layout.ts";
import { getBitmap, getReference } from "./descriptors.ts";
import { NumberReader } from "./numbers.ts";
import { noSlot, Spill } from "./spill.ts";
import { spillWords } from "./spill-layout.ts";
import * as layout from "./view-layout.ts";

/** Claims share words: nobody sleeps longer than this for one that another thread holds without looking again. */
export const claimWaitMs = 10;

/** A transition's longest try; a closed gate is opened in the same call. */
const standAsideMs = 50;

export class View {
  readonly words: Int32Array;
  readonly busy: Int32Array;
  readonly copying: Int32Array;
  readonly preserved: Int32Array;
  readonly copied: Int32Array;
  readonly retired: Int32Array;
  /** Undefined unless the spill is synced. */
  readonly safe: Int32Array | undefined;
  /** Bytes of a cluster of the view: what one claim covers. */
  readonly clusterSize: number;
  readonly clusters: number;
  /** Bytes of the disk at the instant. */
  readonly length: number;
  /** Bytes that the set is rounded out to: the job's cluster size, at least `clusterSize`. */
  readonly setUnit: number;
  /** A guest's request waits at most this long for room in the spill. */
  readonly guestDelayMaxMs: number;
  /** Instead of breaking the view, a guest's write fails. */
  readonly breakGuestWrite: boolean;
  /** A guest's write waits for the target. */
  readonly synchronous: boolean;
  /** Undefined: every cluster. */
  readonly set: SharedBitmap | undefined;
  readonly spill: Spill;
  /** Clusters of a unit of the set; a power of two. */
  readonly #perUnit: number;
  #setWord = -1;
  #setMask = 0;
  /** The disk's gate, which outlives the view: parked guests sleep on a word of it. */
  readonly #gate: Int32Array;

  private constructor(reference: RegionReference, arenas: ArenaLookup) {
    const buffer = arenas.buffer(reference.arena);
    this.words = new Int32Array(buffer, reference.byteOffset, layout.headerWords);
    const descriptorStart = reference.byteOffset + layout.headerWords * 4;
    const [descriptorLength] = new Float64Array(buffer, descriptorStart, 1);
    const row = new NumberReader(new Float64Array(buffer, descriptorStart, descriptorLength));
    row.get();
    this.clusterSize = row.get();
    this.clusters = row.get();
    this.length = row.get();
    this.setUnit = row.get();
    this.#perUnit = this.setUnit / this.clusterSize;
    this.guestDelayMaxMs = row.get();
    this.breakGuestWrite = row.get() !== 0;
    this.synchronous = row.get() !== 0;
    const gate = getReference(row);
    this.#gate = new Int32Array(arenas.buffer(gate.arena), gate.byteOffset, slotsWord);
    const spillMemory = getReference(row);
    const spillReference = getReference(row);
    const memorySlots = row.get();
    const words = spillWords(memorySlots, row.get(), row.get(), row.get());
    this.spill = new Spill(
      new Int32Array(arenas.buffer(spillReference.arena), spillReference.byteOffset, words),
      new Uint8Array(arenas.buffer(spillMemory.arena), spillMemory.byteOffset, memorySlots * this.clusterSize),
      this.clusterSize,
    );
    this.set = row.get() === 0 ? undefined : getBitmap(row, arenas);
    const bits = layout.bitWords(this.clusters);
    const start = descriptorStart + descriptorLength * 8;
    this.busy = new Int32Array(buffer, start, bits);
    this.copying = new Int32Array(buffer, start + bits * 4, bits);
    this.preserved = new Int32Array(buffer, start + bits * 8, bits);
    this.copied = new Int32Array(buffer, start + bits * 12, bits);
    this.retired = new Int32Array(buffer, start + bits * 16, bits);
    this.safe = this.spill.syncs ? new Int32Array(buffer, start + bits * 20, bits) : undefined;
  }

  static at(reference: RegionReference, arenas: ArenaLookup): View {
    return new View(reference, arenas);
  }

  /** Ended or broken: nobody begins a read or a write for it any more. */
  over(): boolean {
    return Atomics.load(this.words, layout.stoppedWord) !== 0 || Atomics.load(this.words, layout.brokenWord) !== 0;
  }

  stopped(): boolean {
    return Atomics.load(this.words, layout.stoppedWord) !== 0;
  }

  /** 0, or why the view is broken (view-layout.ts). */
  broken(): number {
    return Atomics.load(this.words, layout.brokenWord);
  }

  /**
   * The view cannot be kept. Said before the claim is released and before the guest writes: whoever read the device for
   * the view looks at this word again before what it read counts, so it cannot count what came after.
   */
  break(reason: number, errno = 0): void {
    if (!this.over()) this.spill.giveUp();
    if (errno !== 0) Atomics.compareExchange(this.words, layout.brokenErrnoWord, 0, errno);
    Atomics.compareExchange(this.words, layout.brokenWord, 0, reason);
    this.wakeAll();
  }

  inSet(cluster: number): boolean {
    if (this.set === undefined) return true;
    const unit = cluster * this.clusterSize;
    const offset = unit - (unit % this.setUnit);
    return this.set.any(offset, Math.min(this.setUnit, this.length - offset));
  }

  needed(cluster: number): boolean {
    const word = cluster >>> 5;
    const bit = 1 << (cluster & 31);
    if ((Atomics.load(this.preserved, word) & bit) !== 0) return false;
    return (Atomics.load(this.retired, word) & bit) === 0 && this.inSet(cluster);
  }

  /** Part of the point in time for those who read it. */
  isReadable(cluster: number): boolean {
    return !this.isRetired(cluster) && this.inSet(cluster);
  }

  /** Those of `mask` in a word that are preserved and not on the target yet. */
  behindOf(word: number, mask: number): number {
    const safe = Atomics.load(this.copied, word) | Atomics.load(this.retired, word);
    return mask & Atomics.load(this.preserved, word) & ~safe;
  }

  /** Errno of the target for a preserved cluster, 0 if there is none (yet). @param forget it is tried again then */
  failureOf(cluster: number, forget: boolean): number {
    const slot = this.spill.pin(cluster);
    if (slot === noSlot) return 0; // it is on the target by now
    const errno = this.spill.failure(slot);
    if (errno !== 0 && forget) this.spill.setFailure(slot, 0);
    this.spill.unpin(slot);
    return forget ? 0 : errno;
  }

  /** Those of `mask` in a word that are needed. */
  neededOf(word: number, mask: number): number {
    const open = mask & ~(Atomics.load(this.preserved, word) | Atomics.load(this.retired, word));
    return open === 0 || this.set === undefined ? open : open & this.setOf(word);
  }

  /** Those of `mask` in a word that a copier is to bring to the target: of a synced spill what is copied may still be needed. */
  wantedOf(word: number, mask: number): number {
    const needed = this.neededOf(word, mask);
    return needed === 0 || this.safe === undefined ? needed : needed & ~Atomics.load(this.copied, word);
  }

  /** Of a synced spill: those of `mask` in a word that a guest must not overwrite yet. */
  unsafeOf(word: number, mask: number): number {
    if (this.safe === undefined) return 0;
    const open = mask & ~(Atomics.load(this.safe, word) | Atomics.load(this.retired, word));
    return open === 0 ? 0 : open & this.setOf(word);
  }

  /**
   * Those clusters of a word that are in the set; it is asked once for each of its units. The set does not change while the
   * view stands, and who asks for a word asks again for the same one: the last answer is kept.
   */
  setOf(word: number): number {
    if (this.set === undefined) return word * 32 + 32 <= this.clusters ? -1 : (1 << (this.clusters & 31)) - 1;
    if (word === this.#setWord) return this.#setMask;
    let mask = 0;
    const end = Math.min(32, this.clusters - word * 32);
    for (let bit = 0; bit < end; bit += this.#perUnit) {
      if (!this.inSet(word * 32 + bit)) continue;
      if (this.#perUnit >= 32) mask = -1;
      else mask |= ((1 << this.#perUnit) - 1) << bit;
    }
    this.#setWord = word;
    this.#setMask = mask;
    return mask;
  }

  isPreserved(cluster: number): boolean {
    return (Atomics.load(this.preserved, cluster >>> 5) & (1 << (cluster & 31))) !== 0;
  }
  isRetired(cluster: number): boolean {
    return (Atomics.load(this.retired, cluster >>> 5) & (1 << (cluster & 31))) !== 0;
  }
  isCopied(cluster: number): boolean {
    return (Atomics.load(this.copied, cluster >>> 5) & (1 << (cluster & 31))) !== 0;
  }
  isCopying(cluster: number): boolean {
    return (Atomics.load(this.copying, cluster >>> 5) & (1 << (cluster & 31))) !== 0;
  }

  /** Bytes of a cluster that exist: the last one may reach past the end of the disk. */
  bytesOf(cluster: number): number {
    return Math.min(this.clusterSize, this.length - cluster * this.clusterSize);
  }

  /** Claims those of `mask` in a word that nobody holds. Whoever saw a bit 0 owns it. @returns the bits got */
  claim(word: number, mask: number): number {
    return mask & ~Atomics.or(this.busy, word, mask);
  }

  release(word: number, mask: number): void {
    Atomics.and(this.busy, word, ~mask);
    // A waiter counts itself before it looks at the word for the last time: either it finds the bit clear, or it is counted.
    if (Atomics.load(this.words, layout.claimWaitersWord) !== 0) Atomics.notify(this.busy, word);
  }

  /** Sleeps a bounded time for a claim that another thread holds. The observed word makes a missed wake-up impossible. */
  waitForClaim(word: number, mask: number): void {
    Atomics.add(this.words, layout.claimWaitersWord, 1);
    const observed = Atomics.load(this.busy, word);
    if ((observed & mask) !== 0 && !this.over()) Atomics.wait(this.busy, word, observed, claimWaitMs);
    Atomics.sub(this.words, layout.claimWaitersWord, 1);
  }

  setPreserved(word: number, mask: number): void {
    Atomics.or(this.preserved, word, mask);
  }
  setSafe(word: number, mask: number): void {
    if (this.safe !== undefined) Atomics.or(this.safe, word, mask);
  }
  setCopied(word: number, mask: number): void {
    Atomics.or(this.copied, word, mask);
  }

  /** The caller holds the claims. */
  retire(word: number, mask: number): void {
    Atomics.or(this.retired, word, mask);
  }
  /** On the target no more; retired before. */
  dropCopied(word: number, mask: number): void {
    Atomics.and(this.copied, word, ~mask);
  }

  /** Takes `copying` for those of `mask` that nobody works on. @returns the bits got */
  takeCopying(word: number, mask: number): number {
    return mask & ~Atomics.or(this.copying, word, mask);
  }
  dropCopying(word: number, mask: number): void {
    Atomics.and(this.copying, word, ~mask);
  }

  /** Readers have given up a part. */
  tellDiscards(): void {
    Atomics.add(this.words, layout.discardsWord, 1);
    this.wakeMovers();
  }
  discardsSeen(): number {
    return Atomics.load(this.words, layout.discardsWord);
  }

  /** Errno of the last write to the target; 0 if it went well. */
  targetErrno(): number {
    return Atomics.load(this.words, layout.targetErrnoWord);
  }
  setTargetErrno(errno: number): void {
    if (this.targetErrno() !== errno) Atomics.store(this.words, layout.targetErrnoWord, errno);
  }

  /** The spill fills up, or main has something to say: movers look now. (They look at the spill by themselves every few ms.) */
  wakeMovers(): void {
    Atomics.add(this.words, layout.workWord, 1);
    if (Atomics.load(this.words, layout.sleepingWord) !== 0) Atomics.notify(this.words, layout.workWord);
  }
  workSeen(): number {
    return Atomics.load(this.words, layout.workWord);
  }
  /** Sleeps until `wakeMovers` was called after `seen` was read, or the time is over. */
  waitForWork(seen: number, timeoutMs: number): void {
    // Counted before the sleep: whoever moves `work` after this sees it and notifies; before this, the wait does not begin.
    Atomics.add(this.words, layout.sleepingWord, 1);
    Atomics.wait(this.words, layout.workWord, seen, timeoutMs);
    Atomics.sub(this.words, layout.sleepingWord, 1);
  }

  /** A slot of the spill got free. */
  madeProgress(): void {
    makeProgress(this.#gate);
  }

  /**
   * Between two runs: while a transition holds the disk's gate the copier leaves its core to the guest that is waited for. Where
   * threads outnumber cores that guest may be standing in line behind this very thread.
   */
  standAside(): void {
    if (Atomics.load(this.#gate, closedWord) !== 0) Atomics.wait(this.#gate, closedWord, 1, standAsideMs);
  }

  /** Everybody who sleeps for this view looks again (sleepers on claims within `claimWaitMs`). */
  wakeAll(): void {
    this.wakeMovers();
    makeProgress(this.#gate);
  }
}
