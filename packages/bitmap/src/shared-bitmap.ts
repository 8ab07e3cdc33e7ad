/**
 * A dirty bitmap that any number of threads mark at once, without a lock. Bytes outside, granules inside: this file
 * turns the one into the other and cuts ranges at the borders of regions; region.ts has the bits.
 *
 * Arithmetic: a granularity is a power of two, so multiplying by its inverse is exact for every offset up to 2^53, and
 * `| 0` rounds down what is left, a position inside a region (below 2^30), to a small integer. Granule numbers of the
 * whole disk pass 2^32 and are never shifted.
 *
 * Nothing here allocates on the way of a mark, a test or a scan, except that JavaScript boxes an argument or a result
 * past 2^31 where a call is not inlined.
 */

import { BitmapError } from "./bitmap-error.ts";
import type { BitmapExtent } from "./extent.ts";
import type { BitmapHandle } from "./handle.ts";
import { checkGeometry, REGION_GRANULES, regionLayouts, type RegionLayout } from "./layout.ts";
import { type Allocate, allocateFresh, allocateRegions, mapRegion } from "./memory.ts";
import { mergeWords, sameBits } from "./merge.ts";
import { Region } from "./region.ts";
import { checkSerialized, loadRegions, serializeRegions } from "./serialization.ts";

export class SharedBitmap {
  /** What another thread needs for `SharedBitmap.from`; can be posted. */
  readonly handle: BitmapHandle;
  /** Bytes of the disk. */
  readonly length: number;
  /** Bytes that one bit stands for. */
  readonly granularity: number;
  /** Number of bits: length / granularity, rounded up. */
  readonly granules: number;

  readonly #regions: readonly Region[];
  readonly #only: Region | undefined;
  readonly #perByte: number;
  readonly #regionSpan: number;
  readonly #regionsPerByte: number;

