/** Figures for whoever watches: what there is, and what there was since the runtime began. */
import type { ClosedTimes } from "@heirloom/engine";
import type { JobResult } from "./options.ts";

export interface RuntimeFigures {
  /** Times that gates were closed, over all disks. */
  readonly gateClosed: Pick<ClosedTimes, "buckets" | "count" | "sum">;
  readonly jobsStarted: number;
  readonly jobsEnded: Readonly<Record<JobResult["status"], number>>;
  readonly threadsDied: number;
  readonly threads: number;
  /** Bytes. */
  readonly sharedMemory: number;
  /** Of jobs that run. */
  readonly spills: readonly SpillFigures[];
}

export interface SpillFigures {
  readonly job: string;
  /** Bytes of old data that stand in it now. */
  readonly bytes: number;
  /** Bytes that its file takes on disk. */
  readonly fileBytes: number;
}

/** Counts of jobs. */
export class JobCounts {
  started = 0;
  readonly ended: Record<JobResult["status"], number> = { completed: 0, failed: 0, cancelled: 0, left: 0 };
}
