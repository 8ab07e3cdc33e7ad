/**
 * QEMU's job states and verbs (reference 3.9), whole: `ready` and `standby` are states that a backup never reaches, kept
 * so that tools find the table they know. The job machine is checked against it: it takes no step that is not here.
 */
import { refusal, type Refusal } from "../errors.ts";

export type JobStatus =
  | "undefined"
  | "created"
  | "running"
  | "paused"
  | "ready"
  | "standby"
  | "waiting"
  | "pending"
  | "aborting"
  | "concluded"
  | "null";

export type JobVerb = "cancel" | "pause" | "resume" | "set-speed" | "complete" | "finalize" | "dismiss";

/** Which status may follow which. `aborting` to `aborting` is legal and says nothing. */
export const jobSuccessors: Readonly<Record<JobStatus, readonly JobStatus[]>> = {
  undefined: ["created"],
  created: ["running", "aborting", "null"],
  running: ["paused", "ready", "waiting", "aborting"],
  paused: ["running"],
  ready: ["standby", "waiting", "aborting"],
  standby: ["ready"],
  waiting: ["pending", "aborting"],
  pending: ["aborting", "concluded"],
  aborting: ["aborting", "concluded"],
  concluded: ["null"],
  null: [],
};

export const jobVerbs: Readonly<Record<JobVerb, readonly JobStatus[]>> = {
  cancel: ["created", "running", "paused", "ready", "standby", "waiting", "pending"],
  pause: ["created", "running", "paused", "ready", "standby"],
  resume: ["created", "running", "paused", "ready", "standby"],
  "set-speed": ["created", "running", "paused", "ready", "standby"],
  complete: ["ready", "standby"],
  finalize: ["pending"],
  dismiss: ["concluded"],
};

/** The refusal of a verb, in QEMU's words. */
export function refuseVerb(job: string, status: JobStatus, verb: JobVerb): Refusal {
  return refusal("ERR_JOB_STATE", `Job '${job}' in state '${status}' cannot accept command verb '${verb}'`, {
    job,
    state: status,
    verb,
    allowed: Object.entries(jobVerbs)
      .filter(([, statuses]) => statuses.includes(status))
      .map(([name]) => name),
  });
}

/** Why the verb is refused in this status, by the table alone. */
export function checkVerb(job: string, status: JobStatus, verb: JobVerb): Refusal | undefined {
  return jobVerbs[verb].includes(status) ? undefined : refuseVerb(job, status, verb);
}