  private constructor(operation: string, handle: BitmapHandle, granules: number, layouts: readonly RegionLayout[]) {
    this.handle = handle;
    this.length = handle.length;
    this.granularity = handle.granularity;
    this.granules = granules;
    this.#regions = layouts.map(
      (layout, index) => new Region(layout, mapRegion(operation, layout, handle.regions[index])),
    );
    this.#only = this.#regions.length === 1 ? this.#regions[0] : undefined;
    this.#perByte = 1 / this.granularity;
    this.#regionSpan = REGION_GRANULES * this.granularity;
    this.#regionsPerByte = 1 / this.#regionSpan;
  }

  /** Bytes of zeroed memory that each region of such a bitmap takes; up to 2^30 granules are one region. */
  static regionBytes(length: number, granularity: number): readonly number[] {
    return regionLayouts(checkGeometry("size bitmap", length, granularity)).map(({ bytes }) => bytes);
  }

  /**
   * A clean bitmap. Memory is touched only where bits are set.
   *
   * @param length bytes of the disk, 0 to 2^53
   * @param granularity bytes a bit, a power of two from 512 to 2^31; at most 2^37 granules in all
   * @param allocate where each region's zeroed memory comes from; by default a SharedArrayBuffer of its own
   * @throws BitmapError `invalid-length`, `invalid-granularity`, `too-many-granules`, `out-of-memory`,
   *   `invalid-region` (what `allocate` returned is too small or not zeroed)
   *
   * @example
   * const bitmap = SharedBitmap.create(2 ** 40, 65536);
   * bitmap.set(4096, 512);
   * [...bitmap.extents()]; // [{ offset: 0, length: 65536 }]
   */
  static create(length: number, granularity: number, allocate: Allocate = allocateFresh): SharedBitmap {
    const granules = checkGeometry("create bitmap", length, granularity);
    const layouts = regionLayouts(granules);
    const regions = allocateRegions(layouts, allocate);
    const bitmap = new SharedBitmap("create bitmap", { length, granularity, regions }, granules, layouts);
    if (!bitmap.#regions.every((region) => region.blank)) {
      throw new BitmapError("invalid-region", "create bitmap: expected zeroed memory");
    }
    return bitmap;
  }

  /** The same bits, in another thread. Throws `invalid-region` where the handle's memory cannot hold them. */
  static from(handle: BitmapHandle): SharedBitmap {
    const granules = checkGeometry("attach bitmap", handle.length, handle.granularity);
    const layouts = regionLayouts(granules);
    if (handle.regions.length !== layouts.length) {
      throw new BitmapError(
        "invalid-region",
        `attach bitmap: expected ${layouts.length} regions, got ${handle.regions.length}`,
      );
    }
    return new SharedBitmap("attach bitmap", handle, granules, layouts);
  }

  /**
   * Reads what `serialize` wrote. Throws `invalid-bits` for another number of bytes, or a bit past the end of the disk;
   * and as `create` does.
   */
  static deserialize(bytes: Uint8Array, length: number, granularity: number, allocate?: Allocate): SharedBitmap {
    checkSerialized(bytes, checkGeometry("load bitmap", length, granularity));
    const bitmap = SharedBitmap.create(length, granularity, allocate);
    loadRegions(bitmap.#regions, bytes);
    return bitmap;
  }

  /** Marks every granule that the bytes touch. A length of 0 marks nothing. */
  set(offset: number, length: number): void {
    const end = offset + length;
    if (!(offset >= 0 && length >= 0 && end <= this.length)) this.#refuseRange("set", offset, length);
    if (length === 0) return;
    const only = this.#only;
    if (only !== undefined) only.mark((offset * this.#perByte) | 0, ((end - 1) * this.#perByte) | 0);
    else this.#setAcross(offset, end);
  }

  /**
   * Makes the granules of the bytes clean. The range starts at a granule's border and ends at one or at the disk's end:
   * a granule cleared for a part of it would be a write forgotten.
   *
   * Not for a bitmap that records. A guest marks and then writes; a clear between the two would leave a written cluster
   * clean. A recording bitmap is cleared by swapping in an empty one (with the gate closed). For the same reason
   * summaries stay as they are: they say too much afterwards, which costs scans a look, until `reset`.
   */
  clear(offset: number, length: number): void {
    const end = offset + length;
    if (!(offset >= 0 && length >= 0 && end <= this.length)) this.#refuseRange("clear", offset, length);
    if (length === 0) return;
    if (offset % this.granularity !== 0 || (end % this.granularity !== 0 && end !== this.length)) {
      throw new BitmapError(
        "unaligned",
        `clear: expected a range of whole granules of ${this.granularity} bytes, got ${length} bytes at ${offset}`,
      );
    }
    const last = this.#regionOf(end - 1);
    for (let index = this.#regionOf(offset); index <= last; index++) {
      this.#regions[index].clear(this.#firstIn(index, offset), this.#lastIn(index, end));
    }
  }

  /**
   * Makes every byte of the memory zero, so that any other bitmap can be created on it. Costs by what is dirty or was.
   * Exclusive: nobody else may use the bitmap meanwhile, and whoever uses it next must be told by something that
   * synchronizes (a message, an Atomics store).
   */
  reset(): void {
    for (const region of this.#regions) region.reset();
  }

  /** Is the granule that holds this byte dirty? */
  test(offset: number): boolean {
    if (!(offset >= 0 && offset < this.length)) this.#refuseRange("test", offset, 1);
    const only = this.#only;
    if (only !== undefined) return only.test((offset * this.#perByte) | 0);
    const index = this.#regionOf(offset);
    return this.#regions[index].test(this.#firstIn(index, offset));
  }

  /** Does the range touch a dirty granule? An empty range does not. */
  any(offset: number, length: number): boolean {
    const end = offset + length;
    if (!(offset >= 0 && length >= 0 && end <= this.length)) this.#refuseRange("any", offset, length);
    if (length === 0) return false;
    const last = this.#regionOf(end - 1);
    for (let index = this.#regionOf(offset); index <= last; index++) {
      if (this.#regions[index].nextSet(this.#firstIn(index, offset), this.#lastIn(index, end)) !== -1) return true;
    }
    return false;
  }

  /** Are all granules that the range touches dirty? Of an empty range they are. */
  all(offset: number, length: number): boolean {
    const end = offset + length;
    if (!(offset >= 0 && length >= 0 && end <= this.length)) this.#refuseRange("all", offset, length);
    if (length === 0) return true;
    const last = this.#regionOf(end - 1);
    for (let index = this.#regionOf(offset); index <= last; index++) {
      if (this.#regions[index].nextClear(this.#firstIn(index, offset)) <= this.#lastIn(index, end)) return false;
    }
    return true;
  }

  /** Dirty bytes as QEMU counts them: set granules times granularity, so it can pass `length`. Costs by what is dirty. */
  count(): number {
    let set = 0;
    for (const region of this.#regions) set += region.count();
    return set * this.granularity;
  }

  isEmpty(): boolean {
    return this.nextDirty(0) === -1;
  }

  /** Offset of the first dirty byte from `offset` (0 to `length`) on, or -1. */
  nextDirty(offset: number): number {
    if (!(offset >= 0 && offset <= this.length)) this.#refuseRange("next dirty", offset, 0);
    if (offset === this.length) return -1;
    for (let index = this.#regionOf(offset); index < this.#regions.length; index++) {
      const region = this.#regions[index];
      const found = region.nextSet(this.#firstIn(index, offset), region.granules - 1);
      if (found !== -1) return Math.max(offset, index * this.#regionSpan + found * this.granularity);
    }
    return -1;
  }

  /** Offset of the first clean byte from `offset` (0 to `length`) on, or `length`. */
  nextClean(offset: number): number {
    if (!(offset >= 0 && offset <= this.length)) this.#refuseRange("next clean", offset, 0);
    if (offset === this.length) return offset;
    for (let index = this.#regionOf(offset); index < this.#regions.length; index++) {
      const region = this.#regions[index];
      const found = region.nextClear(this.#firstIn(index, offset));
      if (found < region.granules) return Math.max(offset, index * this.#regionSpan + found * this.granularity);
    }
    return this.length;
  }

  /** The first run of dirty bytes from `offset` on, up to the next clean one or the disk's end. */
  nextExtent(offset: number): BitmapExtent | undefined {
    const start = this.nextDirty(offset);
    return start === -1 ? undefined : { offset: start, length: this.nextClean(start) - start };
  }

  /**
   * Runs of dirty bytes in order, from `from` on. While others mark, it yields what was dirty when it began, and of the
   * new marks those that it has not passed yet.
   */
  *extents(from = 0): IterableIterator<BitmapExtent> {
    for (
      let extent = this.nextExtent(from);
      extent !== undefined;
      extent = this.nextExtent(extent.offset + extent.length)
    ) {
      yield extent;
    }
  }

  /**
   * Adds the dirty bytes of another bitmap of a disk of the same length. From finer granules it rounds outwards, coarser
   * ones it fills. Only ever sets bits, so both may be recording.
   *
   * @throws BitmapError `length-mismatch`
   */
  merge(source: SharedBitmap): void {
    if (source.length !== this.length) {
      throw new BitmapError(
        "length-mismatch",
        `merge: expected bitmaps of disks of one length, got ${source.length} bytes into ${this.length}`,
      );
    }
    this.fold(source);
  }

  /** As `merge`, from a bitmap of any length: what lies past the end of this one is left out. */
  fold(source: SharedBitmap): void {
    if (source.granularity === this.granularity) {
      mergeWords(this.#regions, source.#regions);
      return;
    }
    const common = Math.min(this.length, source.length);
    for (let start = source.nextDirty(0); start !== -1 && start < common;) {
      const end = Math.min(source.nextClean(start), common);
      this.set(start, end - start);
      start = source.nextDirty(end);
    }
  }

  /** A copy for a disk resized to `length`: what is grown is clean; a granule cut in two by shrinking keeps its bit. */
  resized(length: number, allocate?: Allocate): SharedBitmap {
    const copy = SharedBitmap.create(length, this.granularity, allocate);
    copy.fold(this);
    return copy;
  }

  /** The same length, granularity and bits. */
  equals(other: SharedBitmap): boolean {
    return (
      this.length === other.length && this.granularity === other.granularity && sameBits(this.#regions, other.#regions)
    );
  }

  /**
   * One bit a granule, LSB first in little-endian 64-bit words, at least one word: what QEMU's
   * x-debug-block-dirty-bitmap-sha256 hashes. Throws `out-of-memory` where that is more than one Uint8Array can hold.
   */
  serialize(): Uint8Array<ArrayBuffer> {
    return serializeRegions(this.#regions, this.granules);
  }

  #setAcross(offset: number, end: number): void {
    const last = this.#regionOf(end - 1);
    for (let index = this.#regionOf(offset); index <= last; index++) {
      this.#regions[index].mark(this.#firstIn(index, offset), this.#lastIn(index, end));
    }
  }

  #regionOf(offset: number): number {
    return (offset * this.#regionsPerByte) | 0;
  }

  /** First granule, inside region `index`, of a range that starts at `offset` in it or before it. */
  #firstIn(index: number, offset: number): number {
    const inside = offset - index * this.#regionSpan;
    return inside > 0 ? (inside * this.#perByte) | 0 : 0;
  }

  /** Last granule, inside region `index`, of a range that ends before `end`, in it or after it. */
  #lastIn(index: number, end: number): number {
    const inside = end - 1 - index * this.#regionSpan;
    return inside < this.#regionSpan ? (inside * this.#perByte) | 0 : REGION_GRANULES - 1;
  }

  #refuseRange(operation: string, offset: number, length: number): never {
    throw new BitmapError(
      "out-of-range",
      `${operation}: expected a range inside the disk's ${this.length} bytes, got ${length} bytes at ${offset}`,
    );
  }
}
