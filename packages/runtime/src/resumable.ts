/**
 * Resumable jobs: what such a job has beside its view, and what of it stands in the journal (job-entry.ts there) so that it goes on
 * after a restart with the point in time that it began with.
 */
import { randomInt } from "node:crypto";
import { dirname, join } from "node:path";
import { type Engine, type KeptSpill, keptSlotsFirst, viewClusterSize } from "@heirloom/engine";
import { type JobRecords, type KeptJob, spillName } from "@heirloom/journal";
import type { DiskState } from "./disk-state.ts";
import { HeirloomError, refusal, RefusalError } from "./errors.ts";
import type { JobState, JobTarget } from "./job-state.ts";
import { lastingIdentity } from "./lasting-identity.ts";
import type { BackupOptions } from "./options.ts";
import type { PreparedBackup } from "./prepared-backup.ts";
import type { SpillDefaults } from "./spill-options.ts";
import { jobClusterSize, type NormalizedBackup } from "./validation/backup-request.ts";

export interface Resumable {
  /** Who its target is, over restarts, and its name. */
  readonly target: string;
  readonly targetName: string;
  readonly spill: KeptSpill;
  /** Bytes of a cluster of its view. */
  readonly clusterSize: number;
  readonly settings: ResumableSettings;
  /** Milliseconds since the epoch; 0 before the freeze. */
  frozenAt: number;
  /** Since when it waits for its target; 0 while it is at work. */
  waitingSince: number;
  /** Made just before the freeze. */
  records: JobRecords | undefined;
  /** Its view has the spill's descriptor, and closes it. */
  adopted: boolean;
}

/** What a restart needs beside the request. */
export interface ResumableSettings {
  readonly guestDelayMaxMs: number;
  readonly breakGuestWrite: boolean;
  readonly spillFile: number;
  readonly spill: PreparedBackup["spill"];
  readonly movers: PreparedBackup["movers"];
  /** What guests overwrite is synced before. */
  readonly syncSpill: boolean;
  /** Between two flushes of its target. */
  readonly flushEveryMs: number;
  /** It is reclaimed when it has waited for its target for so long. */
  readonly resumeTimeoutMs: number;
}

const resumeTimeoutDefaultMs = 24 * 60 * 60 * 1000;
const flushEveryDefaultMs = 5000;
const mostMs = 366 * resumeTimeoutDefaultMs;

/** Makes the spill file. @throws RefusalError where the job could not go on after a restart, HeirloomError ERR_SPILL */
export async function prepareResumable(
  engine: Engine,
  options: BackupOptions,
  disk: DiskState,
  target: JobTarget,
  backup: PreparedBackup,
  defaults: SpillDefaults,
): Promise<Resumable> {
  const { journal } = disk;
  const { spillFile } = backup;
  const identity = lastingIdentity(target.node, target.length);
  const reason = whyNot(options, disk, identity);
  if (reason !== undefined) throw notResumable(reason);
  if (journal === undefined || identity === undefined) throw notResumable("its bitmap is not persistent");
  if (spillFile === 0) throw notResumable("it has no spill file: what guests overwrite has to be kept there");
  const alignment = Math.max(disk.node.alignment, target.node.alignment);
  const unit = jobClusterSize(target.node.clusterSize, options.minClusterSize);
  const clusterSize = viewClusterSize(disk.layer.table.length, unit, alignment);
  const tag = randomInt(1, 2 ** 31);
  // It lasts as long as the journal does, and lies beside it unless it was given a place.
  const spill = {
    ...backup.spill,
    directory: options.spill?.directory ?? defaults.spill?.directory ?? dirname(journal.path),
    allowTmpfs: backup.spill.allowTmpfs || disk.image?.journal.allowTmpfs === true,
  };
  const { allowTmpfs, floor } = spill;
  try {
    const kept = await engine.makeSpill({
      path: join(spill.directory, spillName(journal.path, tag)),
      tag,
      clusterSize,
      slots: keptSlotsFirst(clusterSize, spillFile),
      allowTmpfs,
      floor,
    });
    return {
      target: identity,
      targetName: nameOf(options, target),
      spill: kept,
      clusterSize,
      settings: {
        guestDelayMaxMs: backup.guestDelayMaxMs,
        breakGuestWrite: backup.breakGuestWrite,
        spillFile,
        spill,
        movers: backup.movers,
        syncSpill: options.syncSpill === true,
        flushEveryMs: inMilliseconds("flushEvery", options.flushEvery ?? flushEveryDefaultMs, 1),
        resumeTimeoutMs: inMilliseconds("resumeTimeout", options.resumeTimeout ?? resumeTimeoutDefaultMs, 0),
      },
      frozenAt: 0,
      waitingSince: 0,
      records: undefined,
      adopted: false,
    };
  } catch (cause) {
    throw new HeirloomError("ERR_SPILL", "backup", (cause as Error).message, { cause });
  }
}

