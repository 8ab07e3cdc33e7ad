/**
 * The bits of up to 2^30 granules: every Atomics of the package that touches a bit is here.
 *
 * Invariant S, at every instant, whichever threads run and wherever one dies: a bit that is set at level k < top has
 * its parent at level k + 1 set. So whoever finds a summary bit clear may skip everything under it.
 *
 * Proof, by the only four kinds of writes:
 * - mark() and or() set a bit of level k after they saw the parent set or set it themselves, going from the top down.
 *   They find where to begin by climbing from the leaf to the first set bit: by S all above that is set as well. A
 *   parent that was seen set stays set, because nothing clears a level above 0 except reset(), which has no company.
 *   Atomics are sequentially consistent, so no thread sees the child without the parent. A thread that dies between two
 *   writes leaves parents without children: a summary that says too much costs a look and hides nothing.
 * - mark() returns at once when the leaf has its bits: by S there is nothing to announce.
 * - clear() clears bits of level 0, which have no children.
 * - reset() goes from the leaf up, so that a thread that dies in it leaves S as well, and reset can be called again.
 *
 * Interleaving looked at: A climbs and sees level 2 set and level 1 clear; B sets level 1 and its leaf; A sets the same
 * bit of level 1 again (no effect), then its leaf. Nobody undoes anything, so order between A and B does not matter.
 *
 * What a scan promises beside marks that go on: it sees every bit that was set before it began; those set meanwhile it
 * sees or not. `Atomics` is looked up at each use, never kept: tests replace it to run every interleaving.
 */

import type { RegionLayout } from "./layout.ts";

/** A mark of up to so many words goes word by word: most find their parent set, which makes it one look more each. */
const SHORT_WORDS = 4;

export class Region {
  readonly granules: number;
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #bases: readonly number[];
  readonly #sizes: readonly number[];
  readonly #top: number;
  readonly #parents: number;

  constructor(layout: RegionLayout, words: Int32Array<SharedArrayBuffer>) {
    this.granules = layout.granules;
    this.#words = words;
    this.#bases = layout.bases;
    this.#sizes = layout.sizes;
    this.#top = layout.bases.length - 1;
    this.#parents = this.#top === 0 ? -1 : layout.bases[1];
  }

  /** Leaf words. */
  get size(): number {
    return this.#sizes[0];
  }

