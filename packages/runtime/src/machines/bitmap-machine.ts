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
import { invariant } from "../errors.ts";
import { bitmapBehaviours, sameCommand } from "./bitmap-behaviour.ts";
import { explainBitmap } from "./bitmap-refusal.ts";
import type { BitmapContext, BitmapEffect, BitmapEvent, BitmapInput } from "./bitmap-types.ts";
import { defineMachine, type Machine } from "./machine.ts";

function freezable(context: BitmapContext, event: BitmapEvent): boolean {
  return !context.readonly || (event.type === "freeze" && event.mode === "never");
}

const bitmap = setup({
  types: { context: {} as BitmapContext, events: {} as BitmapEvent, input: {} as BitmapInput },
  actions: { effects: (_scope, _effects: readonly BitmapEffect[]) => {} },
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

/** The behaviour of an event as an action. */
function does<Type extends BitmapEvent["type"]>(type: Type): Action {
  return bitmap.enqueueActions(({ context, event, enqueue }) => {
    invariant(event.type === type, `the behaviour of ${type} is for ${type} only`);
    const { effects, change } = bitmapBehaviours[type](context, event as Extract<BitmapEvent, { type: Type }>);
    if (effects !== undefined) enqueue({ type: "effects", params: effects });
    if (change !== undefined) enqueue.assign(change);
  });
}

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
    enable: { target: "recording", actions: does("enable") },
    disable: { target: "disabled", actions: does("disable") },
    clear: { guard: "writable", actions: does("clear") },
    mergeTarget: { guard: "writable", target: "folding", actions: does("mergeTarget") },
    mergeSource: { target: "folding", actions: does("mergeSource") },
    freeze: { guard: "writable or mode never", target: "frozen", actions: does("freeze") },
    take: { target: "exported", actions: does("take") },
    removing: { guard: "writable", target: "removing", actions: does("removing") },
    remove: { guard: "writable", target: "removed", actions: does("remove") },
    break: { target: "folding", actions: does("break") },
    setFlags: { actions: does("setFlags") },
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
        folded: { guard: "fold outstanding", target: "folding", actions: does("folded") },
        enable: { guard: "same command", target: "folding", actions: does("enable") },
        disable: { guard: "same command", target: "folding", actions: does("disable") },
        clear: { guard: "writable, same command", target: "folding", actions: does("clear") },
        mergeTarget: { guard: "writable, same command", target: "folding", actions: does("mergeTarget") },
        mergeSource: { guard: "same command", target: "folding", actions: does("mergeSource") },
        freeze: { guard: "writable or mode never, same command", target: "frozen", actions: does("freeze") },
        removing: { guard: "writable, same command", target: "removing", actions: does("removing") },
        remove: { guard: "writable, same command", target: "removed", actions: does("remove") },
        break: { target: "folding", actions: does("break") },
        setFlags: { actions: does("setFlags") },
      },
    },
    frozen: {
      on: {
        abdicate: [
          { guard: "became inconsistent", target: "folding", actions: giveUp },
          { target: "folding", actions: does("abdicate") },
        ],
        reclaim: [
          { guard: "became inconsistent", target: "folding", actions: giveUp },
          { target: "folding", actions: does("reclaim") },
        ],
        folded: { guard: "fold outstanding", target: "frozen", actions: does("folded") },
        break: { target: "frozen", actions: does("break") },
        setFlags: { actions: does("setFlags") },
      },
    },
    exported: {
      on: {
        release: { target: "folding", actions: does("release") },
        break: { target: "exported", actions: does("break") },
        setFlags: { actions: does("setFlags") },
      },
    },
    removing: {
      on: {
        remove: { target: "removed", actions: does("remove") },
        keep: { target: "folding", actions: does("keep") },
        folded: { guard: "fold outstanding", target: "removing", actions: does("folded") },
        break: { target: "removing", actions: does("break") },
        setFlags: { actions: does("setFlags") },
      },
    },
    inconsistent: {
      on: {
        removing: { guard: "writable", target: "removing", actions: does("removing") },
        remove: { guard: "writable", target: "removed", actions: does("remove") },
        break: { target: "inconsistent" },
        setFlags: { actions: does("setFlags") },
      },
    },
    removed: { type: "final" },
  },
});

/** The bitmap machine. Its events and effects are in `bitmap-types.ts`. */
export const bitmapMachine: Machine<BitmapInput, BitmapContext, BitmapEvent, BitmapEffect> = defineMachine(
  machine,
  explainBitmap,
);
