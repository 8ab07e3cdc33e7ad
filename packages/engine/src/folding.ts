/**
 * Folds: what a transition left to do with the gate open. Only sets bits (`Atomics.or`), so guests may mark the same bitmap
 * all the while. Small ones are done where they are asked for; large ones by a helper.
 */
import type { SharedBitmap } from "@heirloom/bitmap";
import type { View } from "./view.ts";
import { nextInSet } from "./view-scan.ts";

/** Sets in `into` every cluster of the view's set that is not in `copied`, rounded out to the job's cluster size. */
export function foldUncopied(into: SharedBitmap, view: View, copied: Int32Array): void {
  let cluster = 0;
  for (;;) {
    cluster = nextInSet(view, cluster);
    if (cluster === -1) return;
    if (
      (Atomics.load(view.retired, cluster >>> 5) & (1 << (cluster & 31))) === 0 &&
      (copied[cluster >>> 5] & (1 << (cluster & 31))) === 0
    ) {
      const offset = cluster * view.clusterSize;
      const unit = offset - (offset % view.setUnit);
      into.set(unit, Math.min(view.setUnit, view.length - unit));
    }
    cluster++;
  }
}
