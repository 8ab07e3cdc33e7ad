/**
 * One backup job: QEMU's states, verbs and order of events (reference 3.6, 3.9 to 3.11), with the end that DESIGN 3.4
 * asks for: a decision first, what follows from it (record, memory, folds) next, and only then the end is told.
 *
 *   state       status     verbs                            life cycle
 *   created     created    cancel pause resume set-speed    start refuse fail peerFailed
 *   running     running    cancel pause set-speed           allCopied fail ioError peerFailed
 *   paused      paused     cancel pause resume set-speed    allCopied fail ioError peerFailed
 *   waiting     waiting    cancel                           groupReady peerFailed
 *   pending     pending    cancel finalize                  commit peerFailed
 *   committing  pending    -                                settled recordFailed
 *   aborting    aborting   -                                settled
 *   concluded   concluded  dismiss                          -
 *   null        null       -                                -
 *
 * - `committing` is QEMU's pending after the success was decided: no cancel, break or death changes the outcome any
 *   more. A verb is refused there as pending refuses what it does not know, with the code ERR_JOB_DECIDED. Only
 *   `recordFailed` takes a success back; the coordinator sends it to every member of a group, whose decision is one.
 * - From `waiting` on (and in a paused job that has all copied) `fail` is refused: what is copied and flushed stays
 *   right whatever happens to the view after that.
 * - A paused job that must end goes through running. No event comes from drains: there are none.
 * - `complete` is a verb that no state of a backup accepts.
 */
import { setup } from "xstate";
import { invariant, refusal, type Refusal } from "../errors.ts";
import { checkVerb, refuseVerb, type JobStatus, type JobVerb } from "./job-table.ts";
import type { JobContext, JobDecision, JobEffect, JobEvent, JobInput } from "./job-types.ts";
import { defineMachine, type Behaviour, type Machine, type MachineSnapshot } from "./machine.ts";

type EventOf<Type extends JobEvent["type"]> = Extract<JobEvent, { type: Type }>;
type Does = Behaviour<JobContext, JobEffect>;

const canceled = "Operation canceled";

function isSpeed(speed: number): boolean {
  return Number.isSafeInteger(speed) && speed >= 0;
}

const job = setup({
  types: { context: {} as JobContext, events: {} as JobEvent, input: {} as JobInput },
  actions: { effects: (_scope, _effects: readonly JobEffect[]) => {} },
  guards: {
    "paused before its start": ({ context }) => context.userPaused || context.internalPauses > 0,
    "first of its kind": ({ context, event }) => event.type === "pause" && !(event.user && context.userPaused),
    "was paused so": ({ context, event }) => wasPaused(context, event),
    "last pause, all copied, grouped": ({ context, event }) =>
      lastPause(context, event) && context.copied && context.group !== null,
    "last pause, all copied, finalizes itself": ({ context, event }) =>
      lastPause(context, event) && context.copied && context.autoFinalize,
    "last pause, all copied": ({ context, event }) => lastPause(context, event) && context.copied,
    "last pause": ({ context, event }) => lastPause(context, event),
    "force, or not paused by the user": ({ context, event }) =>
      event.type === "cancel" && (event.force || !context.userPaused),
    "speed is valid": ({ event }) => event.type === "setSpeed" && isSpeed(event.speed),
    grouped: ({ context }) => context.group !== null,
    "finalizes itself": ({ context }) => context.autoFinalize,
    "not all copied": ({ context }) => !context.copied,
    report: ({ context, event }) => event.type === "ioError" && event.action === "report" && !context.copied,
    stop: ({ context, event }) => event.type === "ioError" && event.action === "stop" && !context.copied,
    ignore: ({ context, event }) => event.type === "ioError" && event.action === "ignore" && !context.copied,
    "vanishes at its end": ({ context }) => context.autoDismiss || !context.started,
  },
});

function wasPaused(context: JobContext, event: JobEvent): boolean {
  return event.type === "resume" && (event.user ? context.userPaused : context.internalPauses > 0);
}

