/**
 * What each event does to a bitmap, as pure functions of its context and the event: effects in order, and what changes.
 * Which state accepts the event, and where it leads, is `bitmap-machine.ts`.
 */
import { invariant } from "../errors.ts";
import type { BitmapContext, BitmapEffect, BitmapEvent, CommandId, FoldSource } from "./bitmap-types.ts";
import type { Behaviour } from "./machine.ts";

type EventType = BitmapEvent["type"];
type Behaviours = {
  readonly [Type in EventType]: (
    context: BitmapContext,
    event: Extract<BitmapEvent, { type: Type }>,
  ) => Behaviour<BitmapContext, BitmapEffect>;
};

function commandOf(event: BitmapEvent): CommandId | null {
  return "command" in event ? (event.command ?? null) : null;
}

/** The event belongs to the command that began the outstanding folds. */
export function sameCommand(context: BitmapContext, event: BitmapEvent): boolean {
  return context.foldCommand !== null && commandOf(event) === context.foldCommand;
}

function fold(from: FoldSource): BitmapEffect {
  return { type: "fold", from };
}

export const bitmapBehaviours: Behaviours = {
  enable: (context) => ({
    effects: context.recording ? [] : [{ type: "record", recording: true }],
    change: { recording: true },
  }),
  disable: (context) => ({
    effects: context.recording ? [{ type: "record", recording: false }] : [],
    change: { recording: false },
  }),
  clear: (context) => ({
    effects: [{ type: "swap-empty", voidedFolds: context.folds }],
    change: { folds: 0 },
  }),
  mergeTarget: (context, event) => ({
    effects: event.sources.map(({ node, name }) => fold({ kind: "bitmap", node, name })),
    change: { folds: context.folds + event.sources.length, foldCommand: commandOf(event) },
  }),
  mergeSource: (context, event) => ({
    effects: [{ type: "fresh-layer", into: event.into }, fold({ kind: "old-layer" })],
    change: { folds: context.folds + 1, foldCommand: commandOf(event) },
  }),
  freeze: (context, event) => ({
    effects: [
      { type: "freeze", user: event.user, successorRecording: context.recording, unsettled: context.folds > 0 },
    ],
    change: { user: event.user },
  }),
  abdicate: (context, event) => ({
    effects: event.uncopied === true ? [{ type: "abdicate" }, fold({ kind: "uncopied" })] : [{ type: "abdicate" }],
    change: {
      user: null,
      folds: context.folds + (event.uncopied === true ? 1 : 0),
      foldCommand: commandOf(event),
    },
  }),
  reclaim: (context, event) => ({
    effects: [{ type: "reclaim", recording: context.recording }, fold({ kind: "successor" })],
    change: { user: null, folds: context.folds + 1, foldCommand: commandOf(event) },
  }),
  folded: (context) => ({ change: { folds: context.folds - 1 } }),
  take: (_context, event) => ({ effects: [{ type: "hold", user: event.user }], change: { user: event.user } }),
  release: (context) => {
    invariant(context.user !== null, "an exported bitmap has a user");
    return { effects: [{ type: "unhold", user: context.user }], change: { user: null } };
  },
  removing: () => ({ effects: [{ type: "skip-store", skip: true }] }),
  keep: () => ({ effects: [{ type: "skip-store", skip: false }] }),
  remove: () => ({ effects: [{ type: "drop" }], change: { recording: false, user: null } }),
  /** It stops recording at once; while somebody has it or folds into it, it becomes inconsistent when that is over. */
  break: (context, event) => ({
    effects: context.recording ? [{ type: "record", recording: false }] : [],
    change: { broken: context.broken ?? event.reason, recording: false },
  }),
  setFlags: (context, event) => {
    const flags = {
      readonly: event.readonly ?? context.readonly,
      persistent: event.persistent ?? context.persistent,
    };
    return { effects: [{ type: "flags", ...flags }], change: flags };
  },
};
