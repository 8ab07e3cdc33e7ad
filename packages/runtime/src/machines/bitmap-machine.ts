/**
 * One named dirty bitmap: what may be done to it, and what that means for its bits (DESIGN 3.1, 3.5, 4; reference 1).
 *
 *   state         busy  user commands                              life cycle
 *   recording     no    all                                        break
 *   disabled      no    all                                        break
 *   folding       yes   only those of the command that folds       folded, break
 *   frozen        yes   none (guests mark the successor)           abdicate, reclaim, folded, break
 *   exported      yes   none (goes on recording)                   release, break
 *   removing      yes   none (its transaction is not over)         remove, keep, folded, break
 *   inconsistent  no    remove, removing                           break (the first reason stays)
 *   removed       -     none
 *
 * Orthogonal flags: readonly, persistent. `folding` is also the door through which a bitmap comes back to an idle
 * state: with no fold outstanding it is left at once, to inconsistent, recording or disabled.
 * Invariant: `context.folds` is the number of `fold` effects not yet answered by `folded` nor voided by `swap-empty`.
 */
import { setup } from "xstate";
import { invariant, refusal, type Refusal } from "../errors.ts";
import { refuseBitmapOperation, type BitmapOperation } from "../validation/bitmap-operation.ts";
import type {
  BitmapContext,
  BitmapEffect,
  BitmapEvent,
  BitmapInput,
  BitmapUser,
  CommandId,
  FoldSource,
} from "./bitmap-types.ts";
import { defineMachine, type Behaviour, type Machine, type MachineSnapshot } from "./machine.ts";

type EventOf<Type extends BitmapEvent["type"]> = Extract<BitmapEvent, { type: Type }>;
type Does = Behaviour<BitmapContext, BitmapEffect>;

const busyStates: ReadonlySet<string> = new Set(["folding", "frozen", "exported", "removing"]);

function commandOf(event: BitmapEvent): CommandId | null {
  return "command" in event ? (event.command ?? null) : null;
}

/** The event belongs to the command that began the outstanding folds. */
function sameCommand(context: BitmapContext, event: BitmapEvent): boolean {
  return context.foldCommand !== null && commandOf(event) === context.foldCommand;
}

function freezable(context: BitmapContext, event: BitmapEvent): boolean {
  return !context.readonly || (event.type === "freeze" && event.mode === "never");
}

const bitmap = setup({
  types: { context: {} as BitmapContext, events: {} as BitmapEvent, input: {} as BitmapInput },
  actions: { effects: (_, _effects: readonly BitmapEffect[]) => {} },
  guards: {
    broken: ({ context }) => context.broken !== null && context.folds === 0,
    records: ({ context }) => context.recording && context.folds === 0,
    "does not record": ({ context }) => !context.recording && context.folds === 0,
    "became inconsistent": ({ context }) => context.broken !== null,
    "fold outstanding": ({ context }) => context.folds > 0,
    writable: ({ context }) => !context.readonly,
    "writable or mode never": ({ context, event }) => freezable(context, event),
    "same command": ({ context, event }) => sameCommand(context, event),
    "writable, same command": ({ context, event }) => !context.readonly && sameCommand(context, event),
    "writable or mode never, same command": ({ context, event }) =>
      freezable(context, event) && sameCommand(context, event),
  },
});

type Action = ReturnType<typeof bitmap.enqueueActions>;

/** An action from a pure function of context and event. */
function does<Type extends BitmapEvent["type"]>(
  type: Type,
  behaviour: (context: BitmapContext, event: EventOf<Type>) => Does,
): Action {
  return bitmap.enqueueActions(({ context, event, enqueue }) => {
    invariant(event.type === type, `the action of ${type} runs for ${type} only`);
    const { effects, change } = behaviour(context, event as EventOf<Type>);
    if (effects !== undefined) enqueue({ type: "effects", params: effects });
    if (change !== undefined) enqueue.assign(change);
  });
}

function fold(from: FoldSource): BitmapEffect {
  return { type: "fold", from };
}

function takenBy(context: BitmapContext): BitmapUser {
  invariant(context.user !== null, "a frozen or exported bitmap has a user");
  return context.user;
}

