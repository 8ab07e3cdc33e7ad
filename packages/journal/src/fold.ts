/**
 * Folds into a persistent bitmap: block by block, under the block's lock the joined block goes to the journal, and only then are
 * the bits set in memory. Guests mark meanwhile.
 */
import type { SharedBitmap } from "@heirloom/bitmap";
import type { Errno } from "@heirloom/block";
import { addRange, type BlockBits } from "./block-bits.ts";
import { blockGranules, blockWords } from "./layout.ts";

/**
 * Joins what `source` says into the bitmap: its journal `bits`, and the memory `marks` that guests mark.
 * @returns errno; then memory has nothing that the journal has not
 */
export function foldInto(bits: BlockBits, marks: SharedBitmap, source: SharedBitmap): Errno {
  const common = Math.min(bits.length, source.length);
  const span = blockGranules * bits.granularity;
  const added = new Int32Array(blockWords);
  for (let block = 0; block < bits.blocks; block++) {
    const start = block * span;
    const end = Math.min(start + span, common);
    if (end <= start) break;
    const first = source.nextDirty(start);
    if (first === -1) break;
    if (first >= end) {
      block = Math.floor(first / span) - 1;
      continue;
    }
    const extents = extentsWithin(source, first, end);
    added.fill(0);
    for (const { offset, length } of extents) {
      addRange(
        added,
        Math.floor((offset - start) / bits.granularity),
        Math.floor((offset + length - 1 - start) / bits.granularity),
      );
    }
    const errno = bits.add(block, added, true);
    if (errno !== 0) return errno;
    for (const { offset, length } of extents) marks.set(offset, length);
  }
  return 0;
}

function extentsWithin(source: SharedBitmap, from: number, end: number): { offset: number; length: number }[] {
  const found: { offset: number; length: number }[] = [];
  for (let start = source.nextDirty(from); start !== -1 && start < end;) {
    const stop = Math.min(source.nextClean(start), end);
    found.push({ offset: start, length: stop - start });
    if (stop >= end) break;
    start = source.nextDirty(stop);
  }
  return found;
}
