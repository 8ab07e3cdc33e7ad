/**
 * What a write has to find done before it may touch the device, beside marks and views: on a disk whose bitmaps are kept, that its
 * granules are in the journal and its regions marked. The engine asks; what is asked is another package's, given to the engine
 * as a module by file URL and loaded by each thread that meets a table with such a guard.
 *
 * A guard looks inside the gate and acts outside it. Between the two the thread stands *aside*: its slot says that it works
 * with what the table named, so that this memory is not given to somebody else before it is back.
 */
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import type { Errno } from "@heirloom/block";
import type { ArenaLookup } from "./arena-map.ts";

export interface WriteGuard {
  /** Inside the gate: nothing is missing for a write of these bytes. Neither waits nor allocates. */
  ready(offset: number, length: number): boolean;
  /**
   * Outside the gate: does what is missing; the write then looks again. Other failures than having to wait are the guard's own:
   * the guest goes on.
   * @param patient whether it may wait @returns 0, or EAGAIN where it would have to wait
   */
  prepare(offset: number, length: number, patient: boolean): Errno;
}

export interface GuardContext {
  readonly arenas: ArenaLookup;
  /** Names this thread in locks (`worker_threads.threadId` plus one): never used again, so a dead one's can be told. */
  readonly holder: number;
  /** Outside the gate: true when everyone who was inside has been seen outside; false if that takes too long. */
  readonly waitOutside: () => boolean;
  /** Makes the disk's data durable. */
  readonly syncDisk: () => Errno;
}

/** Where a resumable job writes down which clusters are on its target, so that it is known after a restart. */
export interface CopiedRecord {
  /** Bits of a word of clusters, counted as in the view: they are in the file when this returns 0. @returns errno */
  add(word: number, mask: number): Errno;
}

/** What a guard's module exports. */
export interface GuardModule {
  /** @param row what the main thread gave a job for it */
  makeCopiedRecord(row: readonly number[], context: Pick<GuardContext, "arenas" | "holder">): CopiedRecord;
  /** @param row what the main thread put into the table for it */
  makeGuard(row: readonly number[], context: GuardContext): WriteGuard;
}

const require = createRequire(import.meta.url);

/** Loads a guard's module without an event loop: a thread meets its first guard in the middle of a write. */
export function loadGuardModule(url: string): GuardModule {
  return require(fileURLToPath(url)) as GuardModule;
}
