/**
 * The target of a resumable job is flushed while the job is at work, and what was on it before is recorded as flushed: that much is
 * not copied again after a power loss. In this order: recorded first, and lost with the page cache, it would be missing for ever.
 *
 * Where the spill is synced guests wait for room in it until then, so a target is flushed sooner when that becomes scarce.
 */
import type { Errno } from "@heirloom/block";
import type { Engine } from "@heirloom/engine";
import type { JobState } from "./job-state.ts";

const errnoIo = 5;
/** Between two looks whether a synced spill becomes scarce. */
const pressedLookMs = 100;

/** @returns errno of the flush. One that failed fails the job: what was lost by it is not written again. */
export async function flushTarget(engine: Engine, job: JobState): Promise<Errno> {
  const { disk, resumable, target, view } = job;
  const copied = view.copiedSnapshot();
  const work = (async (): Promise<Errno> => {
    const errno = await engine.flushNode(target.node).catch(() => errnoIo);
    if (errno !== 0 || resumable?.records === undefined) return errno;
    // A journal that cannot be written says so itself; the job does not depend on this.
    const stored = await disk.journal?.jobs.storeFlushed(resumable.records, copied).catch(() => false);
    if (stored === true) view.flushed(copied);
    return 0;
  })();
  job.flushing = work; // its end is waited for before target and layers go
  return work;
}

/** Begins with the job's threads. @param failed told of a flush that failed */
export function flushFromTimeToTime(engine: Engine, job: JobState, failed: (errno: Errno) => void): void {
  const { resumable } = job;
  if (resumable === undefined || job.flushTimer !== undefined) return;
  const { view } = job;
  const { flushEveryMs, syncSpill } = resumable.settings;
  let covered = view.copiedClusters;
  let flushing = false;
  let next = performance.now() + flushEveryMs;
  const look = async (): Promise<void> => {
    if (flushing || job.decided !== undefined) return;
    const { copiedClusters, heldSlots, wantsFlush } = view;
    if (syncSpill && performance.now() < next && !wantsFlush) return;
    next = performance.now() + flushEveryMs;
    if (copiedClusters === covered && heldSlots === 0) return;
    flushing = true;
    const errno = await flushTarget(engine, job);
    flushing = false;
    if (errno === 0) covered = copiedClusters;
    else failed(errno);
  };
  job.flushTimer = setInterval(
    () => void look(),
    syncSpill ? Math.min(flushEveryMs, pressedLookMs) : flushEveryMs,
  ).unref();
}