/** The resume takes the last reason to be paused away. */
function lastPause(context: JobContext, event: JobEvent): boolean {
  if (!wasPaused(context, event) || event.type !== "resume") return false;
  return event.user ? context.internalPauses === 0 : context.internalPauses === 1 && !context.userPaused;
}

type Action = ReturnType<typeof job.enqueueActions>;

/** An action from a pure function of context and event. */
function does<Type extends JobEvent["type"]>(
  types: readonly Type[],
  behaviour: (context: JobContext, event: EventOf<Type>) => Does,
): Action {
  return job.enqueueActions(({ context, event, enqueue }) => {
    invariant(types.includes(event.type as Type), `an action of ${types.join(", ")} does not run for ${event.type}`);
    const { effects, change } = behaviour(context, event as EventOf<Type>);
    if (effects !== undefined) enqueue({ type: "effects", params: effects });
    if (change !== undefined) enqueue.assign(change);
  });
}

function status(...statuses: readonly JobStatus[]): readonly JobEffect[] {
  return statuses.map((to) => ({ type: "status", status: to }));
}

function cancelGroup(context: JobContext): readonly JobEffect[] {
  return context.group === null ? [] : [{ type: "cancel-group", group: context.group }];
}

const notPaused: Partial<JobContext> = { userPaused: false, internalPauses: 0 };

/** What a pause or a resume leaves of the reasons to be paused; a user's resume forgets an I/O error. */
const countPause = does(["pause"], (context, event) => ({
  change: event.user ? { userPaused: true } : { internalPauses: context.internalPauses + 1 },
}));
const unpause = (context: JobContext, event: EventOf<"resume">): Partial<JobContext> =>
  event.user ? { userPaused: false, ioStatus: "ok" } : { internalPauses: context.internalPauses - 1 };
const countResume = does(["resume"], (context, event) => ({ change: unpause(context, event) }));

const start = (paused: boolean): Action =>
  does(["start"], (context) => ({
    effects: [
      ...status("running", ...(paused ? (["paused"] as const) : [])),
      { type: "start-copying", paused, speed: context.speed },
    ],
    change: { started: true },
  }));
const refuse = does(["refuse"], (_context, event) => ({
  effects: [{ type: "release" }, ...status("null"), { type: "forget" }],
  change: { error: event.error },
}));
const pause = does(["pause"], (context, event) => ({
  effects: [...status("paused"), { type: "pause-copying" }],
  change: event.user ? { userPaused: true } : { internalPauses: context.internalPauses + 1 },
}));
const resume = does(["resume"], (context, event) => ({
  effects: [...status("running"), { type: "resume-copying" }],
  change: unpause(context, event),
}));
const setSpeed = does(["setSpeed"], (_context, event) => ({
  effects: [{ type: "set-speed", speed: event.speed }],
  change: { speed: event.speed },
}));

/** How a job that has everything copied goes on, behind the statuses that come before. */
function allCopied(context: JobContext): readonly JobEffect[] {
  if (context.group !== null) return [...status("waiting"), { type: "wait-for-group", group: context.group }];
  const end: JobEffect = context.autoFinalize
    ? { type: "decide", outcome: "success" }
    : { type: "event", name: "BLOCK_JOB_PENDING", jobType: "backup", id: context.id };
  return [...status("waiting", "pending"), end];
}
const copied = does(["allCopied"], (context) => ({ effects: allCopied(context), change: { copied: true } }));
const rememberCopied = does(["allCopied"], () => ({ change: { copied: true } }));
const resumeCopied = does(["resume"], (context, event) => ({
  effects: [...status("running"), ...allCopied(context)],
  change: unpause(context, event),
}));

