/**
 * The engine's threads as the coordinator sees them.
 *
 *   starting  fewer serve than are wanted, and the others are on their way
 *   serving   as many as are wanted serve
 *   degraded  fewer serve than are wanted since one died or could not start
 *   closing   threads are told to stop and leave one by one
 *   closed    -
 *
 * A thread that died while it served is replaced once its slots are released. One that dies before it served is not: it
 * would die again, and for ever; `grow` (there is new work) tries anew.
 */
import { setup } from "xstate";
import { refusal, type Refusal } from "../errors.ts";
import { defineMachine, type Machine, type MachineSnapshot } from "./machine.ts";

export interface PoolInput {
  /** Threads to begin with; 0 waits for work. */
  readonly threads: number;
}

export interface PoolContext {
  readonly wanted: number;
  /** Asked for and not heard of. */
  readonly starting: number;
  readonly serving: readonly number[];
  readonly deaths: number;
  readonly lastDeath: string | null;
}

export type PoolEvent =
  /** There is work for this many threads. */
  | { readonly type: "grow"; readonly threads: number }
  | { readonly type: "threadReady"; readonly thread: number }
  | { readonly type: "threadFailed"; readonly reason: string }
  /** Its `exit` event came. */
  | { readonly type: "threadExited"; readonly thread: number; readonly reason: string }
  | { readonly type: "close" };

export type PoolEffect =
  | { readonly type: "start-threads"; readonly count: number }
  /** Give its slots, locks and budgets back, break the views of the disks that it served (DESIGN 3.7). */
  | { readonly type: "release-thread"; readonly thread: number; readonly reason: string }
  | { readonly type: "stop-thread"; readonly thread: number }
  | { readonly type: "closed" };

const remaining = (context: PoolContext): number => context.serving.length + context.starting;

const pool = setup({
  types: { context: {} as PoolContext, events: {} as PoolEvent, input: {} as PoolInput },
  actions: { effects: (_scope, _effects: readonly PoolEffect[]) => {} },
  guards: {
    "a number of threads": ({ event }) => event.type === "grow" && Number.isSafeInteger(event.threads) && event.threads > 0,
    "one is awaited": ({ context, event }) =>
      context.starting > 0 && !(event.type === "threadReady" && context.serving.includes(event.thread)),
    serves: ({ context, event }) => event.type === "threadExited" && context.serving.includes(event.thread),
    "as many as wanted": ({ context }) => context.serving.length >= context.wanted,
    "some lack": ({ context }) => context.serving.length < context.wanted,
    "none is left": ({ context }) => remaining(context) === 0,
  },
});

type Action = ReturnType<typeof pool.enqueueActions>;

function does(
  behaviour: (context: PoolContext, event: PoolEvent) => {
    readonly effects?: readonly PoolEffect[];
    readonly change?: Partial<PoolContext>;
  },
): Action {
  return pool.enqueueActions(({ context, event, enqueue }) => {
    const { effects, change } = behaviour(context, event);
    if (effects !== undefined) enqueue({ type: "effects", params: effects });
    if (change !== undefined) enqueue.assign(change);
  });
}

const startFirst = does((context) =>
  context.starting === 0 ? {} : { effects: [{ type: "start-threads", count: context.starting }] },
);
const grow = does((context, event) => {
  const wanted = event.type === "grow" ? Math.max(context.wanted, event.threads) : context.wanted;
  const count = wanted - remaining(context);
  return count > 0
    ? { effects: [{ type: "start-threads", count }], change: { wanted, starting: context.starting + count } }
    : { change: { wanted } };
});
const join = does((context, event) =>
  event.type === "threadReady"
    ? { change: { serving: [...context.serving, event.thread], starting: context.starting - 1 } }
    : {},
);
const giveUpStart = does((context, event) => ({
  change: {
    starting: context.starting - 1,
    deaths: context.deaths + 1,
    lastDeath: event.type === "threadFailed" ? event.reason : context.lastDeath,
  },
}));
const leave = (replace: boolean): Action =>
  does((context, event) => {
    if (event.type !== "threadExited") return {};
    const { thread, reason } = event;
    const release = { type: "release-thread", thread, reason } as const;
    const serving = context.serving.filter((other) => other !== thread);
    return replace
      ? {
          effects: [release, { type: "start-threads", count: 1 }],
          change: { serving, starting: context.starting + 1, deaths: context.deaths + 1, lastDeath: reason },
        }
      : { effects: [release], change: { serving } };
  });
const stopAll = does((context) => ({ effects: context.serving.map((thread) => ({ type: "stop-thread", thread })) }));
const joinAndStop = does((context, event) =>
  event.type === "threadReady"
    ? {
        effects: [{ type: "stop-thread", thread: event.thread }],
        change: { serving: [...context.serving, event.thread], starting: context.starting - 1 },
      }
    : {},
);
const closed = does(() => ({ effects: [{ type: "closed" }] }));

/** What an open pool accepts; `always` of each state sorts out whether enough serve now. */
const open = {
  grow: { guard: "a number of threads", actions: grow },
  threadReady: { guard: "one is awaited", actions: join },
  threadFailed: { guard: "one is awaited", target: "degraded", actions: giveUpStart },
  threadExited: { guard: "serves", target: "degraded", actions: leave(true) },
  close: { target: "closing", actions: stopAll },
} as const;

const machine = pool.createMachine({
  id: "pool",
  context: ({ input }) => ({
    wanted: input.threads,
    starting: input.threads,
    serving: [],
    deaths: 0,
    lastDeath: null,
  }),
  entry: startFirst,
  initial: "starting",
  states: {
    starting: { always: { guard: "as many as wanted", target: "serving" }, on: open },
    serving: { always: { guard: "some lack", target: "starting" }, on: open },
    degraded: { always: { guard: "as many as wanted", target: "serving" }, on: open },
    closing: {
      always: { guard: "none is left", target: "closed", actions: closed },
      on: {
        threadReady: { guard: "one is awaited", actions: joinAndStop },
        threadFailed: { guard: "one is awaited", actions: giveUpStart },
        threadExited: { guard: "serves", actions: leave(false) },
      },
    },
    closed: { type: "final" },
  },
});

function explain(
  snapshot: MachineSnapshot<PoolContext>,
  event: PoolEvent,
  allowed: readonly string[],
): Refusal {
  const { state } = snapshot;
  return refusal("ERR_POOL_STATE", `The pool in state '${state}' cannot accept '${event.type}'`, {
    state,
    event: event.type,
    allowed,
  });
}

export const poolMachine: Machine<PoolInput, PoolContext, PoolEvent, PoolEffect> = defineMachine(machine, explain);
