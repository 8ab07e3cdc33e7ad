/** What users give to the runtime, and what it gives back: the words of the public API. */
import type { NodeSpec } from "@heirloom/block";
import type { EngineOptions } from "@heirloom/engine";
import type { JournalOptions, RecoveryEntry } from "@heirloom/journal";
import type { BitmapMode, Sync } from "./validation/outcome.ts";
import type { OnError } from "./validation/backup-request.ts";
import type { Disk } from "./disk.ts";

export interface RuntimeOptions {
  readonly engine?: EngineOptions;
  /** Where spill goes unless a backup says otherwise. */
  readonly spill?: SpillOptions;
  /** A guest's write waits at most this long for a backup or a view, unless that says otherwise, milliseconds; 20 by default. */
  readonly guestDelayMax?: number;
  /** How long a freeze may try before it is refused, milliseconds; 5000 by default. */
  readonly freezeDeadlineMs?: number;
  /**
   * Whether what a job writes can be backed up at the same time; true by default: the job is one of its guests. QEMU refuses
   * it, and tools that know QEMU may rely on that.
   */
  readonly backupOfTargets?: boolean;
  /** Milliseconds since the epoch; for tests. */
  readonly now?: () => number;
  /** For tests: called with the gates closed, at the instant of each freeze. Its time is not counted as the gate's. */
  readonly observeFreeze?: (freeze: FreezeObservation) => void;
}

/** What is frozen at this instant, all of it at once. */
export interface FreezeObservation {
  readonly jobs: ReadonlyArray<{ readonly job: string; readonly disk: string }>;
  readonly views: ReadonlyArray<{ readonly view: string; readonly disk: string }>;
}

export interface SpillOptions {
  /** Bytes in memory; 32 MiB by default. */
  readonly memory?: number;
  /** Bytes of the file at most; 2 GiB by default, never more than the job's set. 0: no file. */
  readonly file?: number;
  /** Where the file goes; beside the disk's image by default. */
  readonly directory?: string;
  /** A tmpfs is memory, so it is refused unless this is set. */
  readonly allowTmpfs?: boolean;
  /** Share of the file system that stays free; 0.05 by default. */
  readonly floor?: number;
}

export interface AttachOptions {
  /** By default `disk0`, `disk1`, ... */
  readonly name?: string;
  /**
   * Where its persistent bitmaps are kept, and how many bytes too much they may say after a power loss. `false`: it keeps none, and an
   * image that has some is refused, as they would become wrong. `"take-over"`, for a window of a whole disk: that disk's persistent
   * bitmaps are the window's, and new ones can be made there; they are that disk's again when the window is detached.
   */
  readonly journal?: JournalOptions | false | "take-over";
  /** The name was made up by a program, and may be one that no person can give: `#block17`. */
  readonly generated?: boolean;
}

/** An image, a device, an NBD export (`driver: "nbd"`, see @heirloom/nbd), a driver module; or, with `file` (or the disk itself under it), a window of an attached disk. */
export type DiskSpec = NodeSpec;