const enable = does("enable", (context) => ({
  effects: context.recording ? [] : [{ type: "record", recording: true }],
  change: { recording: true },
}));
const disable = does("disable", (context) => ({
  effects: context.recording ? [{ type: "record", recording: false }] : [],
  change: { recording: false },
}));
const clear = does("clear", (context) => ({
  effects: [{ type: "swap-empty", voidedFolds: context.folds }],
  change: { folds: 0 },
}));
const mergeTarget = does("mergeTarget", (context, event) => ({
  effects: event.sources.map((source) => fold({ kind: "bitmap", node: source.node, name: source.name })),
  change: { folds: context.folds + event.sources.length, foldCommand: commandOf(event) },
}));
const mergeSource = does("mergeSource", (context, event) => ({
  effects: [{ type: "fresh-layer", into: event.into }, fold({ kind: "old-layer" })],
  change: { folds: context.folds + 1, foldCommand: commandOf(event) },
}));
const freeze = does("freeze", (context, event) => ({
  effects: [
    { type: "freeze", user: event.user, successorRecording: context.recording, unsettled: context.folds > 0 },
  ],
  change: { user: event.user },
}));
const abdicate = does("abdicate", (context, event) => ({
  effects: event.uncopied === true ? [{ type: "abdicate" }, fold({ kind: "uncopied" })] : [{ type: "abdicate" }],
  change: {
    user: null,
    folds: context.folds + (event.uncopied === true ? 1 : 0),
    foldCommand: commandOf(event),
  },
}));
const reclaim = does("reclaim", (context, event) => ({
  effects: [{ type: "reclaim", recording: context.recording }, fold({ kind: "successor" })],
  change: { user: null, folds: context.folds + 1, foldCommand: commandOf(event) },
}));
const folded = does("folded", (context) => ({ change: { folds: context.folds - 1 } }));
const take = does("take", (_context, event) => ({
  effects: [{ type: "hold", user: event.user }],
  change: { user: event.user },
}));
const release = does("release", (context) => ({
  effects: [{ type: "unhold", user: takenBy(context) }],
  change: { user: null },
}));
const removing = does("removing", () => ({ effects: [{ type: "skip-store", skip: true }] }));
const keep = does("keep", () => ({ effects: [{ type: "skip-store", skip: false }] }));
const remove = does("remove", () => ({ effects: [{ type: "drop" }], change: { recording: false, user: null } }));
const breakNow = does("break", (context, event) => ({ change: { broken: context.broken ?? event.reason } }));
/** Somebody has it: it stops recording at once and becomes inconsistent when it is given back. */
const breakLater = does("break", (context, event) => ({
  effects: context.recording ? [{ type: "record", recording: false }] : [],
  change: { broken: context.broken ?? event.reason, recording: false },
}));
const setFlags = does("setFlags", (context, event) => {
  const flags = {
    readonly: event.readonly ?? context.readonly,
    persistent: event.persistent ?? context.persistent,
  };
  return { effects: [{ type: "flags", ...flags }], change: flags };
});
/** A broken bitmap is given back: neither heir nor parent says anything, so nothing is folded. */
const giveUp = bitmap.assign({ user: null });

const becomeInconsistent = bitmap.enqueueActions(({ context, enqueue }) => {
  invariant(context.broken !== null, "an inconsistent bitmap has a reason");
  enqueue({ type: "effects", params: [{ type: "discard-bits", reason: context.broken }] });
  enqueue.assign({ recording: false, foldCommand: null });
});
const settle = bitmap.assign({ foldCommand: null });

/** What a bitmap that nobody has accepts. */
const idle = bitmap.createStateConfig({
  on: {
    enable: { target: "recording", actions: enable },
    disable: { target: "disabled", actions: disable },
    clear: { guard: "writable", actions: clear },
    mergeTarget: { guard: "writable", target: "folding", actions: mergeTarget },
    mergeSource: { target: "folding", actions: mergeSource },
    freeze: { guard: "writable or mode never", target: "frozen", actions: freeze },
    take: { target: "exported", actions: take },
    removing: { guard: "writable", target: "removing", actions: removing },
    remove: { guard: "writable", target: "removed", actions: remove },
    break: { target: "folding", actions: breakNow },
    setFlags: { actions: setFlags },
  },
});

