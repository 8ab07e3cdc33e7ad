/**
 * The background copy by copy_file_range: no buffer, no claim while the kernel copies. Take `copying`, look whether the
 * clusters are needed, let the kernel copy; then claim and look again. A cluster that is still needed was not overwritten
 * in between (a guest would have preserved it first), so the copy is of the old data: `preserved` and `copied` together.
 * One that is not needed any more was preserved by a guest, and the drainer, which waits while `copying` is set, writes
 * over whatever the kernel put there.
 */
import { copyFully, type DirectFile, type Errno } from "@heirloom/block";
import { type KnownExtent, knownZero } from "./copier.ts";
import { copiedClustersWord } from "./job-layout.ts";
import type { MoverJob } from "./mover-types.ts";
import type { Run } from "./runs.ts";
import { maskOf } from "./target-writer.ts";

/** @returns errno of the kernel's copy, or of zeroes written; the clusters in question are left for another try */
export function copyRunInKernel(job: MoverJob, run: Run, from: DirectFile, to: DirectFile, known: KnownExtent): Errno {
  const end = run.first + run.count;
  let cluster = run.first;
  while (cluster < end && !job.view.over()) {
    const first = cluster;
    // Neighbours that are ours and needed; their `copying` is taken as we go.
    while (cluster < end && takeIfNeeded(job, cluster)) cluster++;
    if (cluster === first) {
      cluster++;
      continue;
    }
    const errno = copySpan(job, first, cluster, from, to, known);
    settleSpan(job, first, cluster, errno === 0);
    if (errno !== 0) return errno;
  }
  return 0;
}

function takeIfNeeded(job: MoverJob, cluster: number): boolean {
  const { view } = job;
  const word = cluster >>> 5;
  const bit = 1 << (cluster & 31);
  if (view.takeCopying(word, bit) === 0) return false;
  if (view.needed(cluster)) return true;
  view.dropCopying(word, bit);
  return false;
}

function copySpan(job: MoverJob, first: number, end: number, from: DirectFile, to: DirectFile, known: KnownExtent): Errno {
  const { view } = job;
  let offset = first * view.clusterSize;
  const stop = Math.min(end * view.clusterSize, view.length);
  while (offset < stop) {
    const piece = Math.min(stop - offset, Math.max(view.clusterSize, zeroPiece(job, offset, stop - offset, known)));
    let errno: Errno;
    if (knownZero(job, offset, piece, known)) errno = job.targetIsZero ? 0 : job.target.writeZeroes(offset, piece, true);
    else errno = copyFully(from.fd, offset + from.shift, to.fd, offset + to.shift, piece);
    if (errno !== 0) return errno;
    offset += piece;
  }
  return 0;
}

/** Bytes from `offset` on that share one answer, whole clusters. */
function zeroPiece(job: MoverJob, offset: number, length: number, known: KnownExtent): number {
  knownZero(job, offset, 1, known);
  const left = Math.min(length, known.offset + known.extent.length - offset);
  return left - (left % job.view.clusterSize);
}

/** Claims word by word, looks again, and sets both bits for what is still needed. */
function settleSpan(job: MoverJob, first: number, end: number, arrived: boolean): void {
  const { view } = job;
  let cluster = first;
  while (cluster < end) {
    const word = cluster >>> 5;
    const upTo = Math.min(end, (word + 1) * 32);
    const all = maskOf(cluster, upTo);
    let left = arrived ? all : 0;
    let copied = 0;
    while (left !== 0 && !view.over()) {
      const got = view.claim(word, left);
      if (got === 0) {
        view.waitForClaim(word, left);
        continue;
      }
      let still = 0;
      for (let one = cluster; one < upTo; one++) {
        const bit = 1 << (one & 31);
        if ((got & bit) !== 0 && view.needed(one)) still |= bit;
      }
      if (still !== 0 && !view.over()) {
        view.setPreserved(word, still);
        view.setCopied(word, still);
        copied |= still;
      }
      view.release(word, got);
      left &= ~got;
    }
    view.dropCopying(word, all);
    if (copied !== 0) Atomics.add(job.words, copiedClustersWord, popcount(copied));
    cluster = upTo;
  }
}

function popcount(bits: number): number {
  let count = 0;
  for (let left = bits; left !== 0; left &= left - 1) count++;
  return count;
}
