/**
 * Giving back what a target holds of parts that readers of the view have given up. `copied` goes first: a reader that found it
 * set looks at `retired` after it has read.
 */
import { lowestOf, maskOf, runEnd } from "./masks.ts";
import type { MoverJob } from "./mover-types.ts";

/** Looks at all of the view. */
export function discardRetired({ view, target }: MoverJob): void {
  for (let word = 0; word < view.retired.length && !view.over(); word++) {
    let left = Atomics.load(view.retired, word);
    if (left !== 0) left &= Atomics.load(view.copied, word);
    while (left !== 0) {
      const from = lowestOf(left);
      const to = runEnd(left, from);
      const mask = maskOf(from, to);
      view.dropCopied(word, mask);
      const offset = (word * 32 + from) * view.clusterSize;
      target.discard(offset, Math.min((word * 32 + to) * view.clusterSize, view.length) - offset);
      left &= ~mask;
    }
  }
}
