/**
 * What the control plane refuses or fails with.
 *
 * A refusal is data first: pure code (machines, validation) returns a `Refusal`, and whoever was asked for the
 * operation throws it as a `RefusalError`, so that the message starts with the operation. `desc` is kept apart because
 * QMP clients compare it with QEMU's text; `code` is what a program should look at, and never changes its meaning.
 */

/** Every reason for which something is refused; a program may switch over it. */
export type RefusalCode =
  | "ERR_INVALID_ARGUMENT"
  | "ERR_NODE_NOT_FOUND"
  | "ERR_NODE_NAME"
  | "ERR_NODE_EXISTS"
  | "ERR_NODE_BUSY"
  | "ERR_NODE_READ_ONLY"
  | "ERR_TARGET_LETTING_GO"
  | "ERR_BITMAP_NOT_FOUND"
  | "ERR_BITMAP_EXISTS"
  | "ERR_BITMAP_NAME"
  | "ERR_BITMAP_GRANULARITY"
  | "ERR_BITMAP_TOO_LARGE"
  | "ERR_BITMAP_NOT_STORABLE"
  | "ERR_BITMAP_SIZES"
  | "ERR_BITMAP_BUSY"
  | "ERR_BITMAP_READONLY"
  | "ERR_BITMAP_INCONSISTENT"
  | "ERR_BITMAP_STATE"
  | "ERR_BACKUP_BITMAP_REQUIRED"
  | "ERR_BACKUP_BITMAP_MODE"
  | "ERR_BACKUP_SAME_NODE"
  | "ERR_BACKUP_COMPRESSION"
  | "ERR_BACKUP_SIZES"
  | "ERR_BACKUP_CHUNK"
  | "ERR_JOB_ID"
  | "ERR_JOB_EXISTS"
  | "ERR_JOB_NOT_FOUND"
  | "ERR_JOB_SPEED"
  | "ERR_JOB_STATE"
  | "ERR_JOB_PAUSED"
  | "ERR_JOB_NOT_PAUSED"
  | "ERR_JOB_DECIDED"
  | "ERR_JOB_NOT_RESUMABLE"
  | "ERR_JOB_TARGET"
  | "ERR_EXPORT_ID"
  | "ERR_EXPORT_EXISTS"
  | "ERR_EXPORT_IN_USE"
  | "ERR_EXPORT_STATE"
  | "ERR_GROUP_STATE"
  | "ERR_TRANSACTION_ABORTED"
  | "ERR_TRANSACTION_COMPLETION_MODE"
  | "ERR_TRANSACTION_STATE"
  | "ERR_GATE_HELD"
  | "ERR_DISK_IN_USE"
  | "ERR_DISK_STATE"
  | "ERR_POOL_STATE";

/** Values that say what a refusal is about: node, bitmap, job, state, ... */
export type RefusalFields = Readonly<Record<string, string | number | boolean | readonly string[]>>;

/** Why something was refused, as data. */
export interface Refusal {
  readonly code: RefusalCode;
  /** QEMU's text where QEMU has one, exactly. */
  readonly desc: string;
  readonly fields: RefusalFields;
}

/** The answer of a check: what was asked for, made complete, or why not. */
export type Checked<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly refusal: Refusal };

export function refusal(code: RefusalCode, desc: string, fields: RefusalFields = {}): Refusal {
  return { code, desc, fields };
}

export function accepted<T>(value: T): Checked<T> {
  return { ok: true, value };
}

export function refused<T = never>(reason: Refusal): Checked<T> {
  return { ok: false, refusal: reason };
}

/**
 * Base of every error that this package throws. `message` is `operation: desc`.
 *
 * @example
 * ```ts
 * import { HeirloomError } from "@heirloom/runtime";
 * const error = new HeirloomError("ERR_JOB_NOT_FOUND", "job cancel", "Job not found", { fields: { job: "j" } });
 * error.message; // "job cancel: Job not found"
 * ```
 */
export class HeirloomError extends Error {
  override readonly name: string = "HeirloomError";
  /** Stable; look at this and not at the message. */
  readonly code: string;
  /** What was being done, in the words of the API ("bitmap clear"). */
  readonly operation: string;
  /** The sentence without the operation; QEMU's exact text where it has one. */
  readonly desc: string;
  readonly fields: RefusalFields;
  /** Of a transaction: index of the action that was refused. */
  action: number | undefined;

  constructor(
    code: string,
    operation: string,
    desc: string,
    options: { readonly fields?: RefusalFields; readonly cause?: unknown } = {},
  ) {
    super(`${operation}: ${desc}`, "cause" in options ? { cause: options.cause } : undefined);
    this.code = code;
    this.operation = operation;
    this.desc = desc;
    this.fields = options.fields ?? {};
  }
}

/** Something was asked for that the present state or the arguments do not allow; nothing has changed. */
export class RefusalError extends HeirloomError {
  override readonly name: string = "RefusalError";
  declare readonly code: RefusalCode;

  constructor(operation: string, reason: Refusal, options: { readonly cause?: unknown } = {}) {
    super(reason.code, operation, reason.desc, { ...options, fields: reason.fields });
  }
}

/** The value of a check, or its refusal thrown in the name of `operation`. */
export function unwrap<T>(operation: string, checked: Checked<T>): T {
  if (!checked.ok) throw new RefusalError(operation, checked.refusal);
  return checked.value;
}

/** A bug of ours: always on, never an answer to bad input. */
export class InvariantError extends Error {
  override readonly name: string = "InvariantError";
  readonly code: string = "ERR_INVARIANT";
}

export function invariant(condition: unknown, message: string): asserts condition {
  if (!condition) throw new InvariantError(`Heirloom's own invariant does not hold: ${message}`);
}
