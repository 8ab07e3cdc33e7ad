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
import { invariant } from "../errors.ts";
import * as behaviour from "./job-behaviour.ts";
import { explainJob } from "./job-refusal.ts";
import type { JobContext, JobEffect, JobEvent, JobInput } from "./job-types.ts";
import { defineMachine, type Behaviour, type Machine } from "./machine.ts";

type EventOf<Type extends JobEvent["type"]> = Extract<JobEvent, { type: Type }>;
type Does = Behaviour<JobContext, JobEffect>;

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

/** A behaviour of one event as an action. */
function does<Type extends JobEvent["type"]>(
  type: Type,
  act: (context: JobContext, event: EventOf<Type>) => Does,
): Action {
  return job.enqueueActions(({ context, event, enqueue }) => {
    invariant(event.type === type, `a behaviour of ${type} is for ${type} only`);
    const { effects, change } = act(context, event as EventOf<Type>);
    if (effects !== undefined) enqueue({ type: "effects", params: effects });
    if (change !== undefined) enqueue.assign(change);
  });
}

/** What differs between a job that runs and one that is paused: the latter goes through running to its end. */
const ends = (paused: boolean): Readonly<Record<"cancel" | "peerFailed" | "fail" | "report" | "stop", Action>> => ({
  cancel: does("cancel", (context) => behaviour.cancel(context, paused)),
  peerFailed: does("peerFailed", (context) => behaviour.peerFailed(context, paused)),
  fail: does("fail", (context, event) => behaviour.fail(context, event, paused)),
  report: does("ioError", (context, event) => behaviour.ioReport(context, event, paused)),
  stop: does("ioError", (context, event) => behaviour.ioStop(context, event, paused)),
});
const running = ends(false);
const paused = ends(true);
const ioIgnore = does("ioError", behaviour.ioIgnore);
const countPause = does("pause", behaviour.countPause);
const countResume = does("resume", behaviour.countResume);
const resumeCopied = does("resume", behaviour.resumeCopied);
const setSpeed = does("setSpeed", (_context, event) => behaviour.setSpeed(event));
const copied = does("allCopied", behaviour.allCopied);
const conclude = (vanishes: boolean): Action => does("settled", (context) => behaviour.conclude(context, vanishes));

const created = job.enqueueActions(({ enqueue }) => {
  enqueue({ type: "effects", params: behaviour.status("created") });
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
          {
            guard: "paused before its start",
            target: "paused",
            actions: does("start", (context) => behaviour.start(context, true)),
          },
          { target: "running", actions: does("start", (context) => behaviour.start(context, false)) },
        ],
        refuse: { target: "null", actions: does("refuse", (_context, event) => behaviour.refuse(event)) },
        pause: { guard: "first of its kind", actions: countPause },
        resume: { guard: "was paused so", actions: countResume },
        setSpeed: { guard: "speed is valid", actions: setSpeed },
        cancel: { guard: "force, or not paused by the user", target: "aborting", actions: running.cancel },
        peerFailed: { target: "aborting", actions: running.peerFailed },
        fail: { target: "aborting", actions: running.fail },
      },
    },
    running: {
      on: {
        pause: { target: "paused", actions: does("pause", behaviour.pause) },
        setSpeed: { guard: "speed is valid", actions: setSpeed },
        allCopied: [
          { guard: "grouped", target: "waiting", actions: copied },
          { guard: "finalizes itself", target: "committing", actions: copied },
          { target: "pending", actions: copied },
        ],
        ioError: [
          { guard: "report", target: "aborting", actions: running.report },
          { guard: "stop", target: "paused", actions: running.stop },
          { guard: "ignore", actions: ioIgnore },
        ],
        cancel: { target: "aborting", actions: running.cancel },
        peerFailed: { target: "aborting", actions: running.peerFailed },
        fail: { target: "aborting", actions: running.fail },
      },
    },
    paused: {
      on: {
        pause: { guard: "first of its kind", actions: countPause },
        resume: [
          { guard: "last pause, all copied, grouped", target: "waiting", actions: resumeCopied },
          { guard: "last pause, all copied, finalizes itself", target: "committing", actions: resumeCopied },
          { guard: "last pause, all copied", target: "pending", actions: resumeCopied },
          { guard: "last pause", target: "running", actions: does("resume", behaviour.resume) },
          { guard: "was paused so", actions: countResume },
        ],
        setSpeed: { guard: "speed is valid", actions: setSpeed },
        allCopied: { guard: "not all copied", target: "paused", actions: does("allCopied", behaviour.rememberCopied) },
        ioError: [
          { guard: "report", target: "aborting", actions: paused.report },
          { guard: "stop", target: "paused", actions: paused.stop },
          { guard: "ignore", actions: ioIgnore },
        ],
        cancel: { guard: "force, or not paused by the user", target: "aborting", actions: paused.cancel },
        peerFailed: { target: "aborting", actions: paused.peerFailed },
        fail: { guard: "not all copied", target: "aborting", actions: paused.fail },
      },
    },
    waiting: {
      on: {
        groupReady: { target: "pending", actions: does("groupReady", behaviour.groupReady) },
        cancel: { target: "aborting", actions: running.cancel },
        peerFailed: { target: "aborting", actions: running.peerFailed },
      },
    },
    pending: {
      on: {
        finalize: [
          { guard: "grouped", actions: does("finalize", behaviour.finalizeGroup) },
          { target: "committing", actions: does("finalize", behaviour.decideSuccess) },
        ],
        commit: { guard: "grouped", target: "committing", actions: does("commit", behaviour.decideSuccess) },
        cancel: { target: "aborting", actions: running.cancel },
        peerFailed: { target: "aborting", actions: running.peerFailed },
      },
    },
    committing: {
      on: {
        settled: [
          { guard: "vanishes at its end", target: "null", actions: conclude(true) },
          { target: "concluded", actions: conclude(false) },
        ],
        recordFailed: { target: "aborting", actions: does("recordFailed", behaviour.recordFailed) },
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
    concluded: { on: { dismiss: { target: "null", actions: does("dismiss", behaviour.dismiss) } } },
    null: { type: "final" },
  },
});

/** The job machine. Its events and effects are in `job-types.ts`, QEMU's tables in `job-table.ts`. */
export const jobMachine: Machine<JobInput, JobContext, JobEvent, JobEffect> = defineMachine(machine, explainJob);
