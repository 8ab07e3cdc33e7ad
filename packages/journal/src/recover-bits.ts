/** What a bitmap says after a stop: the join of its layers, and the regions that were not settled. */
import { SharedBitmap } from "@heirloom/bitmap";
import type { Errno } from "@heirloom/block";
import type { BlockBits } from "./block-bits.ts";
import type { BitmapEntry, LayerEntry } from "./directory.ts";
import { foldInto } from "./fold.ts";
import { blockGranules, blockWords } from "./layout.ts";
import { layersOf, readLayer, type Sidecar } from "./recover.ts";
import type { Storage } from "./storage.ts";

export interface RecoveredBits {
  readonly errno: Errno;
  /** Blocks that were torn or damaged, each of whose granules counts as dirty. */
  readonly damaged: number;
  /** Regions that were not settled, and count as dirty. */
  readonly regions: number;
}

export interface RecoveryRules {
  /** A group's decision stands: the pending abdicate is true. */
  readonly decided: boolean;
  /** The page cache is gone: what is not settled counts as dirty. */
  readonly lost: boolean;
}

/**
 * Joins all that a bitmap is made of into one layer, in the file and in memory. No record names less before it is over, and bits are
 * only ever set: a crash in the middle, and it is done again.
 */
export function recoverLayer(
  storage: Storage,
  sidecar: Sidecar,
  entry: BitmapEntry,
  rules: RecoveryRules,
  into: { readonly bits: BlockBits; readonly marks: SharedBitmap },
): RecoveredBits {
  const { bits, marks } = into;
  const joined = SharedBitmap.create(marks.length, marks.granularity);
  const recovered = recoverBits(storage, sidecar, entry, rules, joined);
  if (recovered.errno !== 0) return recovered;
  return { ...recovered, errno: bits.loadFrom(storage) || foldInto(bits, marks, joined) };
}

/** Joins into `bits`, an empty bitmap of the image's length and the entry's granularity. */
export function recoverBits(
  storage: Storage,
  sidecar: Sidecar,
  entry: BitmapEntry,
  rules: RecoveryRules,
  bits: SharedBitmap,
): RecoveredBits {
  let damaged = 0;
  for (const layer of layersOf(entry, rules.decided)) {
    const errno = readLayer(storage, sidecar.tag, layer, entry.granularity, (block, words) => {
      if (words === undefined) damaged++;
      join(bits, layer, block, words);
    });
    if (errno !== 0) return { errno, damaged, regions: 0 };
  }
  if (!rules.lost || !entry.unsettled) return { errno: 0, damaged, regions: 0 };
  const { regionBytes } = sidecar.directory;
  const regions = (sidecar.marks ?? []).filter((region) => region * regionBytes < bits.length);
  for (const region of regions) {
    const offset = region * regionBytes;
    bits.set(offset, Math.min(regionBytes, bits.length - offset));
  }
  return { errno: 0, damaged, regions: regions.length };
}

/** Sets what a block says; all of it where it is damaged. */
export function join(bits: SharedBitmap, layer: LayerEntry, block: number, words: Int32Array | undefined): void {
  const { granularity } = bits;
  const start = block * blockGranules * granularity;
  const end = Math.min(bits.length, layer.length);
  const set = (from: number, to: number): void => {
    const stop = Math.min(start + to * granularity, end);
    if (start + from * granularity < stop) bits.set(start + from * granularity, stop - (start + from * granularity));
  };
  if (words === undefined) {
    set(0, blockGranules);
    return;
  }
  for (let word = 0; word < blockWords; word++) {
    if (words[word] === -1) set(word * 32, word * 32 + 32);
    else
      for (let left = words[word]; left !== 0; left &= left - 1) {
        const granule = word * 32 + 31 - Math.clz32(left & -left);
        set(granule, granule + 1);
      }
  }
}
