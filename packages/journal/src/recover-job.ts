/**
 * A resumable job after a stop: what it has on its target, and whether its point in time can still be had.
 *
 * After a kill all that it had written down is there, and whatever a guest overwrote was written down before: it goes on.
 *
 * After a power loss anything that was not synced may be missing. What a guest may have written since the freeze is what the successor
 * has dirty, regions that were not settled included; and in such a region the disk may also have lost what it held at the freeze. So
 * each of these clusters must be in a whole entry of the spill, or on the target with a flush since. All others are on the
 * disk as they were: their regions were settled, with the disk synced, and not written after that.
 *
 * Where the spill is synced it goes on after a power loss too: a guest overwrote nothing before its old data was on stable storage, and
 * the image was synced after the freeze. So what is in no entry and was not flushed to the target is on the disk as it was.
 */
import type { SharedBitmap } from "@heirloom/bitmap";
import type { Errno } from "@heirloom/block";
import { layerWords } from "./layer-words.ts";
import type { JobEntry } from "./job-entry.ts";
import type { Sidecar } from "./recover.ts";
import type { Storage } from "./storage.ts";

export interface JobState {
  readonly errno: Errno;
  /** Why it cannot go on. */
  readonly refused: string | undefined;
  /** On the target; and what of it a flush covers. A bit a cluster. */
  readonly copied: Int32Array;
  readonly flushed: Int32Array;
}

/**
 * @param set what the bitmap said at the freeze @param successor what was written since, all that may have been
 * @param entries of the spill: slot and cluster, one after the other
 */
export function recoverJob(
  storage: Storage,
  sidecar: Pick<Sidecar, "tag">,
  job: JobEntry,
  lost: boolean,
  set: SharedBitmap,
  successor: SharedBitmap,
  entries: Int32Array,
): JobState {
  const { errno: unread, words: flushed } = layerWords(storage, sidecar.tag, job.flushed, job.clusterSize);
  const { errno, words: copied } = lost
    ? { errno: unread, words: flushed }
    : layerWords(storage, sidecar.tag, job.copied, job.clusterSize);
  if (unread !== 0 || errno !== 0) return { errno: unread || errno, refused: undefined, copied, flushed };
  if (!lost || job.synced) return { errno, refused: undefined, copied, flushed };
  const safe = copied.slice();
  for (let at = 1; at < entries.length; at += 2) {
    const cluster = entries[at];
    if (cluster >>> 5 < safe.length) safe[cluster >>> 5] |= 1 << (cluster & 31);
  }
  const missing = firstUnsafe(job, set, successor, safe);
  const refused =
    missing === -1
      ? undefined
      : `after the power loss nobody knows what was at ${missing * job.clusterSize} at its point in time`;
  return { errno: 0, refused, copied, flushed };
}

/** A cluster of the set that may have been written since the freeze, and whose old data is nowhere; or -1. */
function firstUnsafe(job: JobEntry, set: SharedBitmap, successor: SharedBitmap, safe: Int32Array): number {
  const { clusterSize, unit, all } = job;
  const inSet = (cluster: number): boolean => {
    const offset = cluster * clusterSize - ((cluster * clusterSize) % unit);
    return all || set.any(offset, Math.min(unit, set.length - offset));
  };
  for (const { offset, length } of successor.extents()) {
    const end = Math.ceil((offset + length) / clusterSize);
    for (let cluster = Math.floor(offset / clusterSize); cluster < end; cluster++) {
      if ((safe[cluster >>> 5] & (1 << (cluster & 31))) === 0 && inSet(cluster)) return cluster;
    }
  }
  return -1;
}
