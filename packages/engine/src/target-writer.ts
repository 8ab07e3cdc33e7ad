/**
 * Writing clusters of a view to the target: data as data, zeroes as zeroes, neighbours in one request. Marks as copied
 * what arrived, run by run, so an error in the middle leaves the rest to be tried again.
 */
import type { Errno } from "@heirloom/block";
import { copiedClustersWord } from "./job-layout.ts";
import { maskOf } from "./masks.ts";
import type { MoverJob } from "./mover-types.ts";

/** What a cluster in a buffer is. */
export const kindAbsent = 0;
export const kindData = 1;
export const kindZero = 2;

/** A copier's buffer with what it holds. */
export interface HeldRun {
  /** Cluster of the first place in `buffer`. */
  first: number;
  count: number;
  readonly buffer: Uint8Array;
  /** A kind for each cluster. */
  readonly kinds: Uint8Array;
  /** Bytes; where a read failed. */
  failedAt: number;
}

/** Writes what `held` holds; kinds go to absent as they arrive. @returns errno of the first that failed */
export function writeHeld(job: MoverJob, held: HeldRun): Errno {
  const { view } = job;
  let at = 0;
  while (at < held.count) {
    const kind = held.kinds[at];
    if (kind === kindAbsent) {
      at++;
      continue;
    }
    let end = at + 1;
    while (end < held.count && held.kinds[end] === kind) end++;
    const offset = (held.first + at) * view.clusterSize;
    const length = Math.min((held.first + end) * view.clusterSize, view.length) - offset;
    const errno =
      kind === kindData
        ? job.target.write(held.buffer.subarray(at * view.clusterSize, at * view.clusterSize + length), offset)
        : job.targetIsZero
          ? 0
          : job.target.writeZeroes(offset, length, true);
    if (errno !== 0) return errno;
    markCopied(job, held.first + at, end - at);
    // What the source makes of it is of no account: the copy is there.
    if (job.discardSource) job.source.discard(offset, length);
    held.kinds.fill(kindAbsent, at, end);
    at = end;
  }
  return 0;
}

/** Clusters that are on the target: `copied`, then `copying` is given up. The caller owns `copying` for all of them. */
export function markCopied(job: MoverJob, first: number, count: number): void {
  const { view } = job;
  let cluster = first;
  const end = first + count;
  while (cluster < end) {
    const word = cluster >>> 5;
    const upTo = Math.min(end, (word + 1) * 32);
    const mask = maskOf(cluster, upTo);
    view.setCopied(word, mask);
    view.dropCopying(word, mask);
    cluster = upTo;
  }
  Atomics.add(job.words, copiedClustersWord, count);
}