export interface BackupOptions {
  readonly disk: Disk | string;
  /** A node to open (and close at the end), or an attached disk. */
  readonly target: NodeSpec | Disk;
  /** By default `full` without a bitmap, else what the bitmap says: `incremental`, or `bitmap` where a mode is given. */
  readonly sync?: Sync;
  readonly bitmap?: string;
  /** What becomes of the bitmap at the end; `incremental` implies `on-success`. */
  readonly bitmapMode?: BitmapMode;
  /** By default `backup0`, `backup1`, ... */
  readonly jobId?: string;
  /** Bytes/s; 0, the default, is unlimited. */
  readonly speed?: number;
  readonly onSourceError?: OnError;
  readonly onTargetError?: OnError;
  /** Compressed clusters on the target; refused where it cannot have them. */
  readonly compress?: boolean;
  /** For tools that name the filter node, which is not there: it is checked as they expect. */
  readonly filterNodeName?: string;
  readonly autoFinalize?: boolean;
  readonly autoDismiss?: boolean;
  /** Bytes of a transfer at most; 0: the default, 1 MiB. */
  readonly maxChunk?: number;
  /** Bytes, a power of two: raises the job's cluster size. */
  readonly minClusterSize?: number;
  /** Threads of the job; by default one less than there are cores, at most 4. */
  readonly maxWorkers?: number;
  /** `guest`: the copier yields while guests write. */
  readonly priority?: "backup" | "guest";
  /** The target reads as zeroes where nothing was written (a new sparse file): zeroes are not written. */
  readonly targetIsZero?: boolean;
  /** Data that is all zeroes is looked for and written as zeroes; files are then not copied by the kernel. Off by default. */
  readonly detectZeroes?: boolean;
  /** A guest's write waits at most this long for room in the spill, milliseconds; by default as the runtime says. */
  readonly guestDelayMax?: number;
  /** What gives way when the spill is full, or old data cannot be read; `break-snapshot` by default. */
  readonly onSpillFull?: OnSpillFull;
  /**
   * A guest's write waits until what it overwrites is on the target, at most for `guestDelayMax`, and fails if that takes longer
   * or cannot be. Implies `break-guest-write`; false by default.
   */
  readonly waitForTarget?: boolean;
  /** With sync none: what the disk held can be read while the job runs, by a disk `{ driver: "snapshot", job }`. False by default. */
  readonly readable?: boolean;
  /** The source must be a snapshot: what has been copied is given up there, and its target rid of it. False by default. */
  readonly discardSource?: boolean;
  readonly spill?: SpillOptions;
  /**
   * It goes on after a restart, with the same point in time: paused, until its target is there again (`runtime.resume`). Needs a
   * persistent bitmap, and costs guests a write to the spill file for each cluster that they overwrite first. Off by default.
   */
  readonly resumable?: boolean;
  /**
   * Of a resumable job: it goes on after every power loss, since what guests overwrite is synced before, and the disk at the start. Costs
   * guests a sync for the first write to each cluster, shared by those who wait at the same time. Off by default: a power loss under
   * load then usually ends the job, and its bitmap is reclaimed.
   */
  readonly syncSpill?: boolean;
  /**
   * Milliseconds between two flushes of a resumable job's target: what is copied by then is not copied again after a power loss;
   * 5000 by default.
   */
  readonly flushEvery?: number;
  /** A resumable job that has waited so long for its target is reclaimed, milliseconds; a day by default. */
  readonly resumeTimeout?: number;
  /**
   * Runs when everything is copied and flushed, before the success is decided: the place to write down what the backup is.
   * If it throws, the job fails and the bitmap is reclaimed.
   */
  readonly onCopied?: (copied: CopiedBackup) => Promise<void>;
  /**
   * With bitmap-mode always: runs when the job has failed or was cancelled, before its bitmap gives up what of the set is on the target for
   * good: the place to write down what that is. If it throws, or takes longer than 10 s, the bitmap gives up nothing.
   */
  readonly onKept?: (kept: KeptBackup) => Promise<void>;
  /** Aborted while the target is opened, it is thrown and nothing has changed; after that it cancels the job. */
  readonly signal?: AbortSignal;
}

/** A backup that has everything on its target, for `onCopied`. */
export interface CopiedBackup {
  readonly job: string;
  /** Bytes. */
  readonly length: number;
  readonly clusterSize: number;
  /** What was copied, in order, cut where the target holds data or zeroes; bytes. */
  extents(): Promise<ReadonlyArray<{ readonly offset: number; readonly length: number; readonly zero: boolean }>>;
}

/** What a backup with bitmap-mode always that did not complete has left on its target, for `onKept`. */
export interface KeptBackup {
  readonly job: string;
  /** In order; bytes. A flush has covered it. */
  readonly ranges: ReadonlyArray<{ readonly offset: number; readonly length: number }>;
}

export interface ResumeOptions {
  /** The target of a job that was cut off, and waits for it: a node to open (and close at the end), or an attached disk. */
  readonly target?: NodeSpec | Disk;
  /** What becomes of the job where that is another one; `give-up` by default. */
  readonly onOther?: OnOtherTarget;
}

/** A resumable job that is told to go on with what is not its target: its bitmap is reclaimed, or it waits on. */
export type OnOtherTarget = "give-up" | "refuse";

export interface ViewRequest {
  /** Limits the view to what it says; frozen until the view ends. */
  readonly bitmap?: string;
  readonly bitmapMode?: BitmapMode;
  /** All of the disk can be read; the bitmap only says what changed. */
  readonly all?: boolean;
  /** Limits the view to what a bitmap says now, of this disk or of one of its length. It is looked at once, and stays free. */
  readonly limit?: { readonly disk: Disk; readonly name: string };
  /** An attached disk, at least as long, to which the spill is carried; it is the view's until that ends. */
  readonly target?: Disk;
  /** `Infinity` where a guest's write waits for ever rather than to fail. */
  readonly guestDelayMax?: number;
  readonly onSpillFull?: OnSpillFull;
  /** As of a backup. Needs a target. */
  readonly waitForTarget?: boolean;
  readonly spill?: SpillOptions;
}