/** An end without success. A job that never started is rolled back: its transaction knows why, and has told its peers. */
function abort(context: JobContext, paused: boolean, outcome: JobDecision, error: string, tell: boolean): Does {
  return {
    effects: [
      ...status(...(paused ? (["running"] as const) : []), "aborting"),
      { type: "decide", outcome: context.started ? outcome : "rolled-back" },
      ...(tell && context.started ? cancelGroup(context) : []),
    ],
    change: { ...notPaused, error, cancelled: outcome === "cancelled" },
  };
}
const aborts = (paused: boolean): { readonly cancel: Action; readonly peerFailed: Action; readonly fail: Action } => ({
  cancel: does(["cancel"], (context) => abort(context, paused, "cancelled", canceled, true)),
  peerFailed: does(["peerFailed"], (context) => abort(context, paused, "cancelled", canceled, false)),
  fail: does(["fail"], (context, event) => abort(context, paused, "failure", event.error, true)),
});
const abortNow = aborts(false);
const abortPaused = aborts(true);
const takeBack = does(["recordFailed"], (context, event) => abort(context, false, "failure", event.error, false));

function ioNotice(context: JobContext, event: EventOf<"ioError">): JobEffect {
  const { operation, action } = event;
  return { type: "event", name: "BLOCK_JOB_ERROR", device: context.id, operation, action };
}
const ioIgnore = does(["ioError"], (context, event) => ({ effects: [ioNotice(context, event)] }));
const ioReport = (paused: boolean): Action =>
  does(["ioError"], (context, event) => {
    const end = abort(context, paused, "failure", event.error, true);
    return { ...end, effects: [ioNotice(context, event), ...(end.effects ?? [])] };
  });
/** The error that stopped it first is the one that io-status names. */
const ioStop = (paused: boolean): Action =>
  does(["ioError"], (context, event) => ({
    effects: [
      ioNotice(context, event),
      ...(paused ? [] : ([...status("paused"), { type: "pause-copying" }] as const)),
    ],
    change: {
      userPaused: true,
      ioStatus: context.ioStatus === "ok" ? (event.noSpace ? "nospace" : "failed") : context.ioStatus,
    },
  }));

const groupReady = does(["groupReady"], (context) => ({
  effects: context.autoFinalize
    ? status("pending")
    : [...status("pending"), { type: "event", name: "BLOCK_JOB_PENDING", jobType: "backup", id: context.id }],
}));
const finalizeGroup = does(["finalize"], (context) => {
  invariant(context.group !== null, "only a member finalizes its group");
  return { effects: [{ type: "finalize-group", group: context.group }] };
});
const decideSuccess = does(["finalize", "commit"], () => ({ effects: [{ type: "decide", outcome: "success" }] }));

function notice(context: JobContext): readonly JobEffect[] {
  if (!context.started) return [];
  const about = { type: "event", jobType: "backup", device: context.id, speed: context.speed } as const;
  if (context.cancelled) return [{ ...about, name: "BLOCK_JOB_CANCELLED" }];
  return [{ ...about, name: "BLOCK_JOB_COMPLETED", ...(context.error === null ? {} : { error: context.error }) }];
}
const conclude = (vanish: boolean): Action =>
  does(["settled"], (context) => ({
    effects: [
      { type: "release" },
      ...notice(context),
      ...status("concluded", ...(vanish ? (["null"] as const) : [])),
      ...(vanish ? ([{ type: "forget" }] as const) : []),
    ],
  }));
const dismiss = does(["dismiss"], () => ({ effects: [...status("null"), { type: "forget" }] }));

const created = job.enqueueActions(({ enqueue }) => {
  enqueue({ type: "effects", params: status("created") });
});

