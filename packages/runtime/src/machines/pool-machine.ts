/**
 * The engine's threads as the coordinator sees them. Starting and ending idle ones is the pool's own; here is what they are
 * for, and which of them died.
 *
 *   idle     no long task; taskStarted, close
 *   serving  some run; taskStarted, taskEnded, threadDied, close
 *   closing  all are told to end; taskEnded, threadDied, closed
 *   closed   -
 *
 * A death is told once the thread's `exit` event has come, its slots are vacated and the views of what it served are broken.
 */
import { setup } from "xstate";
import { refusal, type Refusal } from "../errors.ts";
import { defineMachine, type Machine, type MachineSnapshot } from "./machine.ts";

export interface PoolContext {
  /** Long tasks that run: movers of jobs, servers of the main thread's I/O. */
  readonly tasks: number;
  readonly deaths: number;
  readonly lastDeath: string | null;
}

export type PoolEvent =
  | { readonly type: "taskStarted" }
  | { readonly type: "taskEnded" }
  | { readonly type: "threadDied"; readonly reason: string }
  | { readonly type: "close" }
  | { readonly type: "closed" };

export type PoolEffect = { readonly type: "tell-death"; readonly reason: string; readonly deaths: number };

const pool = setup({
  types: { context: {} as PoolContext, events: {} as PoolEvent },
  actions: { effects: (_, _effects: readonly PoolEffect[]) => {} },
  guards: { "last task": ({ context }) => context.tasks === 1 },
});

const count = pool.assign({ tasks: ({ context }) => context.tasks + 1 });
const discount = pool.assign({ tasks: ({ context }) => context.tasks - 1 });
const bury = pool.enqueueActions(({ context, event, enqueue }) => {
  const reason = event.type === "threadDied" ? event.reason : "";
  const deaths = context.deaths + 1;
  enqueue({ type: "effects", params: [{ type: "tell-death", reason, deaths }] });
  enqueue.assign({ tasks: context.tasks - 1, deaths, lastDeath: reason });
});

const machine = pool.createMachine({
  id: "pool",
  context: { tasks: 0, deaths: 0, lastDeath: null },
  initial: "idle",
  states: {
    idle: { on: { taskStarted: { target: "serving", actions: count }, close: "closing" } },
    serving: {
      on: {
        taskStarted: { actions: count },
        taskEnded: [{ guard: "last task", target: "idle", actions: discount }, { actions: discount }],
        threadDied: [{ guard: "last task", target: "idle", actions: bury }, { actions: bury }],
        close: "closing",
      },
    },
    closing: { on: { taskEnded: { actions: discount }, threadDied: { actions: bury }, closed: "closed" } },
    closed: { type: "final" },
  },
});

function explain(snapshot: MachineSnapshot<PoolContext>, event: PoolEvent): Refusal {
  const { state } = snapshot;
  return refusal("ERR_POOL_STATE", `The pool in state '${state}' cannot accept '${event.type}'`, {
    state,
    event: event.type,
    allowed: poolMachine.allowed(state).filter((type) => type !== event.type),
  });
}

export const poolMachine: Machine<undefined, PoolContext, PoolEvent, PoolEffect> = defineMachine(machine, explain);
