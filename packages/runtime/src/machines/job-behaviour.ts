/**
 * What the events of a job do, as pure functions of its context and the event: effects in the order in which tools see
 * them (reference 3.11), and what changes. Which state accepts an event, and where it leads, is `job-machine.ts`.
 *
 * An end without success goes to one place, `abort`; one with success is `decideSuccess` and then, for both, `conclude`
 * when everything that follows from the decision is over.
 */
import { invariant } from "../errors.ts";
import type { JobStatus } from "./job-table.ts";
import type { JobContext, JobDecision, JobEffect, JobEvent } from "./job-types.ts";
import type { Behaviour } from "./machine.ts";

type EventOf<Type extends JobEvent["type"]> = Extract<JobEvent, { type: Type }>;
type Does = Behaviour<JobContext, JobEffect>;

const canceled = "Operation canceled";

export function status(...statuses: readonly JobStatus[]): readonly JobEffect[] {
  return statuses.map((to) => ({ type: "status", status: to }));
}

export function start(context: JobContext, paused: boolean): Does {
  return {
    effects: [
      ...status("running", ...(paused ? (["paused"] as const) : [])),
      { type: "start-copying", paused, speed: context.speed },
    ],
    change: { started: true },
  };
}

export function refuse(event: EventOf<"refuse">): Does {
  return {
    effects: [{ type: "release" }, ...status("null"), { type: "forget" }],
    change: { error: event.error },
  };
}

/** One more reason to be paused, for a job that is paused or has not started. */
export function countPause(context: JobContext, event: EventOf<"pause">): Does {
  return { change: event.user ? { userPaused: true } : { internalPauses: context.internalPauses + 1 } };
}

export function pause(context: JobContext, event: EventOf<"pause">): Does {
  return { ...countPause(context, event), effects: [...status("paused"), { type: "pause-copying" }] };
}

/** One reason less. A user's resume forgets the I/O error that stopped the job. */
export function countResume(context: JobContext, event: EventOf<"resume">): Does {
  return {
    change: event.user ? { userPaused: false, ioStatus: "ok" } : { internalPauses: context.internalPauses - 1 },
  };
}

export function resume(context: JobContext, event: EventOf<"resume">): Does {
  return { ...countResume(context, event), effects: [...status("running"), { type: "resume-copying" }] };
}

/** The last reason is gone, and everything was copied meanwhile. */
export function resumeCopied(context: JobContext, event: EventOf<"resume">): Does {
  return { ...countResume(context, event), effects: [...status("running"), ...goOnCopied(context)] };
}

export function setSpeed(event: EventOf<"setSpeed">): Does {
  return { effects: [{ type: "set-speed", speed: event.speed }], change: { speed: event.speed } };
}

function pendingNotice(context: JobContext): JobEffect {
  return { type: "event", name: "BLOCK_JOB_PENDING", jobType: "backup", id: context.id };
}

/** How a job that has everything copied goes on. */
function goOnCopied(context: JobContext): readonly JobEffect[] {
  if (context.group !== null) return [...status("waiting"), { type: "wait-for-group", group: context.group }];
  const next: JobEffect = context.autoFinalize ? { type: "decide", outcome: "success" } : pendingNotice(context);
  return [...status("waiting", "pending"), next];
}

export function allCopied(context: JobContext): Does {
  return { effects: goOnCopied(context), change: { copied: true } };
}

export function rememberCopied(): Does {
  return { change: { copied: true } };
}

export function groupReady(context: JobContext): Does {
  return { effects: [...status("pending"), ...(context.autoFinalize ? [] : [pendingNotice(context)])] };
}

export function finalizeGroup(context: JobContext): Does {
  invariant(context.group !== null, "only a member finalizes its group");
  return { effects: [{ type: "finalize-group", group: context.group }] };
}

export function decideSuccess(): Does {
  return { effects: [{ type: "decide", outcome: "success" }] };
}

/** `tell`: its group hears of it. A job that never started is rolled back, and its transaction tells its peers. */
function abort(context: JobContext, paused: boolean, outcome: JobDecision, error: string, tell: boolean): Does {
  const { group, started } = context;
  return {
    effects: [
      ...status(...(paused ? (["running"] as const) : []), "aborting"),
      { type: "decide", outcome: started ? outcome : "rolled-back" },
      ...(tell && started && group !== null ? ([{ type: "cancel-group", group }] as const) : []),
    ],
    change: { userPaused: false, internalPauses: 0, error, cancelled: outcome === "cancelled" },
  };
}

export function cancel(context: JobContext, paused: boolean): Does {
  return endCancelled(context, paused, true);
}

export function peerFailed(context: JobContext, paused: boolean): Does {
  return endCancelled(context, paused, false);
}

/** What paused it is forgotten, an I/O error that stopped it included. */
function endCancelled(context: JobContext, paused: boolean, tell: boolean): Does {
  const does = abort(context, paused, "cancelled", canceled, tell);
  return context.userPaused ? { ...does, change: { ...does.change, ioStatus: "ok" } } : does;
}

export function fail(context: JobContext, event: EventOf<"fail">, paused: boolean): Does {
  return abort(context, paused, "failure", event.error, true);
}

/** The coordinator sends it to every member of a group, so no member tells another. */
export function recordFailed(context: JobContext, event: EventOf<"recordFailed">): Does {
  return abort(context, false, "failure", event.error, false);
}

function ioNotice(context: JobContext, event: EventOf<"ioError">): JobEffect {
  const { operation, action } = event;
  return { type: "event", name: "BLOCK_JOB_ERROR", device: context.id, operation, action };
}

export function ioIgnore(context: JobContext, event: EventOf<"ioError">): Does {
  return { effects: [ioNotice(context, event)] };
}

export function ioReport(context: JobContext, event: EventOf<"ioError">, paused: boolean): Does {
  const end = abort(context, paused, "failure", event.error, true);
  return { ...end, effects: [ioNotice(context, event), ...(end.effects ?? [])] };
}

/** A user's pause. Of several errors the one that stopped it first is what io-status names. */
export function ioStop(context: JobContext, event: EventOf<"ioError">, paused: boolean): Does {
  const now = event.noSpace ? "nospace" : "failed";
  return {
    effects: [ioNotice(context, event), ...(paused ? [] : [...status("paused"), { type: "pause-copying" } as const])],
    change: { userPaused: true, ioStatus: context.ioStatus === "ok" ? now : context.ioStatus },
  };
}

function endNotice(context: JobContext): readonly JobEffect[] {
  if (!context.started) return [];
  const { id: device, speed, cancelled, error } = context;
  const name = cancelled ? "BLOCK_JOB_CANCELLED" : "BLOCK_JOB_COMPLETED";
  const told = cancelled || error === null ? {} : { error };
  return [{ type: "event", name, jobType: "backup", device, speed, ...told }];
}

/** `vanishes`: auto-dismiss, or it never started. */
export function conclude(context: JobContext, vanishes: boolean): Does {
  const end = vanishes ? dismiss().effects : [];
  return { effects: [{ type: "release" }, ...endNotice(context), ...status("concluded"), ...(end ?? [])] };
}

export function dismiss(): Does {
  return { effects: [...status("null"), { type: "forget" }] };
}