/** What gives way when old data cannot be kept: the point in time, or the guest's write, as in QEMU. */
export type OnSpillFull = "break-snapshot" | "break-guest-write";

export type TransactionAction =
  /** Refuses the transaction when its turn comes; with `because`, for this reason. */
  | { readonly type: "abort"; readonly because?: Error }
  | {
      readonly type: "bitmap-add";
      readonly disk: Disk | string;
      readonly name: string;
      readonly granularity?: number;
      readonly disabled?: boolean;
      readonly persistent?: boolean;
    }
  | {
      readonly type: "bitmap-remove" | "bitmap-clear" | "bitmap-enable" | "bitmap-disable";
      readonly disk: Disk | string;
      readonly name: string;
    }
  | {
      readonly type: "bitmap-merge";
      readonly disk: Disk | string;
      readonly target: string;
      readonly sources: ReadonlyArray<string | { readonly disk: Disk | string; readonly name: string }>;
    }
  | ({ readonly type: "backup" } & BackupOptions);

export interface TransactionOptions {
  /** `grouped`: all its backups succeed at one instant, or none does. */
  readonly completionMode?: "individual" | "grouped";
}

/** The sidecar of a disk. */
export interface JournalInfo {
  readonly path: string;
  /** Of the file. */
  readonly bytes: number;
  /** Bytes that a power loss makes dirty beyond what was written, at most; and those that it would now. */
  readonly bound: number;
  readonly unsettled: number;
  /** Counters since the attach: syncs for marks, regions settled. */
  readonly syncs: number;
  readonly settled: number;
  /** Attaches so far. */
  readonly generation: number;
  /** Unclean stops that it recovered from, oldest first. */
  readonly recoveries: readonly RecoveryEntry[];
  /** Why nothing is kept any more. */
  readonly failed: string | null;
}

export interface BitmapInfo {
  /** Empty for the successor of a frozen bitmap, which has none. */
  readonly name: string;
  /** Bytes: dirty granules times granularity; the frozen count while it is frozen. */
  readonly count: number;
  readonly granularity: number;
  readonly recording: boolean;
  readonly busy: boolean;
  readonly persistent: boolean;
  readonly inconsistent: boolean;
  readonly state: string;
}

export interface JobInfo {
  readonly id: string;
  readonly type: "backup";
  readonly status: string;
  /** Bytes done and to do, in whole clusters. */
  readonly offset: number;
  readonly length: number;
  readonly speed: number;
  readonly paused: boolean;
  readonly ioStatus: string;
  readonly autoFinalize: boolean;
  readonly autoDismiss: boolean;
  readonly error: string | null;
  /** Of a resumable job that was cut off: what it waits for. */
  readonly waits: JobWait | null;
}

/** A resumable job that was cut off, until it is resumed. Milliseconds since the epoch. */
export interface JobWait {
  /** What its target was called: a path, or the name of a node. */
  readonly target: string;
  /** Its point in time. */
  readonly frozenAt: number;
  /** It is reclaimed then. */
  readonly until: number;
}

export interface JobResult {
  readonly id: string;
  /** `left`: it is resumable and its disk was detached; it goes on when that is attached again. */
  readonly status: "completed" | "cancelled" | "failed" | "left";
  readonly error: string | null;
  /** Bytes that went to the target, in whole clusters. */
  readonly offset: number;
  readonly length: number;
  /** Milliseconds that the gates were closed for the freeze, and for the end. */
  readonly freezeMs: number;
  readonly endMs: number;
  /**
   * Of a job with bitmap-mode always that did not complete: what of its set is on the target for good, which the next backup
   * leaves out. Bytes, in order.
   */
  readonly kept?: KeptBackup["ranges"] | undefined;
}

/** What happens, as it happens: job events with the names that QEMU's tools know, and our own. */
export interface RuntimeEvent {
  /** Milliseconds since the epoch. */
  readonly at: number;
  readonly name: string;
  readonly data: Readonly<Record<string, unknown>>;
}
