/**
 * Which operation a bitmap's condition allows: the table of reference semantics 1.2, once, for the bitmap machine and
 * for requests that are checked before a machine is asked.
 *
 * Several conditions may forbid at once; QEMU names the first of busy, readonly, inconsistent, and so do we.
 */
import { refusal, type Refusal } from "../errors.ts";

export type BitmapOperation =
  | "remove"
  | "clear"
  | "enable"
  | "disable"
  | "merge-target"
  | "merge-source"
  | "backup"
  /** A backup with bitmap-mode `never`: the bitmap is only read, so a readonly one will do. */
  | "backup-never"
  | "export";

export interface BitmapCondition {
  /** A job, a view, an export, a fold or a pending removal has it. */
  readonly busy: boolean;
  readonly readonly: boolean;
  readonly inconsistent: boolean;
}

/** What each operation refuses, beside a busy bitmap, which all do. */
const refuses: Readonly<Record<BitmapOperation, { readonly readonly: boolean; readonly inconsistent: boolean }>> = {
  remove: { readonly: true, inconsistent: false },
  clear: { readonly: true, inconsistent: true },
  enable: { readonly: false, inconsistent: true },
  disable: { readonly: false, inconsistent: true },
  "merge-target": { readonly: true, inconsistent: true },
  "merge-source": { readonly: false, inconsistent: true },
  backup: { readonly: true, inconsistent: true },
  "backup-never": { readonly: false, inconsistent: true },
  export: { readonly: false, inconsistent: true },
};

export const bitmapOperations: readonly BitmapOperation[] = Object.keys(refuses) as BitmapOperation[];

export function bitmapBusy(name: string): Refusal {
  return refusal("ERR_BITMAP_BUSY", `Bitmap '${name}' is currently in use by another operation and cannot be used`, {
    bitmap: name,
  });
}

export function bitmapReadonly(name: string): Refusal {
  return refusal("ERR_BITMAP_READONLY", `Bitmap '${name}' is readonly and cannot be modified`, { bitmap: name });
}

export function bitmapInconsistent(name: string): Refusal {
  return refusal("ERR_BITMAP_INCONSISTENT", `Bitmap '${name}' is inconsistent and cannot be used`, { bitmap: name });
}

/** Why `operation` is refused, or `undefined` where it is allowed. */
export function refuseBitmapOperation(
  name: string,
  condition: BitmapCondition,
  operation: BitmapOperation,
): Refusal | undefined {
  if (condition.busy) return bitmapBusy(name);
  if (condition.readonly && refuses[operation].readonly) return bitmapReadonly(name);
  if (condition.inconsistent && refuses[operation].inconsistent) return bitmapInconsistent(name);
  return undefined;
}
