/** What a job was asked to do and why it copied what it did, beside its state and history. Kept for some time after its end. */
import { why } from "./job-reasons.ts";
import { type JobState, waitOf } from "./job-state.ts";
import type { Inspection } from "./machines/machine-actor.ts";
import type { JobWait } from "./options.ts";

export interface JobInspection extends Inspection<unknown> {
  readonly job: string;
  readonly disk: string;
  readonly target: string;
  readonly bitmap: string | null;
  readonly bitmapMode: string | null;
  readonly sync: string;
  /** Why it copies what it copies. */
  readonly because: string;
  readonly waits: JobWait | null;
}

/** Member by member: see `factsOf` for why nothing is spread here. */
export function inspectJob(job: JobState): JobInspection {
  const { actor, request } = job;
  return {
    id: actor.id,
    machine: actor.machine.name,
    state: actor.state,
    context: actor.context,
    history: actor.history,
    job: job.id,
    disk: job.disk.name,
    target: job.target.label,
    bitmap: request.bitmap?.name ?? null,
    bitmapMode: request.bitmap?.mode ?? null,
    sync: request.sync,
    because: why(job).reason,
    waits: waitOf(job),
  };
}
