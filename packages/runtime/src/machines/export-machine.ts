/**
 * One export of a disk or of a point in time: from the freeze of its bitmaps' lives to the last thread that lets go.
 *
 *   serving   connected, disconnected, remove (refused while clients are there, unless it is forced)
 *   removing  connected, disconnected, letGo: no thread uses what it showed
 *   removed   -
 */
import { setup } from "xstate";
import { refusal, type Refusal } from "../errors.ts";
import { defineMachine, type Machine, type MachineSnapshot } from "./machine.ts";

export interface ExportInput {
  readonly id: string;
  /** What is exported: the disk's or the view's name. */
  readonly of: string;
  readonly bitmaps: readonly string[];
}

export interface ExportContext extends ExportInput {
  readonly clients: number;
}

export type ExportEvent =
  | { readonly type: "connected"; readonly peer: string }
  | { readonly type: "disconnected"; readonly peer: string; readonly reason: string }
  /** `safe`: only without clients; `soft`: they are answered what is in flight; `hard`: they are cut off. */
  | { readonly type: "remove"; readonly mode: "safe" | "soft" | "hard" }
  | { readonly type: "letGo" };

export type ExportEffect =
  /** Clients end, threads let go; `letGo` answers. */
  | { readonly type: "end"; readonly hard: boolean }
  /** The bitmaps are free again. */
  | { readonly type: "release"; readonly bitmaps: readonly string[] };

const exported = setup({
  types: { context: {} as ExportContext, events: {} as ExportEvent, input: {} as ExportInput },
  actions: { effects: (_scope, _effects: readonly ExportEffect[]) => {} },
  guards: {
    "may go": ({ context, event }) => event.type === "remove" && (event.mode !== "safe" || context.clients === 0),
    "a client": ({ context }) => context.clients > 0,
  },
});

const count = exported.assign({ clients: ({ context }) => context.clients + 1 });
const discount = exported.assign({ clients: ({ context }) => context.clients - 1 });
const end = exported.enqueueActions(({ event, enqueue }) => {
  const hard = event.type === "remove" && event.mode !== "soft";
  enqueue({ type: "effects", params: [{ type: "end", hard }] });
});
const release = exported.enqueueActions(({ context, enqueue }) => {
  enqueue({ type: "effects", params: [{ type: "release", bitmaps: context.bitmaps }] });
});

const machine = exported.createMachine({
  id: "export",
  context: ({ input }) => ({ ...input, clients: 0 }),
  initial: "serving",
  states: {
    serving: {
      on: {
        connected: { actions: count },
        disconnected: { guard: "a client", actions: discount },
        remove: { guard: "may go", target: "removing", actions: end },
      },
    },
    removing: {
      on: {
        connected: { actions: count },
        disconnected: { guard: "a client", actions: discount },
        letGo: { target: "removed", actions: release },
      },
    },
    removed: { type: "final" },
  },
});

function explain(snapshot: MachineSnapshot<ExportContext>, event: ExportEvent): Refusal {
  const { context, state } = snapshot;
  const fields = { export: context.id, state, event: event.type };
  if (event.type === "remove" && state === "serving") {
    return refusal("ERR_EXPORT_IN_USE", `export '${context.id}' still in use`, { ...fields, clients: context.clients });
  }
  return refusal("ERR_EXPORT_STATE", `Export '${context.id}' in state '${state}' cannot accept '${event.type}'`, {
    ...fields,
    allowed: exportMachine.allowed(state).filter((type) => type !== event.type),
  });
}

export const exportMachine: Machine<ExportInput, ExportContext, ExportEvent, ExportEffect> = defineMachine(
  machine,
  explain,
);