const machine = bitmap.createMachine({
  id: "bitmap",
  context: ({ input }) => ({
    node: input.node,
    name: input.name,
    recording: input.recording && input.inconsistent === undefined,
    readonly: input.readonly ?? false,
    persistent: input.persistent ?? false,
    user: null,
    folds: 0,
    foldCommand: null,
    broken: input.inconsistent ?? null,
  }),
  initial: "folding",
  states: {
    recording: idle,
    disabled: idle,
    folding: {
      always: [
        { guard: "broken", target: "inconsistent", actions: becomeInconsistent },
        { guard: "records", target: "recording", actions: settle },
        { guard: "does not record", target: "disabled", actions: settle },
      ],
      on: {
        folded: { guard: "fold outstanding", target: "folding", actions: folded },
        enable: { guard: "same command", target: "folding", actions: enable },
        disable: { guard: "same command", target: "folding", actions: disable },
        clear: { guard: "writable, same command", target: "folding", actions: clear },
        mergeTarget: { guard: "writable, same command", target: "folding", actions: mergeTarget },
        mergeSource: { guard: "same command", target: "folding", actions: mergeSource },
        freeze: { guard: "writable or mode never, same command", target: "frozen", actions: freeze },
        removing: { guard: "writable, same command", target: "removing", actions: removing },
        remove: { guard: "writable, same command", target: "removed", actions: remove },
        break: { target: "folding", actions: breakLater },
        setFlags: { actions: setFlags },
      },
    },
    frozen: {
      on: {
        abdicate: [
          { guard: "became inconsistent", target: "folding", actions: giveUp },
          { target: "folding", actions: abdicate },
        ],
        reclaim: [
          { guard: "became inconsistent", target: "folding", actions: giveUp },
          { target: "folding", actions: reclaim },
        ],
        folded: { guard: "fold outstanding", target: "frozen", actions: folded },
        break: { target: "frozen", actions: breakLater },
        setFlags: { actions: setFlags },
      },
    },
    exported: {
      on: {
        release: { target: "folding", actions: release },
        break: { target: "exported", actions: breakLater },
        setFlags: { actions: setFlags },
      },
    },
    removing: {
      on: {
        remove: { target: "removed", actions: remove },
        keep: { target: "folding", actions: keep },
        folded: { guard: "fold outstanding", target: "removing", actions: folded },
        break: { target: "removing", actions: breakLater },
        setFlags: { actions: setFlags },
      },
    },
    inconsistent: {
      on: {
        removing: { guard: "writable", target: "removing", actions: removing },
        remove: { guard: "writable", target: "removed", actions: remove },
        break: { target: "inconsistent" },
        setFlags: { actions: setFlags },
      },
    },
    removed: { type: "final" },
  },
});

const operations: Readonly<Partial<Record<BitmapEvent["type"], BitmapOperation>>> = {
  enable: "enable",
  disable: "disable",
  clear: "clear",
  mergeTarget: "merge-target",
  mergeSource: "merge-source",
  take: "export",
  removing: "remove",
  remove: "remove",
};

function operationOf(event: BitmapEvent): BitmapOperation | undefined {
  if (event.type === "freeze") return event.mode === "never" ? "backup-never" : "backup";
  return operations[event.type];
}

function explain(snapshot: MachineSnapshot<BitmapContext>, event: BitmapEvent): Refusal {
  const { state, context } = snapshot;
  const fields = { node: context.node, bitmap: context.name, state };
  if (state === "removed") {
    return refusal("ERR_BITMAP_NOT_FOUND", `Dirty bitmap '${context.name}' not found`, fields);
  }
  const operation = operationOf(event);
  if (operation !== undefined) {
    // The command that folds is not kept away by its own fold, but an export does not belong to any transaction.
    const own = state === "folding" && sameCommand(context, event) && event.type !== "take";
    const condition = {
      busy: busyStates.has(state) && !own,
      readonly: context.readonly,
      inconsistent: context.broken !== null,
    };
    const reason = refuseBitmapOperation(context.name, condition, operation);
    if (reason !== undefined) return { ...reason, fields: { ...reason.fields, ...fields } };
  }
  const allowed = bitmapMachine.allowed(state).filter((type) => type !== event.type);
  return refusal(
    "ERR_BITMAP_STATE",
    `Bitmap '${context.name}' in state '${state}' cannot accept '${event.type}' (it accepts: ${allowed.join(", ")})`,
    { ...fields, event: event.type, allowed },
  );
}

/** The bitmap machine. Its events and effects are in `bitmap-types.ts`. */
export const bitmapMachine: Machine<BitmapInput, BitmapContext, BitmapEvent, BitmapEffect> = defineMachine(
  machine,
  explain,
);

/** Whether another operation is refused with "currently in use": `busy` of QEMU's queries. */
export function isBitmapBusy(snapshot: MachineSnapshot<BitmapContext>): boolean {
  return busyStates.has(snapshot.state);
}