const machine = job.createMachine({
  id: "job",
  context: ({ input }) => ({
    id: input.id,
    type: "backup",
    speed: input.speed ?? 0,
    autoFinalize: input.autoFinalize ?? true,
    autoDismiss: input.autoDismiss ?? true,
    group: input.group ?? null,
    ioStatus: "ok",
    error: null,
    userPaused: false,
    internalPauses: 0,
    copied: false,
    started: false,
    cancelled: false,
  }),
  initial: "created",
  states: {
    created: {
      entry: created,
      on: {
        start: [
          { guard: "paused before its start", target: "paused", actions: start(true) },
          { target: "running", actions: start(false) },
        ],
        refuse: { target: "null", actions: refuse },
        pause: { guard: "first of its kind", actions: countPause },
        resume: { guard: "was paused so", actions: countResume },
        setSpeed: { guard: "speed is valid", actions: setSpeed },
        cancel: { guard: "force, or not paused by the user", target: "aborting", actions: abortNow.cancel },
        peerFailed: { target: "aborting", actions: abortNow.peerFailed },
        fail: { target: "aborting", actions: abortNow.fail },
      },
    },
    running: {
      on: {
        pause: { target: "paused", actions: pause },
        setSpeed: { guard: "speed is valid", actions: setSpeed },
        allCopied: [
          { guard: "grouped", target: "waiting", actions: copied },
          { guard: "finalizes itself", target: "committing", actions: copied },
          { target: "pending", actions: copied },
        ],
        ioError: [
          { guard: "report", target: "aborting", actions: ioReport(false) },
          { guard: "stop", target: "paused", actions: ioStop(false) },
          { guard: "ignore", actions: ioIgnore },
        ],
        cancel: { target: "aborting", actions: abortNow.cancel },
        peerFailed: { target: "aborting", actions: abortNow.peerFailed },
        fail: { target: "aborting", actions: abortNow.fail },
      },
    },
    paused: {
      on: {
        pause: { guard: "first of its kind", actions: countPause },
        resume: [
          { guard: "last pause, all copied, grouped", target: "waiting", actions: resumeCopied },
          { guard: "last pause, all copied, finalizes itself", target: "committing", actions: resumeCopied },
          { guard: "last pause, all copied", target: "pending", actions: resumeCopied },
          { guard: "last pause", target: "running", actions: resume },
          { guard: "was paused so", actions: countResume },
        ],
        setSpeed: { guard: "speed is valid", actions: setSpeed },
        allCopied: { guard: "not all copied", target: "paused", actions: rememberCopied },
        ioError: [
          { guard: "report", target: "aborting", actions: ioReport(true) },
          { guard: "stop", target: "paused", actions: ioStop(true) },
          { guard: "ignore", actions: ioIgnore },
        ],
        cancel: { guard: "force, or not paused by the user", target: "aborting", actions: abortPaused.cancel },
        peerFailed: { target: "aborting", actions: abortPaused.peerFailed },
        fail: { guard: "not all copied", target: "aborting", actions: abortPaused.fail },
      },
    },
    waiting: {
      on: {
        groupReady: { target: "pending", actions: groupReady },
        cancel: { target: "aborting", actions: abortNow.cancel },
        peerFailed: { target: "aborting", actions: abortNow.peerFailed },
      },
    },
    pending: {
      on: {
        finalize: [
          { guard: "grouped", actions: finalizeGroup },
          { target: "committing", actions: decideSuccess },
        ],
        commit: { guard: "grouped", target: "committing", actions: decideSuccess },
        cancel: { target: "aborting", actions: abortNow.cancel },
        peerFailed: { target: "aborting", actions: abortNow.peerFailed },
      },
    },
    committing: {
      on: {
        settled: [
          { guard: "vanishes at its end", target: "null", actions: conclude(true) },
          { target: "concluded", actions: conclude(false) },
        ],
        recordFailed: { target: "aborting", actions: takeBack },
      },
    },
    aborting: {
      on: {
        settled: [
          { guard: "vanishes at its end", target: "null", actions: conclude(true) },
          { target: "concluded", actions: conclude(false) },
        ],
      },
    },
    concluded: { on: { dismiss: { target: "null", actions: dismiss } } },
    null: { type: "final" },
  },
});

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

function explain(snapshot: MachineSnapshot<JobContext>, event: JobEvent): Refusal {
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
  const allowed = jobMachine.allowed(state).filter((type) => type !== event.type);
  return refusal(
    "ERR_JOB_STATE",
    `Job '${context.id}' in state '${now}' cannot accept '${event.type}' (it accepts: ${allowed.join(", ")})`,
    { ...fields, event: event.type, allowed },
  );
}

/** The job machine. Its events and effects are in `job-types.ts`, QEMU's tables in `job-table.ts`. */
export const jobMachine: Machine<JobInput, JobContext, JobEvent, JobEffect> = defineMachine(machine, explain);
