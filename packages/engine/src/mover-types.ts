/** What the parts of a job's thread share: the job as this thread sees it, and what an I/O error of it looks like. */
import type { BlockNode, Errno } from "@heirloom/block";
import type { ScanBy } from "./scanner.ts";
import type { View } from "./view.ts";
import type { CopiedRecord } from "./write-guard.ts";

/** What a job does about an error of its source or of its target. */
export type ErrorPolicy = "report" | "ignore" | "stop" | "enospc";

/** An error as the coordinator is told of it. */
export interface MoverError {
  readonly operation: "read" | "write" | "flush";
  readonly errno: Errno;
  /** Bytes; of the failed request. */
  readonly offset: number;
  readonly action: "report" | "ignore" | "stop";
}

/** A job on one of its threads. */
export interface MoverJob {
  readonly words: Int32Array;
  readonly view: View;
  /** Reads the disk below its gate. */
  readonly source: BlockNode;
  readonly target: BlockNode;
  /** The target reads as zeroes wherever nothing was written: zeroes need not be. */
  readonly targetIsZero: boolean;
  /** Bytes of one transfer of the background copy at most. */
  readonly runBytesMax: number;
  /** Whether data that is all zeroes is looked for, to write it as zeroes. */
  readonly detectZeroes: boolean;
  /** What has been copied is discarded at the source, which is a snapshot. */
  readonly discardSource: boolean;
  /** Set where the view's set was not known at the instant. */
  readonly scan: ScanBy | undefined;
  /** Of a resumable job. */
  readonly record: CopiedRecord | undefined;
  readonly onSourceError: ErrorPolicy;
  readonly onTargetError: ErrorPolicy;
  readonly report: (error: MoverError) => void;
}

export const errnoNoSpace = 28;
