/**
 * Marks of coarse regions: a region is marked durable before its first write, so that after a power loss what was written
 * there and whose exact bits were not synced counts as dirty.
 *
 * Rules, each with the run that it is there for:
 * - `covers` is asked inside the gate; `mark` runs outside it. A sync inside would hold transitions up.
 * - A mark is set in memory after its record was synced. The other way round a second writer takes it for durable.
 * - Settling clears `marked` first, then waits until every thread that was inside has been seen outside, then syncs. A writer
 *   that saw the mark may look at its granule only now, find it journaled by another one, and write: its bit has to be in
 *   the file before the sync, or the region has to stay marked.
 * - Settling syncs the image too: a cluster that was copied from the page cache, and is clean since, must not fall back
 *   behind its backup by a power loss while nothing says that it may have.
 * - A mark leaves the file only if it was not taken again meanwhile. One that is still in the file is taken again without I/O.
 * - One settler at a time: else the second one's region, whose bits it has not synced yet, looks to the first one like one
 *   that it may clear. What makes room for new marks holds `lock` from the first step to the last, and needs no more.
 */
import { EAGAIN, type Errno } from "@heirloom/block";
import { marksAt, marksSlotBytes } from "./layout.ts";
import { release, releaseOfDead, take, tryTake, waitWhileTaken } from "./lock.ts";
import { encodeMarks } from "./mark-record.ts";
import * as at from "./marks-layout.ts";
import { usedPart } from "./record.ts";
import type { Storage } from "./storage.ts";

export interface MarksAccess {
  readonly words: Int32Array;
  readonly storage: Storage;
  readonly tag: number;
  /** Bytes, a power of two. */
  readonly regionBytes: number;
  readonly regions: number;
  /** Regions that may be marked at once. */
  readonly markedMax: number;
  /** This thread (lock.ts). */
  readonly holder: number;
  /** Returns true when every thread that was inside the disk's gate has been seen outside; false if that takes too long. */
  readonly waitOutside: () => boolean;
  /** Makes the image durable: what was written to a region that is settled has reached the disk. */
  readonly syncImage: () => Errno;
}

/** Regions that are marked together while less than half of the bound is taken. */
const neighbours = 8;

export class RegionMarks {
  readonly #access: MarksAccess;
  readonly #words: Int32Array;
  readonly #layout: at.MarksLayout;
  readonly #marked: number;
  readonly #touched: number;
  readonly #perByte: number;
  readonly #record: Uint8Array = new Uint8Array(marksSlotBytes);

  constructor(access: MarksAccess) {
    this.#access = access;
    this.#words = access.words;
    this.#layout = at.marksLayout(access.regions);
    this.#marked = this.#layout.markedWord;
    this.#touched = this.#layout.touchedWord;
    this.#perByte = 1 / access.regionBytes;
  }

