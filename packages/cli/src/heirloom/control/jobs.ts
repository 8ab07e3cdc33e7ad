/** Jobs as QMP's two queries tell them together. */
import type { HeirloomActor, QmpClient } from "@heirloom/qmp";

/** Of a resumable job that was cut off. Times are ISO 8601. */
export interface JobWait {
  /** What its target was called. */
  readonly target: string;
  /** Its point in time. */
  readonly frozenAt: string;
  /** It is reclaimed then. */
  readonly until: string;
}

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
  readonly waits: JobWait | null;
}

/** Oldest first. */
export async function jobsOf(qmp: QmpClient): Promise<readonly JobRow[]> {
  const [all, blockJobs, actors] = await Promise.all([
    qmp.execute("query-jobs"),
    qmp.execute("query-block-jobs"),
    qmp.execute("x-heirloom-query-actors").catch(() => []), // QEMU's daemon has no jobs that wait
  ]);
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
      waits: waitOf(actors, job.id),
    };
  });
}

function waitOf(actors: readonly HeirloomActor[], id: string): JobWait | null {
  const waits = actors.find(({ kind, name, ended }) => kind === "job" && name === id && !ended)?.waits;
  if (waits === undefined) return null;
  const { target, "frozen-at": frozenAt, until } = waits;
  return { target, frozenAt: new Date(frozenAt).toISOString(), until: new Date(until).toISOString() };
}
