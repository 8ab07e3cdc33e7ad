/**
 * The background copy by copy_file_range: no buffer, and no claim while the kernel copies (copy-then-claim.ts).
 */
import { fstatSync } from "node:fs";
import { capabilities, copyFully, type DirectFile, ENXIO, type Errno, seekData } from "@heirloom/block";
import { copyRunThenClaim } from "./copy-then-claim.ts";
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
  return copyRunThenClaim(job, run, (first, end) => copySpan(job, first, end, copy));
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
