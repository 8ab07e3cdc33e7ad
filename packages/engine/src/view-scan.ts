/** Looking for clusters of a view: at a cost by what is in the set, not by the size of the disk. */
import { lowestOf, maskOf, runEnd } from "./masks.ts";
import type { View } from "./view.ts";

/** First cluster at or after `from` that is in the set, or -1. */
export function nextInSet(view: View, from: number): number {
  if (from >= view.clusters) return -1;
  if (view.set === undefined || view.inSet(from)) return from;
  const dirty = view.set.nextDirty(from * view.clusterSize);
  if (dirty === -1) return -1;
  const unit = dirty - (dirty % view.setUnit);
  return Math.max(from, unit / view.clusterSize);
}

/** First cluster at or after `from` that a copier wants and that none works on, or -1. A look, not a claim. */
export function nextNeeded(view: View, from: number): number {
  return nextWithout(view, from, view.preserved, view.copying, view.safe === undefined ? undefined : view.copied);
}

/** First cluster of the set that is not on the target yet, or -1. */
export function nextMissing(view: View, from: number): number {
  return nextWithout(view, from, view.copied);
}

function nextWithout(view: View, from: number, ...done: readonly (Int32Array | undefined)[]): number {
  let cluster = from;
  for (;;) {
    cluster = nextInSet(view, cluster);
    if (cluster === -1) return -1;
    const word = cluster >>> 5;
    let skip = Atomics.load(view.retired, word);
    for (const bits of done) if (bits !== undefined) skip |= Atomics.load(bits, word);
    const open = ~skip & (-1 << (cluster & 31));
    if (open === 0) {
      cluster = (word + 1) * 32;
      continue;
    }
    const found = word * 32 + (31 - Math.clz32(open & -open));
    if (found === cluster) return found < view.clusters ? found : -1;
    cluster = found; // is it in the set?
  }
}

/**
 * Runs of clusters that are on the target, as bytes of the disk.
 * @param copied what was on it at another moment: a snapshot
 */
export function* copiedRanges(
  view: View,
  copied: Int32Array = view.copied,
): Generator<{ offset: number; length: number }, void, void> {
  for (const { first, end } of runsInSet(view, (word) => Atomics.load(copied, word))) {
    const offset = first * view.clusterSize;
    yield { offset, length: Math.min(end * view.clusterSize, view.length) - offset };
  }
}

/**
 * Runs `[first, end)` of clusters that are in the set and for which `bitsOf` their word has a bit; runs that touch are one.
 * By words, since the main thread asks: cluster by cluster, a disk of 16 TiB would hold it for a minute.
 */
export function* runsInSet(
  view: View,
  bitsOf: (word: number) => number,
): Generator<{ first: number; end: number }, void, void> {
  const run = { first: 0, end: 0 };
  for (let cluster = nextInSet(view, 0); cluster !== -1;) {
    const word = cluster >>> 5;
    const base = word * 32;
    const upTo = Math.min(view.clusters, base + 32);
    let left = bitsOf(word) & maskOf(cluster, upTo);
    if (left !== 0) left &= view.setOf(word);
    if (left === -1 && base === run.end) {
      run.end = upTo; // most words of a large disk
      left = 0;
    }
    while (left !== 0) {
      const from = lowestOf(left);
      const to = runEnd(left, from);
      if (base + from !== run.end) {
        if (run.end > run.first) yield { ...run };
        run.first = base + from;
      }
      run.end = base + to;
      left &= ~maskOf(from, to);
    }
    cluster = nextInSet(view, upTo);
  }
  if (run.end > run.first) yield { ...run };
}
