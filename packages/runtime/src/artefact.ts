/**
 * A backup into its own artefact: a sparse raw file `NAME.raw`, and a map `NAME.json` that says what of it is backup and
 * which artefact it builds on. `rebuild` makes an image from a chain of them.
 *
 * Order, so that a bitmap never forgets what no artefact keeps: the data is copied and flushed, then the map is made
 * durable (temporary name, fsync, rename, fsync of the directory), and only then the success is decided and the bitmap
 * abdicates. With bitmap-mode always the same holds for what a failed backup has left. A raw file without a map is what a crash left: it is no artefact and can be deleted.
 */
import { randomUUID } from "node:crypto";
import { open, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import type { NodeSpec } from "@heirloom/block";
import { type Artefact, type ArtefactExtent, type ArtefactMap, formatMap, rawPathOf } from "./artefact-map.ts";
import { HeirloomError } from "./errors.ts";
import type { Job } from "./job.ts";
import type { BackupOptions, CopiedBackup, JobResult } from "./options.ts";
import type { Runtime } from "./runtime.ts";

export interface ArtefactOptions extends Omit<BackupOptions, "target" | "targetIsZero" | "onCopied" | "onKept"> {
  /** Of the map, ending in `.json`; the data goes beside it, into `.raw`. Neither may exist. */
  readonly path: string;
  /** The artefact that the backup builds on, or its id: the last success of the same bitmap. Not for `sync: "full"`. */
  readonly basedOn?: Artefact | string;
  /** For people; by default it is told from `sync` and the bitmap. */
  readonly why?: string;
  /** Decorates the target, for a throttle or a fault. */
  readonly through?: (target: NodeSpec) => NodeSpec;
}

export interface ArtefactBackup {
  readonly job: Job;
  /** Id that the artefact will have. */
  readonly id: string;
  /** How it ended, with its files written or removed; never rejects. */
  readonly done: Promise<ArtefactResult>;
}

export interface ArtefactResult extends JobResult {
  /** What is on disk now: the artefact of a success, or what an `always` backup that failed has left. */
  readonly artefact: Artefact | undefined;
}

/**
 * Starts a backup into an artefact; the point in time is frozen when this resolves.
 * @throws HeirloomError ERR_ARTEFACT_NAME, ERR_ARTEFACT_SYNC, ERR_ARTEFACT_BASE, ERR_ARTEFACT_LENGTH, ERR_ARTEFACT_WRITE; RefusalError and
 * BlockError of `runtime.backup`; then nothing has changed and no file is left
 * @example
 * const full = await backupToArtefact(runtime, { disk, bitmap: "daily", sync: "full", bitmapMode: "on-success", path: "mon.json" });
 * const { artefact } = await full.done;
 * const next = await backupToArtefact(runtime, { disk, bitmap: "daily", path: "tue.json", basedOn: artefact });
 */
export async function backupToArtefact(runtime: Runtime, options: ArtefactOptions): Promise<ArtefactBackup> {
  const { path, basedOn, why, through, ...backup } = options;
  const disk = typeof options.disk === "string" ? runtime.disk(options.disk) : options.disk;
  const sync = options.sync ?? defaultSync(options);
  const rawPath = rawPathOf(path);
  refuse(sync, basedOn, disk.length);
  const id = randomUUID();
  const head = {
    id,
    basedOn: basedOn === undefined ? null : typeof basedOn === "string" ? basedOn : basedOn.id,
    length: disk.length,
    sync,
    bitmap: options.bitmap ?? null,
    why: why ?? reasonOf(sync, options.bitmap),
  };
  await createRaw(path, rawPath, head.length);
  const target: NodeSpec = { driver: "file", filename: rawPath };
  let artefact: Artefact | undefined;
  const keep = async (
    clusterSize: number,
    time: string,
    complete: boolean,
    extents: ArtefactExtent[],
  ): Promise<void> => {
    const map: ArtefactMap = { ...head, clusterSize, time, complete, extents };
    await writeMap(path, map);
    artefact = { ...map, path, rawPath };
  };
  let job: Job;
  try {
    job = await runtime.backup({
      ...backup,
      sync,
      target: through === undefined ? target : through(target),
      targetIsZero: true,
      onCopied: async (copied) => {
        await keep(copied.clusterSize, frozenAt(runtime, copied), true, await extentsOf(copied));
      },
      onKept: async (kept) => {
        const extents = kept.ranges.map((range) => ({ ...range, kind: "data" as const }));
        await keep(partialCluster, frozenAt(runtime, kept), false, extents);
      },
    });
  } catch (error) {
    await rm(rawPath, { force: true });
    throw error;
  }
  const end = async (): Promise<ArtefactResult> => {
    const result = await job.done;
    const left = artefact?.complete === false && (result.kept ?? []).length > 0;
    if (result.status === "completed" || left) return { ...result, artefact };
    // A map may have been written before the cancel came. What cannot be removed stays, and harms no chain.
    for (const file of [path, rawPath]) await rm(file, { force: true }).catch(() => {});
    return { ...result, artefact: undefined };
  };
  return { job, id, done: end() };
}

/** As `runtime.backup` has it. */
function defaultSync({ bitmap, bitmapMode }: ArtefactOptions): "full" | "incremental" | "bitmap" {
  if (bitmap === undefined) return "full";
  return bitmapMode === undefined ? "incremental" : "bitmap";
}

/** What a failed backup left is told in bytes. */
const partialCluster = 512;

function refuse(sync: string, basedOn: Artefact | string | undefined, length: number): void {
  const operation = "backup to an artefact";
  if (sync !== "full" && sync !== "incremental" && sync !== "bitmap") {
    const desc = `expected sync full, incremental or bitmap, not ${sync}: its image could not be told from its artefacts`;
    throw new HeirloomError("ERR_ARTEFACT_SYNC", operation, desc, { fields: { sync } });
  }
  if (sync === "full" && basedOn !== undefined) {
    throw new HeirloomError(
      "ERR_ARTEFACT_BASE",
      operation,
      "expected no 'basedOn' with sync full, which builds on nothing",
    );
  }
  if (sync !== "full" && basedOn === undefined) {
    const desc = `expected 'basedOn' with sync ${sync}: the artefact of the bitmap's last success`;
    throw new HeirloomError("ERR_ARTEFACT_BASE", operation, desc, { fields: { sync } });
  }
  if (typeof basedOn === "object" && basedOn.length !== length) {
    const desc = `expected a disk of ${basedOn.length} bytes as that of '${basedOn.path}', not of ${length}: it was resized, so begin anew with sync full`;
    throw new HeirloomError("ERR_ARTEFACT_LENGTH", operation, desc, { fields: { length } });
  }
}

function reasonOf(sync: string, bitmap: string | undefined): string {
  if (bitmap === undefined) return "all of the disk";
  return sync === "full"
    ? `all of the disk, so that bitmap ${bitmap} begins anew`
    : `what bitmap ${bitmap} says changed since its last backup`;
}

/**
 * Exclusive creation decides whose files these are: only who made the raw file writes the map, or removes either.
 * @throws HeirloomError
 */
export async function createRaw(path: string, rawPath: string, length: number): Promise<void> {
  try {
    await using raw = await open(rawPath, "wx", 0o644);
    try {
      await using map = await open(path, "wx", 0o644); // nobody's map is replaced
      void map;
    } catch (error) {
      await rm(rawPath, { force: true });
      throw error;
    }
    await rm(path);
    await raw.truncate(length);
  } catch (error) {
    const desc = `expected to create '${rawPath}' and '${path}' (${(error as Error).message})`;
    throw new HeirloomError("ERR_ARTEFACT_WRITE", "backup to an artefact", desc, { fields: { path }, cause: error });
  }
}

/** The map is whole and durable under its name, or not there. */
export async function writeMap(path: string, map: ArtefactMap): Promise<void> {
  const temporary = `${path}.${map.id}.tmp`;
  try {
    const file = await open(temporary, "wx", 0o644);
    try {
      await file.writeFile(formatMap(map));
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
    const directory = await open(dirname(path), "r");
    try {
      await directory.sync(); // the raw file's name as well
    } finally {
      await directory.close();
    }
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}

/** Neighbours of one kind are one extent. */
async function extentsOf(copied: CopiedBackup): Promise<ArtefactExtent[]> {
  const extents: ArtefactExtent[] = [];
  for (const { offset, length, zero } of await copied.extents()) {
    const kind = zero ? "zero" : "data";
    const last = extents.at(-1);
    if (last?.kind === kind && last.offset + last.length === offset)
      extents[extents.length - 1] = { ...last, length: last.length + length };
    else extents.push({ offset, length, kind });
  }
  return extents;
}

/** The job's first entry is of the freeze. */
function frozenAt(runtime: Runtime, { job: id }: { readonly job: string }): string {
  const job = runtime.jobs.find((one) => one.id === id);
  return new Date(job === undefined ? Date.now() : job.history[0].at).toISOString();
}