  /** Nothing is set as far as the top says: what zeroed memory looks like. */
  get blank(): boolean {
    return Atomics.load(this.#words, this.#bases[this.#top]) === 0;
  }

  test(granule: number): boolean {
    return ((Atomics.load(this.#words, granule >>> 5) >>> (granule & 31)) & 1) !== 0;
  }

  /** Sets the bits `first` to `last`, both included. Small, so that a call of it costs none: most marks are one word. */
  mark(first: number, last: number): void {
    const word = first >>> 5;
    if (word === last >>> 5) this.or(word, (-1 << (first & 31)) & (-1 >>> (31 - (last & 31))));
    else this.#markWords(first, last);
  }

  #markWords(first: number, last: number): void {
    const firstWord = first >>> 5;
    const lastWord = last >>> 5;
    if (lastWord - firstWord < SHORT_WORDS) {
      this.or(firstWord, -1 << (first & 31));
      for (let word = firstWord + 1; word < lastWord; word++) this.or(word, -1);
      this.or(lastWord, (-1 >>> (31 - (last & 31))) | 0);
    } else {
      for (let level = this.#top; level >= 0; level--) this.#fill(level, first >>> (5 * level), last >>> (5 * level));
    }
  }

  /** Sets the bits of `mask` in one leaf word. */
  or(word: number, mask: number): void {
    const words = this.#words;
    if ((Atomics.load(words, word) & mask) === mask) return;
    const parents = this.#parents;
    if (parents !== -1 && ((Atomics.load(words, parents + (word >>> 5)) >>> (word & 31)) & 1) === 0)
      this.#announce(word);
    Atomics.or(words, word, mask);
  }

  /** Sets the parents of a leaf word, from the first that is set (exclusive) down to level 1. */
  #announce(word: number): void {
    const words = this.#words;
    let level = 2;
    for (; level <= this.#top; level++) {
      const bit = word >>> (5 * (level - 1));
      if (((Atomics.load(words, this.#bases[level] + (bit >>> 5)) >>> (bit & 31)) & 1) !== 0) break;
    }
    while (--level > 0) {
      const bit = word >>> (5 * (level - 1));
      Atomics.or(words, this.#bases[level] + (bit >>> 5), 1 << (bit & 31));
    }
  }

  /** Sets a run of bits of one level whose parents are set. A store of all ones loses nothing that an `or` had set. */
  #fill(level: number, first: number, last: number): void {
    const words = this.#words;
    const base = this.#bases[level];
    const firstWord = base + (first >>> 5);
    const lastWord = base + (last >>> 5);
    let mask = -1 << (first & 31);
    for (let word = firstWord; word <= lastWord; word++) {
      if (word === lastWord) mask &= -1 >>> (31 - (last & 31));
      if ((Atomics.load(words, word) & mask) !== mask) {
        if (mask === -1) Atomics.store(words, word, -1);
        else Atomics.or(words, word, mask);
      }
      mask = -1;
    }
  }

  /** Clears the bits `first` to `last`; looks only where a summary says that something may be set, and leaves it so. */
  clear(first: number, last: number): void {
    const firstWord = first >>> 5;
    const lastWord = last >>> 5;
    for (let word = this.nextWord(firstWord, lastWord); word !== -1; word = this.nextWord(word + 1, lastWord)) {
      let mask = -1;
      if (word === firstWord) mask &= -1 << (first & 31);
      if (word === lastWord) mask &= -1 >>> (31 - (last & 31));
      if ((Atomics.load(this.#words, word) & mask) !== 0) Atomics.and(this.#words, word, ~mask);
    }
  }

  /** Makes all words of all levels zero. Exclusive: so the leaf and summary words need no Atomics one by one. */
  reset(): void {
    for (let level = 0; level < this.#top; level++) {
      const base = this.#bases[level];
      const size = this.#sizes[level];
      for (let child = this.#next(level + 1, 0, size - 1); child !== -1;) {
        const from = child & ~31;
        const end = Math.min(from + 32, size);
        this.#words.fill(0, base + from, base + end);
        child = end < size ? this.#next(level + 1, end, size - 1) : -1;
      }
    }
    Atomics.store(this.#words, this.#bases[this.#top], 0);
  }

  /** First set bit from `from` to `last`, or -1. */
  nextSet(from: number, last: number): number {
    return this.#next(0, from, last);
  }

  /** First clear bit from `from` on; `granules` if there is none (bits past the end are never set). Costs by what is set. */
  nextClear(from: number): number {
    const size = this.#sizes[0];
    let word = from >>> 5;
    let clear = ~Atomics.load(this.#words, word) & (-1 << (from & 31));
    while (clear === 0) {
      if (++word === size) return this.granules;
      clear = ~Atomics.load(this.#words, word);
    }
    return (word << 5) + lowest(clear);
  }

  /** First leaf word from `from` to `last` that may have bits set (a summary may be stale), or -1. */
  nextWord(from: number, last: number): number {
    if (from > last) return -1;
    return this.#top === 0 ? from : this.#next(1, from, last);
  }

  word(index: number): number {
    return Atomics.load(this.#words, index);
  }

  /** Number of set bits. */
  count(): number {
    const last = this.size - 1;
    let sum = 0;
    for (let word = this.nextWord(0, last); word !== -1; word = this.nextWord(word + 1, last)) {
      sum += ones(Atomics.load(this.#words, word));
    }
    return sum;
  }

  /**
   * First set bit of level `floor` from `from` to `last`, or -1. Climbs where a word has nothing (left), descends where
   * a summary has something; where that was stale it climbs again, one word further on.
   */
  #next(floor: number, from: number, last: number): number {
    const words = this.#words;
    let level = floor;
    let bit = from;
    for (;;) {
      if (bit > last >>> (5 * (level - floor))) return -1;
      const word = bit >>> 5;
      const set = Atomics.load(words, this.#bases[level] + word) & (-1 << (bit & 31));
      if (set !== 0) {
        bit = (word << 5) + lowest(set);
        if (level === floor) return bit <= last ? bit : -1;
        level--;
        bit <<= 5;
      } else if (level === this.#top) {
        return -1;
      } else {
        level++;
        bit = word + 1;
      }
    }
  }
}

/** Index of the lowest set bit of a word that is not 0. */
function lowest(bits: number): number {
  return 31 - Math.clz32(bits & -bits);
}

/** Number of set bits of a word: pairs, nibbles, bytes, then the sum of the four bytes. */
function ones(bits: number): number {
  let sum = bits - ((bits >>> 1) & 0x5555_5555);
  sum = (sum & 0x3333_3333) + ((sum >>> 2) & 0x3333_3333);
  sum = (sum + (sum >>> 4)) & 0x0f0f_0f0f;
  return Math.imul(sum, 0x0101_0101) >>> 24;
}
