/**
 * The background copy through a buffer. For each cluster of a run: take `copying`, look whether it is needed, claim it,
 * look again, read the device, look whether the view is over, set `preserved`, release the claim; then, holding nothing
 * that a guest could wait for, write the target.
 *
 * Zeroes are known without a read where the device says so. An answer "hole" is kept for the rest of the job: a guest that
 * wrote there since has preserved the cluster before, so it is not needed any more and is not looked at here.
 */
import { type Errno, isZero, type StatusExtent } from "@heirloom/block";
import type { MoverJob } from "./mover-types.ts";
import { type HeldRun, kindAbsent, kindData, kindZero } from "./target-writer.ts";
import { lowestOf, maskOf, runEnd } from "./masks.ts";
import type { Run } from "./runs.ts";
import { claimBytesMax } from "./view-layout.ts";

/** What this thread knows of the source's holes: an extent of the last answer. */
export interface KnownExtent {
  offset: number;
  readonly extent: StatusExtent;
}

/**
 * Reads what is needed of `run` into `held`. Clusters that others work on are left out.
 * @returns errno of a failed read; what was read before it is held
 */
export function readRun(job: MoverJob, run: Run, held: HeldRun, known: KnownExtent): Errno {
  const { view } = job;
  held.first = run.first;
  held.count = run.count;
  held.kinds.fill(kindAbsent, 0, run.count);
  const perClaim = Math.max(1, Math.min(32, claimBytesMax / view.clusterSize));
  const end = run.first + run.count;
  let cluster = run.first;
  while (cluster < end && !view.over()) {
    const upTo = Math.min(end, cluster + perClaim, ((cluster >>> 5) + 1) * 32);
    const errno = readClaimed(job, cluster, upTo, held, known);
    if (errno !== 0) return errno;
    cluster = upTo;
  }
  return 0;
}

/** Clusters `[from, to)` of one word. */
function readClaimed(job: MoverJob, from: number, to: number, held: HeldRun, known: KnownExtent): Errno {
  const { view } = job;
  const word = from >>> 5;
  const owned = view.takeCopying(word, maskOf(from, to));
  const wanted = view.over() ? 0 : view.neededOf(word, owned);
  const claimed = wanted === 0 ? 0 : view.claim(word, wanted);
  // Again, under the claim: a guest may have preserved one between the look and the claim.
  let left = view.over() ? 0 : view.neededOf(word, claimed);
  let got = 0;
  let errno = 0;
  while (left !== 0 && errno === 0) {
    const first = lowestOf(left);
    const span = maskOf(first, runEnd(left, first));
    errno = readSpan(job, word * 32 + first, word * 32 + runEnd(left, first), held, known);
    if (errno === 0) got |= span;
    else held.failedAt = (word * 32 + first) * view.clusterSize;
    left &= ~span;
  }
  if (view.over()) got = 0; // what was read may be newer than the break
  if (got !== 0) view.setPreserved(word, got);
  if (claimed !== 0) view.release(word, claimed);
  const lost = owned & ~got;
  if (lost !== 0) view.dropCopying(word, lost);
  for (let bits = claimed & ~got; bits !== 0; bits &= bits - 1) {
    held.kinds[word * 32 + lowestOf(bits) - held.first] = kindAbsent;
  }
  return errno;
}

/** Reads neighbours into their places, or notes them as zeroes. */
function readSpan(job: MoverJob, from: number, to: number, held: HeldRun, known: KnownExtent): Errno {
  const { view } = job;
  const offset = from * view.clusterSize;
  const length = Math.min(to * view.clusterSize, view.length) - offset;
  if (knownZero(job, offset, length, known)) {
    held.kinds.fill(kindZero, from - held.first, to - held.first);
    return 0;
  }
  const place = (from - held.first) * view.clusterSize;
  const errno = job.source.read(held.buffer.subarray(place, place + length), offset);
  if (errno !== 0) return errno;
  for (let cluster = from; cluster < to; cluster++) {
    const at = (cluster - held.first) * view.clusterSize;
    const zero = job.detectZeroes && isZero(held.buffer.subarray(at, at + view.bytesOf(cluster)));
    held.kinds[cluster - held.first] = zero ? kindZero : kindData;
  }
  return 0;
}

/**
 * Whether the device says that all of the range reads as zeroes. Where it can say so of a place without looking for the end
 * of its data it is asked that: on a tmpfs that end costs a walk over every page up to it, for a job of one cluster as well.
 */
export function knownZero(job: MoverJob, offset: number, length: number, known: KnownExtent): boolean {
  const { extent } = known;
  if (offset < known.offset || offset >= known.offset + extent.length) {
    const zeroes = job.source.zeroesFrom?.(offset, job.view.length - offset);
    if (zeroes !== undefined) {
      extent.zero = zeroes > 0;
      extent.length = zeroes > 0 ? zeroes : length;
    } else if (job.source.status(offset, job.view.length - offset, extent) !== 0) {
      extent.zero = false;
      extent.length = length;
    }
    known.offset = offset;
  }
  return extent.zero && offset + length <= known.offset + extent.length;
}
