/**
 * The bits of one layer as they stand in the journal: a copy in shared memory, and the blocks in the file.
 *
 * `journaled` has a bit for each granule that the file has. It is not the bitmap that guests mark. Why two: journaling happens
 * outside the gate, so a freeze may come between a granule's journaling and its mark. If journaling marked the bitmap, a
 * frozen one would grow after its instant, and the point in time would contain a cluster of which nobody kept the old data. So
 * the mark is made inside the gate, as ever, once the granule was found journaled; and a block is written from `journaled`,
 * never from the marks, so that nobody's rewrite takes away what another thread has journaled and not marked yet.
 *
 * A block is rewritten under its lock, from what `journaled` holds under that lock and what is added; then `journaled`
 * follows, and the lock is released. So a bit in `journaled` is in the file. A thread that dies between the two leaves the
 * file with more than memory knows: bits of a write that never happened.
 *
 * One piece of memory a layer: blocks x 120 words of bits (granule g in word g >>> 5, as blocks follow each other without a
 * gap), then blocks words of locks.
 */
import { EAGAIN, type Errno } from "@heirloom/block";
import { sealBlock } from "./block.ts";
import { blockBitsAt, blockBytes, blockGranules, blocksOf, blockWords } from "./layout.ts";
import { release, take, tryTake } from "./lock.ts";
import { viewOf } from "./record.ts";
import { readLayer } from "./recover.ts";
import type { Storage } from "./storage.ts";

export interface LayerAccess {
  readonly storage: Storage;
  readonly tag: number;
  readonly layer: number;
  /** Where its blocks begin in the file. */
  readonly offset: number;
  /** Bytes of the disk. */
  readonly length: number;
  readonly granularity: number;
  /** `layerMemoryWords` of them. */
  readonly words: Int32Array;
  /** This thread (lock.ts). */
  readonly holder: number;
}

export function layerMemoryWords(length: number, granularity: number): number {
  return blocksOf(length, granularity) * (blockWords + 1);
}

/** Where the locks begin in a layer's memory of so many words. */
export function firstLock(words: number): number {
  return words - words / (blockWords + 1);
}

/** A thread that serves several looks so often for a lock that is held for one write to the page cache. */
const impatientTries = 200;

export class BlockBits {
  readonly layer: number;
  readonly length: number;
  readonly granularity: number;
  readonly blocks: number;
  readonly #storage: Storage;
  readonly #tag: number;
  readonly #offset: number;
  readonly #words: Int32Array;
  readonly #locks: number;
  readonly #holder: number;
  readonly #perByte: number;
  readonly #wordsPerByte: number;
  readonly #block: Uint8Array = new Uint8Array(blockBytes);
  readonly #blockView: DataView = viewOf(this.#block);
  readonly #added: Int32Array = new Int32Array(blockWords);

  constructor(access: LayerAccess) {
    this.layer = access.layer;
    this.length = access.length;
    this.granularity = access.granularity;
    this.blocks = blocksOf(access.length, access.granularity);
    this.#storage = access.storage;
    this.#tag = access.tag;
    this.#offset = access.offset;
    this.#words = access.words;
    this.#locks = this.blocks * blockWords;
    this.#holder = access.holder;
    this.#perByte = 1 / access.granularity;
    this.#wordsPerByte = this.#perByte / 32; // words are fewer than 2^27: small integers
  }