  /** errno of what failed, 0 while the journal works. */
  get failed(): Errno {
    return Atomics.load(this.#words, at.failedWord);
  }

  /** The first failure stays. */
  fail(errno: Errno): void {
    Atomics.compareExchange(this.#words, at.failedWord, 0, errno);
    Atomics.notify(this.#words, at.failedWord);
  }

  /** Inside the gate: whether writes to these bytes may go on. Says that the regions are in use. */
  covers(offset: number, length: number): boolean {
    const first = (offset * this.#perByte) | 0;
    const last = ((offset + length - 1) * this.#perByte) | 0;
    return this.#admits(first) && (first === last || this.#admits(last)); // a write is at most a region long
  }

  #admits(region: number): boolean {
    const word = region >>> 5;
    const bit = 1 << (region & 31);
    if ((Atomics.load(this.#words, this.#marked + word) & bit) === 0) return false;
    if ((Atomics.load(this.#words, this.#touched + word) & bit) === 0)
      Atomics.or(this.#words, this.#touched + word, bit);
    return true;
  }

  /** Outside the gate: makes the marks of these bytes durable, together with those of all who wait. */
  mark(offset: number, length: number, patient: boolean): Errno {
    const first = Math.floor(offset * this.#perByte);
    const last = Math.floor((offset + length - 1) * this.#perByte);
    for (;;) {
      if (this.failed !== 0) return 0; // the guest goes on
      if (this.#allMarked(first, last)) return 0;
      // All of them, each time: one that is marked already must not be what makes room for the other.
      for (let region = first; region <= last; region++) this.#set(this.#layout.wantedWord, region);
      if (tryTake(this.#words, at.lockWord, this.#access.holder)) {
        let errno: Errno;
        try {
          errno = this.#serve(patient);
        } finally {
          release(this.#words, at.lockWord);
        }
        if (errno !== 0) return errno;
      } else if (patient) waitWhileTaken(this.#words, at.lockWord);
      else return EAGAIN;
    }
  }

  /**
   * Settles regions that nobody has written since the last call, or all. @returns errno; EAGAIN if a thread stays inside the gate
   * so long that it was given up (what was to be settled stays marked in the file)
   */
  settle(all = false): Errno {
    take(this.#words, at.settlerWord, this.#access.holder);
    try {
      const quiet = this.#locked(() => this.#leave(all));
      if (quiet.length === 0) return 0;
      if (!this.#access.waitOutside()) return EAGAIN;
      const errno = this.#access.syncImage() || this.#sync();
      if (errno !== 0) return errno;
      return this.#locked(() => {
        const gone = new Set(quiet.filter((region) => !this.#has(this.#layout.markedWord, region)));
        Atomics.add(this.#words, at.settledWord, gone.size);
        return this.#write(this.#list(this.#layout.onDiskWord).filter((region) => !gone.has(region)));
      });
    } finally {
      release(this.#words, at.settlerWord);
    }
  }

  /** Takes over what an earlier run left marked. Nobody else uses the words yet. */
  adopt(regions: readonly number[], sequence: number): void {
    Atomics.store(this.#words, at.sequenceWord, sequence | 0);
    for (const region of regions) {
      if (region >= this.#access.regions) continue; // the disk has been shrunk since
      this.#set(this.#layout.onDiskWord, region);
      this.#set(this.#layout.markedWord, region);
    }
  }

  /** After a thread's exit. What it was writing counts as never written: the next record takes the same slot. */
  releaseOfDead(holder: number): void {
    releaseOfDead(this.#words, at.lockWord, holder);
    releaseOfDead(this.#words, at.settlerWord, holder);
  }

  /** Regions marked in the file, ascending. */
  get onDisk(): number[] {
    return this.#list(this.#layout.onDiskWord);
  }

  /** Holding the lock: marks what is wanted. */
  #serve(patient: boolean): Errno {
    const { wantedWord, onDiskWord } = this.#layout;
    const wanted = this.#list(wantedWord);
    const fresh: number[] = [];
    for (const region of wanted) {
      if (this.#has(onDiskWord, region)) this.#admit(region);
      else if (fresh.length < this.#access.markedMax) fresh.push(region);
    }
    if (fresh.length === 0) return 0;
    if (!patient) return EAGAIN;
    let kept = this.#list(onDiskWord);
    this.#lookAhead(fresh, kept.length);
    const excess = kept.length + fresh.length - this.#access.markedMax;
    if (excess > 0) {
      const victims = new Set(this.#victims(kept, excess, new Set(wanted)));
      for (const region of victims) this.#clear(this.#marked, region);
      if (!this.#access.waitOutside()) return 0; // tried again from the top
      const errno = this.#access.syncImage() || this.#sync();
      if (errno !== 0) return errno;
      kept = kept.filter((region) => !victims.has(region));
      Atomics.add(this.#words, at.settledWord, victims.size);
    }
    const errno = this.#write([...kept, ...fresh].sort((one, other) => one - other));
    if (errno !== 0) return errno;
    for (const region of fresh) this.#admit(region);
    return 0;
  }

  /** While there is room enough the neighbours are marked with the same sync: whoever writes here soon writes there. */
  #lookAhead(fresh: number[], kept: number): void {
    let room = (this.#access.markedMax >>> 1) - kept - fresh.length;
    for (const region of [...fresh]) {
      const first = region - (region % neighbours);
      for (let other = first; other < first + neighbours && room > 0; other++) {
        if (other >= this.#access.regions || this.#has(this.#layout.onDiskWord, other) || fresh.includes(other))
          continue;
        fresh.push(other);
        room--;
      }
    }
  }

  /** The region's mark is durable: writers may go on. */
  #admit(region: number): void {
    this.#set(this.#marked, region);
    this.#set(this.#touched, region);
    this.#clear(this.#layout.wantedWord, region);
  }

  /** Clears the memory's marks of quiet regions. */
  #leave(all: boolean): number[] {
    const quiet: number[] = [];
    for (const region of this.#list(this.#layout.onDiskWord)) {
      if (!all && this.#has(this.#touched, region)) this.#clear(this.#touched, region);
      else {
        this.#clear(this.#marked, region);
        quiet.push(region);
      }
    }
    return quiet;
  }

  /** A quarter more than is needed, so that making room is rare. Those in use get a second chance (a clock's hand). */
  #victims(kept: readonly number[], excess: number, wanted: ReadonlySet<number>): number[] {
    const count = Math.min(kept.length, Math.max(excess, this.#access.markedMax >>> 2));
    const hand = Atomics.load(this.#words, at.handWord);
    const start = kept.findIndex((region) => region > hand);
    const inTurn = start < 0 ? kept : [...kept.slice(start), ...kept.slice(0, start)];
    const victims: number[] = [];
    const inUse: number[] = [];
    for (const region of inTurn) {
      if (wanted.has(region)) continue;
      if (victims.length === count) break;
      if (this.#has(this.#touched, region)) inUse.push(region);
      else victims.push(region);
    }
    for (const region of inUse) this.#clear(this.#touched, region);
    victims.push(...inUse.slice(0, count - victims.length));
    // All that is left is wanted: somebody has to wait once more.
    if (victims.length < excess)
      victims.push(...inTurn.filter((one) => wanted.has(one)).slice(0, excess - victims.length));
    Atomics.store(this.#words, at.handWord, victims.at(-1) ?? 0);
    return victims;
  }

  /** Holding the lock: the file's marks become these, durably. */
  #write(regions: readonly number[]): Errno {
    const { storage, tag } = this.#access;
    const sequence = (Atomics.load(this.#words, at.sequenceWord) >>> 0) + 1;
    encodeMarks(this.#record, regions, tag, sequence);
    const errno = storage.write(usedPart(this.#record), marksAt + (sequence % 2) * marksSlotBytes) || this.#sync();
    if (errno !== 0) return errno;
    Atomics.store(this.#words, at.sequenceWord, sequence | 0);
    const now = new Set(regions);
    for (const region of this.#list(this.#layout.onDiskWord))
      if (!now.has(region)) this.#clear(this.#layout.onDiskWord, region);
    for (const region of regions) this.#set(this.#layout.onDiskWord, region);
    return 0;
  }

  #sync(): Errno {
    Atomics.add(this.#words, at.syncsWord, 1);
    return this.#access.storage.sync();
  }

  #locked<Value>(work: () => Value): Value {
    take(this.#words, at.lockWord, this.#access.holder);
    try {
      return work();
    } finally {
      release(this.#words, at.lockWord);
    }
  }

  #allMarked(first: number, last: number): boolean {
    for (let region = first; region <= last; region++) if (!this.#has(this.#marked, region)) return false;
    return true;
  }

  #has(base: number, region: number): boolean {
    return (Atomics.load(this.#words, base + (region >>> 5)) & (1 << (region & 31))) !== 0;
  }
  #set(base: number, region: number): void {
    Atomics.or(this.#words, base + (region >>> 5), 1 << (region & 31));
  }
  #clear(base: number, region: number): void {
    Atomics.and(this.#words, base + (region >>> 5), ~(1 << (region & 31)));
  }

  #list(base: number): number[] {
    const found: number[] = [];
    const words = (this.#access.regions + 31) >>> 5;
    for (let word = 0; word < words; word++) {
      for (let bits = Atomics.load(this.#words, base + word); bits !== 0; bits &= bits - 1)
        found.push(word * 32 + 31 - Math.clz32(bits & -bits));
    }
    return found;
  }
}

/** A bound is so many regions, or up to twice as many: fewer cost syncs, more make settling coarse. */
const boundRegions = 64;
/** Regions of 1 MiB: a write of a guest's is within two of them. */
const boundMin: number = boundRegions * 2 ** 20;

/** Sizes of regions and how many may be marked at once, for a bound in bytes. */
export function regionsFor(bound: number): { readonly regionBytes: number; readonly markedMax: number } {
  if (!Number.isSafeInteger(bound) || bound < boundMin)
    throw new RangeError(`expected a bound of at least ${boundMin} bytes, got ${bound}`);
  const regionBytes = 2 ** Math.floor(Math.log2(bound / boundRegions));
  return { regionBytes, markedMax: Math.floor(bound / regionBytes) };
}
