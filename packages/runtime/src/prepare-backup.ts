/** From a user's backup options to what the coordinator takes. */
import { availableParallelism } from "node:os";
import type { DiskState } from "./disk-state.ts";
import type { JobTarget } from "./job-state.ts";
import type { BackupOptions } from "./options.ts";
import type { PreparedBackup } from "./prepared-backup.ts";
import { guestDelayFor, type SpillDefaults, spillFor } from "./spill-options.ts";

/** Left to guests between two runs of a job with `priority: "guest"` at most, while they write. */
const yieldMsMax = 1;

export function prepareBackup(
  options: BackupOptions,
  jobId: string,
  disk: DiskState,
  target: JobTarget,
  defaults: SpillDefaults,
): PreparedBackup {
  const { memory, file, options: spillFile } = spillFor("backup", { ...defaults.spill, ...options.spill }, disk);
  const { bitmap, bitmapMode, maxChunk, minClusterSize, maxWorkers } = options;
  return {
    request: {
      jobId,
      source: disk.name,
      target: target.name,
      sync: options.sync ?? (bitmap === undefined ? "full" : bitmapMode === undefined ? "incremental" : "bitmap"),
      ...(bitmap === undefined ? {} : { bitmap }),
      ...(bitmapMode === undefined ? {} : { bitmapMode }),
      ...(maxChunk === undefined ? {} : { maxChunk }),
      ...(minClusterSize === undefined ? {} : { minClusterSize }),
      ...(maxWorkers === undefined ? {} : { maxWorkers }),
      speed: options.speed ?? 0,
      compress: options.compress ?? false,
      ...(options.filterNodeName === undefined ? {} : { filterNodeName: options.filterNodeName }),
      onSourceError: options.onSourceError ?? "report",
      onTargetError: options.onTargetError ?? "report",
      autoFinalize: options.autoFinalize ?? true,
      autoDismiss: options.autoDismiss ?? true,
    },
    target,
    movers: {
      targetIsZero: options.targetIsZero ?? false,
      detectZeroes: options.detectZeroes ?? false,
      discardSource: options.discardSource ?? false,
      threads: maxWorkers === undefined ? threadsDefault() : Math.min(maxWorkers, threadsMax),
      yieldMs: options.priority === "guest" ? yieldMsMax : 0,
    },
    guestDelayMaxMs: guestDelayFor("backup", options.guestDelayMax ?? defaults.guestDelayMax, options.waitForTarget),
    breakGuestWrite: options.onSpillFull === "break-guest-write" || options.waitForTarget === true,
    waitForTarget: options.waitForTarget ?? false,
    readable: options.readable ?? false,
    spillMemory: memory,
    spillFile: file,
    spill: spillFile,
    resumable: undefined,
    onCopied: options.onCopied,
    onKept: options.onKept,
  };
}

/** More threads on one target gain nothing. */
const threadsMax = 64;

/** A core is left to the guests. */
function threadsDefault(): number {
  return Math.max(1, Math.min(4, availableParallelism() - 1));
}
