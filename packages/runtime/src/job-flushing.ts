/**
 * The target of a resumable job is flushed while the job is at work, and what was on it before is recorded as flushed: that much is
 * not copied again after a power loss. In this order: recorded first, and lost with the page cache, it would be missing for ever.
 */
import type { Errno } from "@heirloom/block";
import type { Engine } from "@heirloom/engine";
import type { JobState } from "./job-state.ts";

const errnoIo = 5;

/** @returns errno of the flush. One that failed fails the job: what was lost by it is not written again. */
export async function flushTarget(engine: Engine, job: JobState): Promise<Errno> {
  const { disk, resumable, target, view } = job;
  const copied = view.copiedSnapshot();
  const work = (async (): Promise<Errno> => {
    const errno = await engine.flushNode(target.node).catch(() => errnoIo);
    if (errno !== 0 || resumable?.records === undefined) return errno;
    // A journal that cannot be written says so itself; the job does not depend on this.
    await disk.journal?.jobs.storeFlushed(resumable.records, copied).catch(() => {});
    return 0;
  })();
  job.flushing = work; // its end is waited for before target and layers go
  return work;
}

/** Begins with the job's threads. @param failed told of a flush that failed */
export function flushFromTimeToTime(engine: Engine, job: JobState, failed: (errno: Errno) => void): void {
  const { resumable } = job;
  if (resumable === undefined || job.flushTimer !== undefined) return;
  let covered = job.view.copiedClusters;
  let flushing = false;
  const look = async (): Promise<void> => {
    const { copiedClusters } = job.view;
    if (flushing || job.decided !== undefined || copiedClusters === covered) return;
    flushing = true;
    const errno = await flushTarget(engine, job);
    flushing = false;
    if (errno === 0) covered = copiedClusters;
    else failed(errno);
  };
  job.flushTimer = setInterval(() => void look(), resumable.settings.flushEveryMs).unref();
}
