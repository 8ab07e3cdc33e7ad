/**
 * Why a bitmap refuses an event: QEMU's texts for a user's commands, and for an event out of place the state and what it
 * accepts. The machine decides whether; here is only why.
 */
import { refusal, type Refusal } from "../errors.ts";
import { refuseBitmapOperation, type BitmapOperation } from "../validation/bitmap-operation.ts";
import { sameCommand } from "./bitmap-behaviour.ts";
import type { BitmapContext, BitmapEvent } from "./bitmap-types.ts";
import type { MachineSnapshot } from "./machine.ts";

const busyStates: ReadonlySet<string> = new Set(["folding", "frozen", "exported", "removing"]);

/** Whether another operation is refused with "currently in use": `busy` of QEMU's queries. */
export function isBitmapBusy(snapshot: MachineSnapshot<BitmapContext>): boolean {
  return busyStates.has(snapshot.state);
}

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

export function explainBitmap(
  snapshot: MachineSnapshot<BitmapContext>,
  event: BitmapEvent,
  accepts: readonly string[],
): Refusal {
  const { state, context } = snapshot;
  const fields = { node: context.node, bitmap: context.name, state };
  if (state === "removed") {
    return refusal("ERR_BITMAP_NOT_FOUND", `Dirty bitmap '${context.name}' not found`, fields);
  }
  const operation = operationOf(event);
  if (operation !== undefined) {
    // The command that folds is not kept away by its own fold, but an export does not belong to any transaction.
    const own = state === "folding" && sameCommand(context, event) && event.type !== "take";
    const reason = refuseBitmapOperation(
      context.name,
      { busy: isBitmapBusy(snapshot) && !own, readonly: context.readonly, inconsistent: context.broken !== null },
      operation,
    );
    if (reason !== undefined) return { ...reason, fields };
  }
  return refusal(
    "ERR_BITMAP_STATE",
    `Bitmap '${context.name}' in state '${state}' cannot accept '${event.type}' (it accepts: ${accepts.join(", ")})`,
    { ...fields, event: event.type, allowed: accepts },
  );
}
