/** Jobs as QMP's two queries tell them together. */
import type { QmpClient } from "@heirloom/qmp";

/** As `--json` prints it. */
export interface JobRow {
  readonly id: string;
  readonly type: string;
  readonly status: string;
  /** Bytes done, of how many. */
  readonly offset: number;
  readonly length: number;
  /** Bytes a second at most; 0: no limit. */
  readonly speed: number;
  readonly paused: boolean;
  readonly error: string | null;
}

/** Oldest first. */
export async function jobsOf(qmp: QmpClient): Promise<readonly JobRow[]> {
  const [all, blockJobs] = await Promise.all([qmp.execute("query-jobs"), qmp.execute("query-block-jobs")]);
  return [...all].reverse().map((job) => {
    const block = blockJobs.find(({ device }) => device === job.id);
    return {
      id: job.id,
      type: job.type,
      status: job.status,
      offset: job["current-progress"],
      length: job["total-progress"],
      speed: block?.speed ?? 0,
      paused: block?.paused ?? job.status === "paused",
      error: job.error ?? null,
    };
  });
}
