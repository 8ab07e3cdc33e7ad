/**
 * The background copy by copy_file_range: no buffer, no claim while the kernel copies. Take `copying`, look whether the
 * clusters are needed, let the kernel copy; then claim and look again. A cluster that is still needed was not overwritten
 * in between (a guest would have preserved it first), so the copy is of the old data: `preserved` and `copied` together.
 * One that is not needed any more was preserved by a guest, and the drainer, which waits while `copying` is set, writes
 * over whatever the kernel put there.
 */
import { fstatSync } from "node:fs";
import { capabilities, copyFully, type DirectFile, ENXIO, type Errno, seekData } from "@heirloom/block";
import { countOf, lowestOf, maskOf, runEnd } from "./masks.ts";
import { copiedClustersWord } from "./job-layout.ts";
import type { MoverJob } from "./mover-types.ts";
import type { Run } from "./runs.ts";

/** What the kernel copies between. */
export interface KernelCopy {
  readonly from: DirectFile;
  readonly to: DirectFile;
  /** The source has holes to look for: a file with room for all of its bytes has none, and a look costs 1 us and more. */
  readonly sparse: boolean;
}

/** Undefined where the kernel cannot copy, or must not: zeroes are to be looked for. */
export function kernelCopyOf(job: MoverJob): KernelCopy | undefined {
  const { direct: from } = job.source;
  const { direct: to } = job.target;
  if (from === undefined || to === undefined || job.detectZeroes || !capabilities().copyFileRange) return undefined;
  const { blocks } = fstatSync(from.fd);
  return { from, to, sparse: blocks * 512 < from.shift + job.view.length };
}

/** @returns errno of the kernel's copy, or of zeroes written; the clusters in question are left for another try */
export function copyRunInKernel(job: MoverJob, run: Run, copy: KernelCopy): Errno {
  const end = run.first + run.count;
  let cluster = run.first;
  while (cluster < end && !job.view.over()) {
    const first = takeNeeded(job, cluster, end);
    if (first.count === 0) {
      cluster = first.next;
      continue;
    }
    const errno = copySpan(job, first.start, first.start + first.count, copy);
    settleSpan(job, first.start, first.start + first.count, errno === 0);
    if (errno !== 0) return errno;
    cluster = first.next;
  }
  return 0;
}

const taken = { start: 0, count: 0, next: 0 };

/**
 * Takes `copying` for the first stretch of needed clusters in `[cluster, end)`, across words. `next` is where to go on: a
 * stretch ends before a cluster that is not needed or that another thread works on.
 */
function takeNeeded(job: MoverJob, cluster: number, end: number): typeof taken {
  const { view } = job;
  taken.start = cluster;
  taken.count = 0;
  taken.next = cluster;
  while (taken.next < end) {
    const word = taken.next >>> 5;
    const upTo = Math.min(end, (word + 1) * 32);
    const owned = view.takeCopying(word, maskOf(taken.next, upTo));
    const wanted = view.neededOf(word, owned);
    if (wanted === 0) {
      if (owned !== 0) view.dropCopying(word, owned);
      if (taken.count === 0) taken.next = upTo;
      return taken;
    }
    const low = lowestOf(wanted);
    const high = runEnd(wanted, low);
    const gap = word * 32 + low !== taken.next;
    const kept = gap && taken.count > 0 ? 0 : maskOf(low, high);
    if (owned !== kept) view.dropCopying(word, owned & ~kept);
    if (kept === 0) return taken;
    if (taken.count === 0) taken.start = word * 32 + low;
    taken.count += high - low;
    taken.next = word * 32 + high;
    if (taken.next < upTo) return taken;
  }
  return taken;
}

function copySpan(job: MoverJob, first: number, end: number, copy: KernelCopy): Errno {
  const { view } = job;
  const { from, to, sparse } = copy;
  const stop = Math.min(end * view.clusterSize, view.length);
  let offset = first * view.clusterSize;
  while (offset < stop) {
    const hole = sparse ? holeAt(from, offset, stop) : 0;
    const piece = hole > 0 ? hole : sparse ? dataAt(from, offset, stop) : stop - offset;
    let errno: Errno;
    if (hole > 0) errno = job.targetIsZero ? 0 : job.target.writeZeroes(offset, piece, true);
    else errno = copyFully(from.fd, offset + from.shift, to.fd, offset + to.shift, piece);
    if (errno !== 0) return errno;
    offset += piece;
  }
  return 0;
}

/**
 * Holes are looked for with SEEK_DATA alone, a probe each of this many bytes: SEEK_HOLE on a tmpfs walks every page up to
 * the end of the data, 10 ms for 2 GiB.
 */
const probeBytes = 128 * 1024;

/** Bytes from `offset` on that are a hole of the source; 0 if there is data, or nobody knows. */
function holeAt(from: DirectFile, offset: number, stop: number): number {
  const data = seekData(from.fd, offset + from.shift);
  if (data === -ENXIO) return stop - offset;
  return data <= offset + from.shift ? 0 : Math.min(stop, data - from.shift) - offset;
}

/** Bytes from `offset` on that are copied as data: up to a probe that finds a hole. */
function dataAt(from: DirectFile, offset: number, stop: number): number {
  let end = Math.min(stop, offset + probeBytes);
  while (end < stop && holeAt(from, end, stop) === 0) end = Math.min(stop, end + probeBytes);
  return end - offset;
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
      const still = view.over() ? 0 : view.neededOf(word, got);
      if (still !== 0) {
        view.setPreserved(word, still);
        view.setCopied(word, still);
        copied |= still;
      }
      view.release(word, got);
      left &= ~got;
    }
    view.dropCopying(word, all);
    if (copied !== 0) Atomics.add(job.words, copiedClustersWord, countOf(copied));
    cluster = upTo;
  }
}
