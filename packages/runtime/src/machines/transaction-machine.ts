/**
 * One transaction: prepare in order, then commit all in order, or abort the prepared ones in reverse (reference 4).
 *
 *   preparing  prepared (the next action could be planned), refused (it could not)
 *   ready      all are planned: carriedOut (the engine's one call succeeded), refused (its deadline, a held gate)
 *   committed  -
 *   aborted    -
 *
 * An action that was refused is not aborted itself: only those before it were prepared. An empty transaction is ready at
 * once. Plans are pure, so aborting a bitmap's action is dropping its plan; what an action did outside (files that it
 * opened, memory that it allocated) is what `abort` is for.
 */
import { setup } from "xstate";
import { refusal, type Refusal } from "../errors.ts";
import { defineMachine, type Machine, type MachineSnapshot } from "./machine.ts";
import type { CompletionMode, TransactionActionKind } from "./transaction-action.ts";

export interface TransactionInput {
  readonly id: number;
  readonly actions: readonly TransactionActionKind[];
  readonly completionMode?: CompletionMode;
}

export interface TransactionContext {
  readonly id: number;
  readonly actions: readonly TransactionActionKind[];
  readonly completionMode: CompletionMode;
  /** Actions prepared so far: 0 to `prepared - 1`. */
  readonly prepared: number;
  readonly refusal: Refusal | null;
}

export type TransactionEvent =
  | { readonly type: "prepared" }
  | { readonly type: "refused"; readonly refusal: Refusal }
  | { readonly type: "carriedOut" };

/** `index` counts actions from 0. */
export type TransactionEffect =
  | { readonly type: "prepare"; readonly index: number }
  /** All is planned: the engine's one call. */
  | { readonly type: "carry-out" }
  | { readonly type: "commit"; readonly index: number }
  | { readonly type: "abort"; readonly index: number }
  | { readonly type: "reply"; readonly refusal: Refusal | null };

const transaction = setup({
  types: { context: {} as TransactionContext, events: {} as TransactionEvent, input: {} as TransactionInput },
  actions: { effects: (_scope, _effects: readonly TransactionEffect[]) => {} },
  guards: { "all prepared": ({ context }) => context.prepared === context.actions.length },
});

type Action = ReturnType<typeof transaction.enqueueActions>;

function emits(effects: (context: TransactionContext) => readonly TransactionEffect[]): Action {
  return transaction.enqueueActions(({ context, enqueue }) => {
    enqueue({ type: "effects", params: effects(context) });
  });
}

const indexes = (context: TransactionContext): readonly number[] =>
  Array.from({ length: context.prepared }, (_, i) => i);
const prepareNext = emits((context) => [{ type: "prepare", index: context.prepared }]);
const carryOut = emits(() => [{ type: "carry-out" }]);
const commitAll = emits((context) => [
  ...indexes(context).map((index) => ({ type: "commit", index }) as const),
  { type: "reply", refusal: null },
]);
const abortPrepared = emits((context) => [
  ...indexes(context)
    .toReversed()
    .map((index) => ({ type: "abort", index }) as const),
  { type: "reply", refusal: context.refusal },
]);
const count = transaction.assign({ prepared: ({ context }) => context.prepared + 1 });
const keepRefusal = transaction.assign({
  refusal: ({ event }) => (event.type === "refused" ? event.refusal : null),
});

const machine = transaction.createMachine({
  id: "transaction",
  context: ({ input }) => ({
    id: input.id,
    actions: input.actions,
    completionMode: input.completionMode ?? "individual",
    prepared: 0,
    refusal: null,
  }),
  initial: "preparing",
  states: {
    preparing: {
      // Entered again for each action: it asks for the next one, or is left at once when there is none.
      always: { guard: "all prepared", target: "ready" },
      entry: transaction.enqueueActions(({ context, enqueue }) => {
        if (context.prepared < context.actions.length) enqueue(prepareNext);
      }),
      on: {
        prepared: { target: "preparing", reenter: true, actions: count },
        refused: { target: "aborted", actions: [keepRefusal, abortPrepared] },
      },
    },
    ready: {
      entry: carryOut,
      on: {
        carriedOut: { target: "committed", actions: commitAll },
        refused: { target: "aborted", actions: [keepRefusal, abortPrepared] },
      },
    },
    committed: { type: "final" },
    aborted: { type: "final" },
  },
});

function explain(
  snapshot: MachineSnapshot<TransactionContext>,
  event: TransactionEvent,
  allowed: readonly string[],
): Refusal {
  const { context, state } = snapshot;
  return refusal(
    "ERR_TRANSACTION_STATE",
    `Transaction ${context.id} in state '${state}' cannot accept '${event.type}'`,
    {
      transaction: context.id,
      state,
      event: event.type,
      allowed,
    },
  );
}

export const transactionMachine: Machine<TransactionInput, TransactionContext, TransactionEvent, TransactionEffect> =
  defineMachine(machine, explain);
