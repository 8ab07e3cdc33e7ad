/**
 * The words that the job machine and the coordinator speak: events in, effects out.
 *
 * Progress (`offset`, `len`) lives in shared counters and not here: where an effect reports a completion, the coordinator
 * adds both as they stand when it carries the effect out.
 */
import type { JobStatus } from "./job-table.ts";

export type IoStatus = "ok" | "nospace" | "failed";
export type ErrorAction = "report" | "ignore" | "stop";

export interface JobInput {
  readonly id: string;
  /** Bytes per second, 0 for no limit. */
  readonly speed?: number;
  readonly autoFinalize?: boolean;
  readonly autoDismiss?: boolean;
  /** Id of the group (completion-mode grouped) that it belongs to. */
  readonly group?: string | null;
}

export interface JobContext {
  readonly id: string;
  readonly type: "backup";
  readonly speed: number;
  readonly autoFinalize: boolean;
  readonly autoDismiss: boolean;
  readonly group: string | null;
  readonly ioStatus: IoStatus;
  /** What `query-jobs` says: the reason of a failure, or "Operation canceled". */
  readonly error: string | null;
  /** A person, or the error policy `stop`, paused it. */
  readonly userPaused: boolean;
  /** Pauses by the runtime itself; it goes on when they and the user's are gone. */
  readonly internalPauses: number;
  /** Everything is copied and flushed, which came about while it was paused. */
  readonly copied: boolean;
  /** It left `created` by starting; only such a job has BLOCK_JOB_* events. */
  readonly started: boolean;
  readonly cancelled: boolean;
}

export type JobEvent =
  | { readonly type: "start" }
  /** Nothing was frozen for it: the request was refused while the job was being made. */
  | { readonly type: "refuse"; readonly error: string }
  | { readonly type: "pause"; readonly user: boolean }
  | { readonly type: "resume"; readonly user: boolean }
  /** `force` is what `job-cancel` means; `block-job-cancel` without it leaves a job that a user paused alone. */
  | { readonly type: "cancel"; readonly force: boolean }
  | { readonly type: "complete" }
  | { readonly type: "finalize" }
  | { readonly type: "dismiss" }
  | { readonly type: "setSpeed"; readonly speed: number }
  /** Everything of the set is on the target **and** the target was flushed. */
  | { readonly type: "allCopied" }
  /** All members of its group are waiting. */
  | { readonly type: "groupReady" }
  /** The group's finalize: the success is decided now. */
  | { readonly type: "commit" }
  /** What follows a decision (record, memory, folds) is over: now the end is told. */
  | { readonly type: "settled" }
  /** The record of a success could not be made durable and was undone: the success is taken back (DESIGN 5, point 2). */
  | { readonly type: "recordFailed"; readonly error: string }
  | { readonly type: "fail"; readonly error: string }
  | {
      readonly type: "ioError";
      readonly operation: "read" | "write";
      readonly action: ErrorAction;
      readonly noSpace: boolean;
      /** strerror's text. */
      readonly error: string;
    }
  /** Another member of the group failed or was cancelled. */
  | { readonly type: "peerFailed" };

/** How a job ends; `rolled-back` is one that never started. */
export type JobDecision = "success" | "failure" | "cancelled" | "rolled-back";

export type JobEffect =
  /** JOB_STATUS_CHANGE. */
  | { readonly type: "status"; readonly status: JobStatus }
  | JobNotice
  /** Copiers and drainers begin; `paused`: only the drainers. */
  | { readonly type: "start-copying"; readonly paused: boolean; readonly speed: number }
  | { readonly type: "pause-copying" }
  | { readonly type: "resume-copying" }
  | { readonly type: "set-speed"; readonly speed: number }
  /** The first transition of an end: stop the view; then record, memory and folds, and then `settled`. */
  | { readonly type: "decide"; readonly outcome: JobDecision }
  /** For the group machine: this member waits. */
  | { readonly type: "wait-for-group"; readonly group: string }
  /** For the group machine: a user finalized this member. */
  | { readonly type: "finalize-group"; readonly group: string }
  /** For the group machine: this member failed or was cancelled. */
  | { readonly type: "cancel-group"; readonly group: string }
  /** The nodes are let go of (QEMU's "clean"); before the completion is told. */
  | { readonly type: "release" }
  /** The id is free again. */
  | { readonly type: "forget" };

/** BLOCK_JOB_*: `device` is the job's id. The coordinator adds `offset` and `len` to the first two. */
export type JobNotice =
  | {
      readonly type: "event";
      readonly name: "BLOCK_JOB_COMPLETED";
      readonly jobType: "backup";
      readonly device: string;
      readonly speed: number;
      readonly error?: string;
    }
  | {
      readonly type: "event";
      readonly name: "BLOCK_JOB_CANCELLED";
      readonly jobType: "backup";
      readonly device: string;
      readonly speed: number;
    }
  | { readonly type: "event"; readonly name: "BLOCK_JOB_PENDING"; readonly jobType: "backup"; readonly id: string }
  | {
      readonly type: "event";
      readonly name: "BLOCK_JOB_ERROR";
      readonly device: string;
      readonly operation: "read" | "write";
      readonly action: ErrorAction;
    };
