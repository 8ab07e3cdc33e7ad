/** A job as the coordinator knows it: its actor, its view, its target. */
import type { NodeHandle } from "@heirloom/block";
import type { EngineView, MoverError, MoverOptions } from "@heirloom/engine";
import type { BitmapState } from "./bitmap-memory.ts";
import type { DiskState } from "./disk-state.ts";
import type { JobContext, JobDecision, JobEffect, JobEvent, JobInput } from "./machines/job-types.ts";
import type { MachineActor } from "./machines/machine-actor.ts";
import type { CopiedBackup, JobResult, JobWait, KeptBackup } from "./options.ts";
import type { Resumable } from "./resumable.ts";
import type { NormalizedBackup } from "./validation/backup-request.ts";

export type JobActor = MachineActor<JobInput, JobContext, JobEvent, JobEffect>;

/** Where a job writes. */
export interface JobTarget {
  readonly name: string;
  /** What people call it: a path, or the name of a disk. */
  readonly label: string;
  readonly node: NodeHandle;
  /** Bytes. */
  readonly length: number;
  /** Set if it is an attached disk, whose guest the job then is. */
  readonly disk: DiskState | undefined;
}

export interface JobState {
  readonly id: string;
  readonly actor: JobActor;
  readonly request: NormalizedBackup;
  /** With its bitmap it may move to a window of all of its disk. */
  disk: DiskState;
  bitmap: BitmapState | undefined;
  /** A resumable job that was cut off has none until it is resumed: then `awaitsTarget` is set, and this stands for it. */
  target: JobTarget;
  awaitsTarget: boolean;
  readonly resumable: Resumable | undefined;
  /** Its disk is being detached, and it stays in the journal. */
  left: boolean;
  /** A resumable job that waits too long is reclaimed. */
  resumeTimer: NodeJS.Timeout | undefined;
  /** Of a resumable job at work: its target is flushed from time to time. */
  flushTimer: NodeJS.Timeout | undefined;
  readonly view: EngineView;
  readonly movers: Omit<MoverOptions, "speed" | "scan" | "target">;
  /** Work that must be done when everything is copied and before the success is decided. */
  readonly onCopied: ((copied: CopiedBackup) => Promise<void>) | undefined;
  /** Work that must be done before its bitmap gives up what is on the target of a job that failed. */
  readonly onKept: ((kept: KeptBackup) => Promise<void>) | undefined;
  readonly done: Promise<JobResult>;
  readonly finish: (result: JobResult) => void;
  /** Clusters of the view's set at the instant. */
  setClusters: number;
  /** The first error that a thread reported as final. */
  error: MoverError | undefined;
  /** Clusters that count as copied for U (bitmap-mode always): covered by a flush. */
  safe: Int32Array | undefined;
  decided: JobDecision | undefined;
  /** Its view was found broken while its threads had not said so. */
  brokenSeen: boolean;
  /** A flush that the job waits for, or has given up waiting for: its target is in use until it returns. */
  flushing: Promise<unknown> | undefined;
  /** Bytes done and in all at the end: the view's memory goes to others after that. */
  ended: { readonly offset: number; readonly length: number } | undefined;
  freezeMs: number;
  endMs: number;
}

/** Bytes on the target so far; all of `jobLength` once everything is. */
export function jobOffset(job: JobState): number {
  if (job.ended !== undefined) return job.ended.offset;
  const { copiedClusters, memory } = job.view;
  return copiedClusters >= wantedClusters(job) ? jobLength(job) : copiedClusters * memory.clusterSize;
}

/** Bytes in all, in whole clusters of the job (the last one may reach past the disk), as known now; a scan makes it smaller. */
export function jobLength(job: JobState): number {
  if (job.ended !== undefined) return job.ended.length;
  const { clusterSize } = job.request;
  return Math.ceil((wantedClusters(job) * job.view.memory.clusterSize) / clusterSize) * clusterSize;
}

function wantedClusters(job: JobState): number {
  return Math.max(0, job.setClusters - job.view.retiredClusters);
}

/** What a resumable job that was cut off waits for; null where it does not wait. */
export function waitOf({ awaitsTarget, resumable, decided }: JobState): JobWait | null {
  if (!awaitsTarget || resumable === undefined || decided !== undefined) return null;
  const { targetName: target, frozenAt, waitingSince, settings } = resumable;
  return { target, frozenAt, until: waitingSince + settings.resumeTimeoutMs };
}

/** The attached disks that a job uses. */
export function disksOf(job: JobState): ReadonlySet<DiskState> {
  return new Set(job.target.disk === undefined ? [job.disk] : [job.disk, job.target.disk]);
}

/** What a job's threads may do with a disk, as long as they exist. A change of its journal is one of the disk. */
export type DiskUse = "reading" | "changing";

/** The attached disks that a job's threads use, those under them included: they share a file. */
export function usesOf(job: JobState): ReadonlyMap<DiskState, DiskUse> {
  const uses = new Map<DiskState, DiskUse>();
  const source = job.movers.discardSource || job.resumable !== undefined ? "changing" : "reading";
  for (let disk: DiskState | undefined = job.disk; disk !== undefined; disk = disk.under) uses.set(disk, source);
  for (let { disk } = job.target; disk !== undefined; disk = disk.under) uses.set(disk, "changing");
  return uses;
}

/** Clusters of the view that are in its set, in whole clusters of the job. */
export function countSet(job: JobState): number {
  const { view } = job.view.memory;
  if (view.set === undefined) return view.clusters;
  let clusters = 0;
  let counted = 0; // clusters below this are counted: extents may share a unit
  for (const { offset, length } of view.set.extents()) {
    const first = Math.max(counted, (offset - (offset % view.setUnit)) / view.clusterSize);
    const unitEnd = Math.ceil((offset + length) / view.setUnit) * view.setUnit;
    const end = Math.min(view.clusters, unitEnd / view.clusterSize);
    if (end > first) clusters += end - first;
    counted = Math.max(counted, end);
  }
  return clusters;
}