  /** Inside the gate: whether every granule that the bytes touch is in the journal. Most writes are within one word. */
  covers(offset: number, length: number): boolean {
    const last = offset + length - 1;
    const word = (offset * this.#wordsPerByte) | 0;
    if (word !== ((last * this.#wordsPerByte) | 0)) return this.#coversWords(offset, last);
    const mask = (-1 << ((offset * this.#perByte) & 31)) & (-1 >>> (31 - ((last * this.#perByte) & 31)));
    return (Atomics.load(this.#words, word) & mask) === mask;
  }

  #coversWords(offset: number, end: number): boolean {
    const first = Math.floor(offset * this.#perByte);
    const last = Math.floor(end * this.#perByte);
    const lastWord = Math.floor(last / 32);
    for (let word = Math.floor(first / 32); word <= lastWord; word++) {
      const mask = maskOf(word, first, last);
      if ((Atomics.load(this.#words, word) & mask) !== mask) return false;
    }
    return true;
  }

  /**
   * Outside the gate: puts the granules into the journal. @returns errno; EAGAIN only for one that must not wait for a lock
   */
  journal(offset: number, length: number, patient: boolean): Errno {
    if (length === 0) return 0;
    const first = Math.floor(offset * this.#perByte);
    const last = Math.floor((offset + length - 1) * this.#perByte);
    const lastBlock = Math.floor(last / blockGranules);
    for (let block = Math.floor(first / blockGranules); block <= lastBlock; block++) {
      this.#added.fill(0);
      addRange(this.#added, first - block * blockGranules, last - block * blockGranules);
      const errno = this.add(block, this.#added, patient);
      if (errno !== 0) return errno;
    }
    return 0;
  }

  /** Joins bits into one block: the file first, then memory. */
  add(block: number, bits: Int32Array, patient: boolean): Errno {
    const base = block * blockWords;
    if (this.#has(base, bits)) return 0;
    if (!this.#take(block, patient)) return EAGAIN;
    try {
      if (this.#has(base, bits)) return 0;
      const errno = this.#write(block, bits);
      if (errno !== 0) return errno;
      for (let word = 0; word < blockWords; word++)
        if (bits[word] !== 0) Atomics.or(this.#words, base + word, bits[word]);
      return 0;
    } finally {
      release(this.#words, this.#locks + block);
    }
  }

  /** A thread has ended: blocks whose lock it held are written from memory, then released. @returns errno */
  releaseOfDead(holder: number): Errno {
    let failed: Errno = 0;
    for (let block = 0; block < this.blocks; block++) {
      if (Atomics.compareExchange(this.#words, this.#locks + block, holder, this.#holder) !== holder) continue;
      this.#added.fill(0);
      failed ||= this.#write(block, this.#added);
      release(this.#words, this.#locks + block);
    }
    return failed;
  }

  /** Takes over what the file has. Nobody else uses the layer yet; a damaged block is one that has nothing. @returns errno */
  loadFrom(storage: Storage): Errno {
    const { layer: id, length, granularity } = this;
    return readLayer(
      storage,
      this.#tag,
      { id, role: "bits", length, offset: this.#offset },
      granularity,
      (block, bits) => {
        if (bits !== undefined) this.#words.set(bits, block * blockWords);
      },
    );
  }

  #has(base: number, bits: Int32Array): boolean {
    for (let word = 0; word < blockWords; word++) {
      const wanted = bits[word];
      if (wanted !== 0 && (Atomics.load(this.#words, base + word) & wanted) !== wanted) return false;
    }
    return true;
  }

  #take(block: number, patient: boolean): boolean {
    if (patient) {
      take(this.#words, this.#locks + block, this.#holder);
      return true;
    }
    for (let tries = 0; tries < impatientTries; tries++)
      if (tryTake(this.#words, this.#locks + block, this.#holder)) return true;
    return false;
  }

  /** Holding the block's lock. */
  #write(block: number, added: Int32Array): Errno {
    const base = block * blockWords;
    for (let word = 0; word < blockWords; word++)
      this.#blockView.setInt32(blockBitsAt + 4 * word, Atomics.load(this.#words, base + word) | added[word], true);
    sealBlock(this.#block, this.#blockView, this.#tag, this.layer, block);
    return this.#storage.write(this.#block, this.#offset + block * blockBytes);
  }
}

/** Sets the bits `first` to `last` as far as they lie in the block. */
export function addRange(bits: Int32Array, first: number, last: number): void {
  const from = Math.max(0, first);
  const to = Math.min(blockGranules - 1, last);
  for (let word = from >>> 5; word <= to >>> 5; word++) bits[word] |= maskOf(word, from, to);
}

/** The bits of a word that lie in the range. */
function maskOf(word: number, first: number, last: number): number {
  const base = word * 32;
  const low = first > base ? first - base : 0;
  const high = last < base + 31 ? last - base : 31;
  return ((-1 << low) & (-1 >>> (31 - high))) | 0;
}
