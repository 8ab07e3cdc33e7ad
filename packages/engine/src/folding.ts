/**
 * Folds: what a transition left to do with the gate open. Only sets bits (`Atomics.or`), so guests may mark the same bitmap
 * all the while. Small ones are done where they are asked for; large ones by a helper.
 */
import type { SharedBitmap } from "@heirloom/bitmap";
import type { View } from "./view.ts";
import { runsInSet } from "./view-scan.ts";

/** Sets in `into` every cluster of the view's set that is not in `copied`, rounded out to the job's cluster size. */
export function foldUncopied(into: SharedBitmap, view: View, copied: Int32Array): void {
  const missing = (word: number): number => ~(Atomics.load(view.retired, word) | copied[word]);
  for (const { first, end } of runsInSet(view, missing)) {
    const offset = first * view.clusterSize;
    const unit = offset - (offset % view.setUnit);
    const unitEnd = Math.ceil((end * view.clusterSize) / view.setUnit) * view.setUnit;
    into.set(unit, Math.min(unitEnd, view.length) - unit);
  }
}
