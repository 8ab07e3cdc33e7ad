/** The oracle: the same bitmap as a Set of granule numbers, slow and plain. */

import type { BitmapExtent } from "@heirloom/bitmap";

export class GranuleSet {
  readonly granules: Set<number> = new Set<number>();
  readonly length: number;
  readonly granularity: number;

  constructor(length: number, granularity: number) {
    this.length = length;
    this.granularity = granularity;
  }

  touched(offset: number, length: number): number[] {
    const granules: number[] = [];
    if (length === 0) return granules;
    const last = Math.floor((offset + length - 1) / this.granularity);
    for (let granule = Math.floor(offset / this.granularity); granule <= last; granule++) granules.push(granule);
    return granules;
  }

  set(offset: number, length: number): void {
    for (const granule of this.touched(offset, length)) this.granules.add(granule);
  }

  clear(offset: number, length: number): void {
    for (const granule of this.touched(offset, length)) this.granules.delete(granule);
  }

  test(offset: number): boolean {
    return this.granules.has(Math.floor(offset / this.granularity));
  }

  any(offset: number, length: number): boolean {
    return this.touched(offset, length).some((granule) => this.granules.has(granule));
  }

  all(offset: number, length: number): boolean {
    return this.touched(offset, length).every((granule) => this.granules.has(granule));
  }

  count(): number {
    return this.granules.size * this.granularity;
  }

  nextDirty(offset: number): number {
    for (const extent of this.extents(0)) {
      if (offset < extent.offset + extent.length) return Math.max(offset, extent.offset);
    }
    return -1;
  }

  nextClean(offset: number): number {
    for (const extent of this.extents(0)) {
      if (offset >= extent.offset && offset < extent.offset + extent.length) return extent.offset + extent.length;
    }
    return offset;
  }

  extents(from: number): BitmapExtent[] {
    const runs: { offset: number; length: number }[] = [];
    for (const granule of [...this.granules].sort((one, other) => one - other)) {
      const offset = granule * this.granularity;
      const length = Math.min(this.granularity, this.length - offset);
      const previous = runs.at(-1);
      if (previous !== undefined && previous.offset + previous.length === offset) previous.length += length;
      else runs.push({ offset, length });
    }
    return runs
      .filter((run) => run.offset + run.length > from)
      .map((run) => {
        const offset = Math.max(run.offset, from);
        return { offset, length: run.offset + run.length - offset };
      });
  }
}
