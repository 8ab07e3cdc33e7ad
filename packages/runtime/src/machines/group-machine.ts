/**
 * The jobs of one transaction with completion-mode grouped: all succeed at one instant, or none does (reference 4).
 *
 *   running     memberWaiting until all wait; memberFailed; finalize is refused ("waiting")
 *   pending     a member wants to be finalized by hand; finalizing one finalizes all; memberFailed
 *   committing  the success of all is decided: memberSettled until all are
 *   aborting    one failed or was cancelled, so all others are cancelled, waiting ones too: memberSettled
 *   done        -
 *
 * A member that failed or was cancelled is told apart by its own job; here it only is one that needs no cancel.
 */
import { setup } from "xstate";
import { invariant, refusal, type Refusal } from "../errors.ts";
import { defineMachine, type Machine, type MachineSnapshot } from "./machine.ts";

export interface GroupMember {
  readonly job: string;
  /** `auto-finalize` is off: it holds all members in pending. */
  readonly manual: boolean;
}

export interface GroupInput {
  readonly id: string;
  /** In the order in which the jobs were created; at least one. */
  readonly members: readonly GroupMember[];
}

export interface GroupContext extends GroupInput {
  readonly waiting: readonly string[];
  readonly settled: readonly string[];
}

export type GroupEvent =
  | { readonly type: "memberWaiting"; readonly job: string }
  | { readonly type: "memberFailed"; readonly job: string; readonly reason?: string }
  | { readonly type: "memberSettled"; readonly job: string }
  | { readonly type: "finalize" };

export type GroupEffect =
  /** `groupReady` to each, in this order. */
  | { readonly type: "pend"; readonly jobs: readonly string[] }
  /** `commit` to each: one transition over all their disks. */
  | { readonly type: "commit"; readonly jobs: readonly string[] }
  /** `peerFailed` to each. */
  | { readonly type: "cancel"; readonly jobs: readonly string[] }
  | { readonly type: "dissolve" };

function jobOf(event: GroupEvent): string | undefined {
  return "job" in event ? event.job : undefined;
}

/** The event names a member that is not in `list` yet. */
function isNew(context: GroupContext, event: GroupEvent, list: readonly string[]): boolean {
  const job = jobOf(event);
  return job !== undefined && context.members.some((member) => member.job === job) && !list.includes(job);
}

function isLast(context: GroupContext, event: GroupEvent, list: readonly string[]): boolean {
  return isNew(context, event, list) && list.length === context.members.length - 1;
}

function others(context: GroupContext, job: string | undefined): readonly string[] {
  return context.members.map((member) => member.job).filter((member) => member !== job);
}

const group = setup({
  types: { context: {} as GroupContext, events: {} as GroupEvent, input: {} as GroupInput },
  actions: { effects: (_scope, _effects: readonly GroupEffect[]) => {} },
  guards: {
    "last one, held by hand": ({ context, event }) =>
      isLast(context, event, context.waiting) && context.members.some((member) => member.manual),
    "last one waits": ({ context, event }) => isLast(context, event, context.waiting),
    "a member": ({ context, event }) => isNew(context, event, context.waiting),
    "any member": ({ context, event }) => isNew(context, event, []),
    "last one is settled": ({ context, event }) => isLast(context, event, context.settled),
    "not settled": ({ context, event }) => isNew(context, event, context.settled),
  },
});

type Action = ReturnType<typeof group.enqueueActions>;

function emits(effects: (context: GroupContext, event: GroupEvent) => readonly GroupEffect[]): Action {
  return group.enqueueActions(({ context, event, enqueue }) => {
    enqueue({ type: "effects", params: effects(context, event) });
  });
}

const names = (context: GroupContext): readonly string[] => context.members.map((member) => member.job);
const wait = group.assign({ waiting: ({ context, event }) => [...context.waiting, jobOf(event) ?? ""] });
const settle = group.assign({ settled: ({ context, event }) => [...context.settled, jobOf(event) ?? ""] });
const pend = emits((context) => [{ type: "pend", jobs: names(context).toReversed() }]);
const commit = emits((context) => [{ type: "commit", jobs: names(context) }]);
const cancelOthers = emits((context, event) => [{ type: "cancel", jobs: others(context, jobOf(event)) }]);
const dissolve = emits(() => [{ type: "dissolve" }]);

const machine = group.createMachine({
  id: "group",
  context: ({ input }) => {
    invariant(input.members.length > 0, "a group has a member");
    return { ...input, waiting: [], settled: [] };
  },
  initial: "running",
  states: {
    running: {
      on: {
        memberWaiting: [
          { guard: "last one, held by hand", target: "pending", actions: [wait, pend] },
          { guard: "last one waits", target: "committing", actions: [wait, pend, commit] },
          { guard: "a member", target: "running", actions: wait },
        ],
        memberFailed: { guard: "any member", target: "aborting", actions: cancelOthers },
      },
    },
    pending: {
      on: {
        finalize: { target: "committing", actions: commit },
        memberFailed: { guard: "any member", target: "aborting", actions: cancelOthers },
      },
    },
    committing: {
      on: {
        memberSettled: [
          { guard: "last one is settled", target: "done", actions: [settle, dissolve] },
          { guard: "not settled", target: "committing", actions: settle },
        ],
      },
    },
    aborting: {
      on: {
        memberSettled: [
          { guard: "last one is settled", target: "done", actions: [settle, dissolve] },
          { guard: "not settled", target: "aborting", actions: settle },
        ],
      },
    },
    done: { type: "final" },
  },
});

function explain(snapshot: MachineSnapshot<GroupContext>, event: GroupEvent, allowed: readonly string[]): Refusal {
  const { context, state } = snapshot;
  const job = jobOf(event);
  return refusal(
    "ERR_GROUP_STATE",
    `Group '${context.id}' in state '${state}' cannot accept '${event.type}'${job === undefined ? "" : ` of job '${job}'`}`,
    { group: context.id, state, event: event.type, allowed, ...(job === undefined ? {} : { job }) },
  );
}

export const groupMachine: Machine<GroupInput, GroupContext, GroupEvent, GroupEffect> = defineMachine(machine, explain);
