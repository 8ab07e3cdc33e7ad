/** A resumable job's copy through a buffer, span by span: read the device, write the target; copy-then-claim.ts has the rest. */
import { type Errno, isZero } from "@heirloom/block";
import { type KnownExtent, knownZero } from "./copier.ts";
import type { MoverJob } from "./mover-types.ts";

/** A request that failed. */
export interface Failure {
  operation: "read" | "write";
  /** Bytes. */
  offset: number;
}

/** Brings clusters `[first, end)` to the target. @returns errno; `failure` says of what */
export function copyThroughBuffer(
  job: MoverJob,
  first: number,
  end: number,
  buffer: Uint8Array,
  known: KnownExtent,
  failure: Failure,
): Errno {
  const { view, source, target } = job;
  const offset = first * view.clusterSize;
  const length = Math.min(end * view.clusterSize, view.length) - offset;
  failure.offset = offset;
  if (knownZero(job, offset, length, known)) {
    failure.operation = "write";
    return job.targetIsZero ? 0 : target.writeZeroes(offset, length, true);
  }
  const data = buffer.subarray(0, length);
  failure.operation = "read";
  const unread = source.read(data, offset);
  if (unread !== 0) return unread;
  failure.operation = "write";
  if (!job.detectZeroes) return target.write(data, offset);
  for (let at = 0; at < length;) {
    const zero = isZero(data.subarray(at, at + view.clusterSize));
    let to = Math.min(length, at + view.clusterSize);
    while (to < length && isZero(data.subarray(to, to + view.clusterSize)) === zero)
      to = Math.min(length, to + view.clusterSize);
    failure.offset = offset + at;
    const errno = zero
      ? job.targetIsZero
        ? 0
        : target.writeZeroes(offset + at, to - at, true)
      : target.write(data.subarray(at, to), offset + at);
    if (errno !== 0) return errno;
    at = to;
  }
  return 0;
}