function whyNot(options: BackupOptions, disk: DiskState, identity: string | undefined): string | undefined {
  const { bitmap, sync, onCopied, onKept } = options;
  const context = bitmap === undefined ? undefined : disk.bitmaps.get(bitmap)?.actor.context;
  if (bitmap === undefined || context?.persistent === false)
    return "it needs a persistent bitmap, whose journal keeps it";
  if (sync === "none" || sync === "top") return `sync '${sync}' cannot go on after a restart`;
  if (options.waitForTarget === true) return "guests that wait for its target would wait for it over a restart";
  if (options.discardSource === true) return "a source that is given up as it is copied is not there after a restart";
  if (onCopied !== undefined) return "'onCopied' is gone after a restart";
  if (onKept !== undefined) return "'onKept' is gone after a restart";
  if (identity === undefined)
    return "its target cannot be told again after a restart: expected a file, a device or an NBD export";
  return undefined;
}

export function notResumable(reason: string): RefusalError {
  return new RefusalError(
    "backup",
    refusal("ERR_JOB_NOT_RESUMABLE", `The backup cannot be resumable: ${reason}`, { reason }),
  );
}

function nameOf({ target }: BackupOptions, { name }: JobTarget): string {
  return "filename" in target && typeof target.filename === "string" ? target.filename : name;
}

function inMilliseconds(option: string, value: number, least: number): number {
  if (typeof value === "number" && value >= least && value <= mostMs) return value;
  const desc = `Option '${option}' must be milliseconds from ${least} to ${mostMs}, not ${String(value)}`;
  throw new RefusalError("backup", refusal("ERR_INVALID_ARGUMENT", desc, { option, value: String(value) }));
}

/** What of a job stands in the journal; undefined where it is not to go on. */
export function keptJobOf(job: JobState | undefined): KeptJob | null {
  const { resumable } = job ?? {};
  if (job === undefined || resumable?.records === undefined) return null;
  const { request, view } = job;
  return {
    id: job.id,
    options: JSON.stringify({ request, settings: resumable.settings }),
    target: resumable.target,
    targetName: resumable.targetName,
    spill: resumable.spill.path,
    tag: resumable.spill.tag,
    clusterSize: view.memory.clusterSize,
    all: request.set === "all",
    synced: resumable.settings.syncSpill,
    unit: request.clusterSize,
    frozenAt: resumable.frozenAt,
    waitingSince: resumable.waitingSince,
    ...resumable.records.kept,
  };
}

/** @throws HeirloomError for what another version has written */
export function readSettings({ id, options }: Pick<KeptJob, "id" | "options">): {
  readonly request: NormalizedBackup;
  readonly settings: ResumableSettings;
} {
  try {
    const { request, settings } = JSON.parse(options) as { request?: NormalizedBackup; settings?: ResumableSettings };
    if (request?.jobId === id && settings?.movers !== undefined) return { request, settings };
  } catch {
    // told below
  }
  const desc = `job '${id}': its record was written by another version; use that one, or remove the sidecar`;
  throw new HeirloomError("ERR_JOURNAL_DAMAGED", "attach", desc);
}

/** The command was given up: no job has it. */
export async function dropSpill(engine: Engine, { spill, adopted }: Resumable): Promise<void> {
  await engine.removeSpill({ path: spill.path, fd: adopted ? undefined : spill.fd }).catch(() => {});
}
