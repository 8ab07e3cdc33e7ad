/**
 * The kinds of actions that a transaction may have, and which of them may be in a grouped one (reference 4).
 */
import { refusal, type Refusal } from "../errors.ts";

export type CompletionMode = "individual" | "grouped";

export type TransactionActionKind =
  | "abort"
  | "block-dirty-bitmap-add"
  | "block-dirty-bitmap-remove"
  | "block-dirty-bitmap-clear"
  | "block-dirty-bitmap-enable"
  | "block-dirty-bitmap-disable"
  | "block-dirty-bitmap-merge"
  | "blockdev-backup";

/** Whether the action works with completion-mode grouped. */
const groupable: Readonly<Record<TransactionActionKind, boolean>> = {
  abort: true,
  "block-dirty-bitmap-add": false,
  "block-dirty-bitmap-remove": false,
  "block-dirty-bitmap-clear": false,
  "block-dirty-bitmap-enable": false,
  "block-dirty-bitmap-disable": false,
  "block-dirty-bitmap-merge": false,
  "blockdev-backup": true,
};

export const transactionActions: readonly TransactionActionKind[] = Object.keys(groupable) as TransactionActionKind[];

/** The first thing that preparing an action checks: what its kind alone forbids. */
export function refuseAction(kind: TransactionActionKind, mode: CompletionMode): Refusal | undefined {
  if (kind === "abort") {
    return refusal("ERR_TRANSACTION_ABORTED", "Transaction aborted using Abort action", { action: kind });
  }
  if (mode === "grouped" && !groupable[kind]) {
    return refusal(
      "ERR_TRANSACTION_COMPLETION_MODE",
      `Action '${kind}' does not support Transaction property completion-mode = grouped`,
      { action: kind },
    );
  }
  return undefined;
}
