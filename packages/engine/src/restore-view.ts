/** A view as it was when its process ended: what is on the target, and what its spill file holds. */
import { countOf } from "./masks.ts";
import * as spillLayout from "./spill-layout.ts";
import type { ViewMemory } from "./view-memory.ts";

/**
 * Nobody looks at the view yet. What is copied needs no entry: its place is free. Of a synced spill that is what a flush covers, and
 * nobody knows which entries a sync had covered.
 * @param copied a bit a cluster @param flushed the same of what a flush covers
 * @param entries slot and cluster, one after the other @returns clusters that are on the target
 */
export function restoreView(memory: ViewMemory, copied: Int32Array, flushed: Int32Array, entries: Int32Array): number {
  const { view, spillWords } = memory;
  let clusters = 0;
  for (let word = 0; word < view.copied.length; word++) {
    const mask = copied[word] & view.setOf(word);
    view.setCopied(word, mask);
    view.setPreserved(word, view.safe === undefined ? mask : mask & flushed[word]);
    view.setSafe(word, mask & flushed[word]);
    clusters += countOf(mask);
  }
  if (view.spill.syncs) spillWords[spillLayout.storedWord] = 1;
  for (let at = 0; at < entries.length; at += 2) {
    const [slot, cluster] = [entries[at], entries[at + 1]];
    if (slot >= spillWords[spillLayout.fileSlotsWord] || cluster >= view.clusters || !view.needed(cluster)) continue;
    spillWords[spillLayout.slotsStart + slot * spillLayout.slotFields + spillLayout.stateField] =
      spillLayout.slotFilling;
    spillWords[spillLayout.freeFileWord]--;
    view.spill.publish(slot, cluster);
    view.setPreserved(cluster >>> 5, 1 << (cluster & 31));
  }
  return clusters;
}
