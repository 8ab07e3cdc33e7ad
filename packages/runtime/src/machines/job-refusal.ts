/**
 * Why a job refuses an event: QEMU's texts for verbs, in QEMU's order of checks, and for an event out of place the state
 * and what it accepts. The machine decides whether; here is only why.
 */
import { refusal, type Refusal } from "../errors.ts";
import { checkVerb, refuseVerb, type JobStatus, type JobVerb } from "./job-table.ts";
import type { JobContext, JobEvent } from "./job-types.ts";
import type { MachineSnapshot } from "./machine.ts";

const verbs: Readonly<Partial<Record<JobEvent["type"], JobVerb>>> = {
  cancel: "cancel",
  pause: "pause",
  resume: "resume",
  setSpeed: "set-speed",
  complete: "complete",
  finalize: "finalize",
  dismiss: "dismiss",
};

/** The status that tools see. */
export function jobStatus(snapshot: MachineSnapshot<JobContext>): JobStatus {
  return (snapshot.state === "committing" ? "pending" : snapshot.state) as JobStatus;
}

export function explainJob(
  snapshot: MachineSnapshot<JobContext>,
  event: JobEvent,
  accepts: readonly string[],
): Refusal {
  const { context, state } = snapshot;
  const now = jobStatus(snapshot);
  const fields = { job: context.id, state: now };
  // These two checks come before the table of verbs, as in QEMU.
  if (event.type === "resume" && event.user && !context.userPaused) {
    return refusal("ERR_JOB_NOT_PAUSED", "Can't resume a job that was not paused", fields);
  }
  if (event.type === "cancel" && !event.force && context.userPaused) {
    return refusal("ERR_JOB_PAUSED", `The block job for device '${context.id}' is currently paused`, fields);
  }
  const verb = verbs[event.type];
  if (verb !== undefined) {
    if (state === "committing") return { ...refuseVerb(context.id, now, verb), code: "ERR_JOB_DECIDED" };
    const reason = checkVerb(context.id, now, verb);
    if (reason !== undefined) return reason;
    if (event.type === "pause") return refusal("ERR_JOB_PAUSED", "Job is already paused", fields);
    if (event.type === "setSpeed") {
      return refusal("ERR_JOB_SPEED", "Parameter 'speed' expects a non-negative value", {
        ...fields,
        speed: event.speed,
      });
    }
  }
  return refusal(
    "ERR_JOB_STATE",
    `Job '${context.id}' in state '${now}' cannot accept '${event.type}' (it accepts: ${accepts.join(", ")})`,
    { ...fields, event: event.type, allowed: accepts },
  );
}
