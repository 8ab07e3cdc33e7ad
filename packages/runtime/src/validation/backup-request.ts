/**
 * A backup request (reference 2.2): every check in QEMU's order, with QEMU's texts, as one pure function. Numbers in the
 * comments are those of the reference. Nothing is frozen here; what `checkBackup` accepts, the coordinator can start, but
 * for memory, threads and the gate.
 *
 * The runtime inserts no filter node (guests pass the disk's gate instead); the name of one is checked all the same, so
 * that a tool that gives one gets the answers that it knows.
 */
import { accepted, refusal, refused, type Checked, type Refusal } from "../errors.ts";
import { refuseBitmapOperation } from "./bitmap-operation.ts";
import { deviceNotFound, invalidType, invalidValue, type BitmapFacts, type Facts, type NodeFacts } from "./facts.ts";
import { refuseJobId, refuseNodeName } from "./identifier.ts";
import { bitmapModes, syncs, type BitmapMode, type Sync } from "./outcome.ts";

export type OnError = "report" | "ignore" | "enospc" | "stop" | "auto";
export const onErrors: readonly OnError[] = ["report", "ignore", "enospc", "stop", "auto"];

export const jobClusterSizeMin = 65536;
export const maxWorkersDefault = 64;

export interface BackupRequest {
  /** Unique among jobs; required (QEMU takes the device's name, which our nodes do not have). */
  readonly jobId?: string;
  readonly source: string;
  readonly target: string;
  readonly sync: Sync;
  readonly bitmap?: string;
  readonly bitmapMode?: BitmapMode;
  /** Bytes per second; 0, the default, for no limit. */
  readonly speed?: number;
  readonly compress?: boolean;
  readonly onSourceError?: OnError;
  readonly onTargetError?: OnError;
  readonly autoFinalize?: boolean;
  readonly autoDismiss?: boolean;
  readonly filterNodeName?: string;
  readonly maxWorkers?: number;
  /** Bytes; 0, the default, for no limit. */
  readonly maxChunk?: number;
  /** Bytes, a power of two; 0, the default, for none. */
  readonly minClusterSize?: number;
}

export interface NormalizedBackup {
  readonly jobId: string;
  readonly source: string;
  readonly target: string;
  /** As asked for; `incremental` is `bitmap` with mode on-success. */
  readonly sync: Sync;
  /** What the view's set is made from. */
  readonly set: "all" | "allocated" | "bitmap";
  /** False: nothing is copied but what guests overwrite, and the job ends by being cancelled. */
  readonly copies: boolean;
  readonly bitmap: { readonly name: string; readonly mode: BitmapMode } | null;
  /** Bytes. */
  readonly clusterSize: number;
  readonly speed: number;
  readonly compress: boolean;
  readonly onSourceError: OnError;
  readonly onTargetError: OnError;
  readonly autoFinalize: boolean;
  readonly autoDismiss: boolean;
  readonly maxWorkers: number;
  readonly maxChunk: number;
}

/** Bytes of a job's cluster (reference 3.2): independent of any granularity. */
export function jobClusterSize(targetClusterSize: number, minClusterSize: number = 0): number {
  return Math.max(jobClusterSizeMin, targetClusterSize, minClusterSize);
}

/** What a JavaScript caller can get wrong before anything is looked up. */
function refuseShape(request: BackupRequest): Refusal | undefined {
  const strings = ["jobId", "source", "target", "bitmap", "filterNodeName"] as const;
  for (const key of strings) {
    const required = key === "source" || key === "target";
    if (request[key] === undefined ? required : typeof request[key] !== "string") return invalidType(key, "string");
  }
  for (const key of ["compress", "autoFinalize", "autoDismiss"] as const) {
    if (request[key] !== undefined && typeof request[key] !== "boolean") return invalidType(key, "boolean");
  }
  for (const key of ["speed", "maxWorkers", "maxChunk", "minClusterSize"] as const) {
    if (request[key] !== undefined && !Number.isSafeInteger(request[key])) return invalidType(key, "integer");
  }
  if (!syncs.includes(request.sync)) return invalidValue("sync", request.sync);
  if (request.bitmapMode !== undefined && !bitmapModes.includes(request.bitmapMode)) {
    return invalidValue("bitmap-mode", request.bitmapMode);
  }
  if (!onErrors.includes(request.onSourceError ?? "report"))
    return invalidValue("on-source-error", request.onSourceError);
  if (!onErrors.includes(request.onTargetError ?? "report"))
    return invalidValue("on-target-error", request.onTargetError);
  return undefined;
}

interface Pair {
  readonly bitmap: BitmapFacts | undefined;
  readonly mode: BitmapMode | undefined;
}

/** 2 to 9: sync, bitmap and mode fit each other. */
function checkPair(request: BackupRequest, source: NodeFacts): Checked<Pair> {
  const { sync } = request;
  if ((sync === "bitmap" || sync === "incremental") && request.bitmap === undefined) {
    return refused(
      refusal("ERR_BACKUP_BITMAP_REQUIRED", `must provide a valid bitmap name for '${sync}' sync mode`, { sync }),
    );
  }
  if (sync === "incremental" && request.bitmapMode !== undefined && request.bitmapMode !== "on-success") {
    return refused(
      badMode("Bitmap sync mode must be 'on-success' when using sync mode 'incremental'", sync, request.bitmapMode),
    );
  }
  const mode = sync === "incremental" ? "on-success" : request.bitmapMode;
  if (request.bitmap === undefined) {
    return mode === undefined
      ? accepted({ bitmap: undefined, mode })
      : refused(badMode("Cannot specify bitmap sync mode without a bitmap", sync, mode));
  }
  const bitmap = source.bitmap(request.bitmap);
  if (bitmap === undefined) {
    return refused(
      refusal("ERR_BITMAP_NOT_FOUND", `Bitmap '${request.bitmap}' could not be found`, {
        node: source.name,
        bitmap: request.bitmap,
      }),
    );
  }
  if (mode === undefined) {
    return refused(badMode("Bitmap sync mode must be given when providing a bitmap", sync, undefined));
  }
  // 6: a readonly bitmap is looked at later (14), after the target.
  const busy = refuseBitmapOperation(bitmap.name, { ...bitmap, readonly: false }, "backup");
  if (busy !== undefined) return refused(busy);
  if (sync === "none") {
    return refused(badMode("sync mode 'none' does not produce meaningful bitmap outputs", sync, mode));
  }
  if (mode === "never" && (sync === "full" || sync === "top")) {
    return refused(
      badMode(`Bitmap sync mode 'never' has no meaningful effect when combined with sync mode '${sync}'`, sync, mode),
    );
  }
  return accepted({ bitmap, mode });
}

function badMode(desc: string, sync: Sync, mode: BitmapMode | undefined): Refusal {
  return refusal("ERR_BACKUP_BITMAP_MODE", desc, { sync, ...(mode === undefined ? {} : { bitmapMode: mode }) });
}

function nodeBusy(node: string, reason: string): Refusal {
  return refusal("ERR_NODE_BUSY", `Node '${node}' is busy: ${reason}`, { node });
}

/** 10 to 12: the two nodes can be source and target of one job. */
function refuseNodes(request: BackupRequest, source: NodeFacts, target: NodeFacts): Refusal | undefined {
  if (source.name === target.name || source.identity === target.identity) {
    return refusal("ERR_BACKUP_SAME_NODE", "Source and target cannot be the same", {
      source: source.name,
      target: target.name,
    });
  }
  if (request.compress === true && !target.compression) {
    return refusal("ERR_BACKUP_COMPRESSION", `Compression is not supported for this drive ${target.name}`, {
      target: target.name,
    });
  }
  if (source.sourceBlocked !== undefined) return nodeBusy(source.name, source.sourceBlocked);
  if (target.targetBlocked !== undefined) return nodeBusy(target.name, target.targetBlocked);
  if (target.lettingGo !== undefined) {
    return refusal(
      "ERR_TARGET_LETTING_GO",
      `Node '${target.name}' is busy: job '${target.lettingGo}' has ended and is still letting go of it`,
      { node: target.name, job: target.lettingGo },
    );
  }
  return undefined;
}

/** 13: limits of the copier. */
function refuseLimits(workers: number, chunk: number, minClusterSize: number): Refusal | undefined {
  if (workers < 1 || workers > 2147483647) {
    return refusal("ERR_INVALID_ARGUMENT", "max-workers must be between 1 and 2147483647", {
      parameter: "max-workers",
      value: workers,
    });
  }
  if (chunk < 0) {
    return refusal("ERR_INVALID_ARGUMENT", "max-chunk must be zero (which means no limit) or positive", {
      parameter: "max-chunk",
      value: chunk,
    });
  }
  if (minClusterSize < 0 || (minClusterSize > 0 && !Number.isInteger(Math.log2(minClusterSize)))) {
    return refusal("ERR_INVALID_ARGUMENT", "min-cluster-size needs to be a power of 2", {
      parameter: "min-cluster-size",
      value: minClusterSize,
    });
  }
  return undefined;
}

/** 15 to 17: what QEMU refuses while it puts the filter in; from here on it would have to reclaim the bitmap. */
function refuseFilter(
  request: BackupRequest,
  source: NodeFacts,
  target: NodeFacts,
  clusterSize: number,
  facts: Facts,
): Refusal | undefined {
  if (source.length !== target.length) {
    return refusal("ERR_BACKUP_SIZES", "Source and target image have different sizes", {
      source: source.name,
      sourceLength: source.length,
      target: target.name,
      targetLength: target.length,
    });
  }
  if (request.filterNodeName !== undefined) {
    const reason = refuseNodeName(request.filterNodeName, (name) => facts.node(name) !== undefined);
    if (reason !== undefined) return { ...reason, desc: `Could not create node: ${reason.desc}` };
  }
  if (target.readOnly) {
    return refusal("ERR_NODE_READ_ONLY", "Could not create node: Block node is read-only", { node: target.name });
  }
  const chunk = request.maxChunk ?? 0;
  if (chunk > 0 && chunk < clusterSize) {
    return refusal(
      "ERR_BACKUP_CHUNK",
      `Required max-chunk (${chunk}) is less than backup cluster size (${clusterSize})`,
      { maxChunk: chunk, clusterSize },
    );
  }
  return undefined;
}

/** 18: the job itself. */
function refuseJob(jobId: string, speed: number, facts: Facts): Refusal | undefined {
  const reason = refuseJobId(jobId, (id) => facts.job(id));
  if (reason !== undefined) return reason;
  return speed < 0
    ? refusal("ERR_JOB_SPEED", "Parameter 'speed' expects a non-negative value", { job: jobId, speed })
    : undefined;
}

/** All of it. */
export function checkBackup(request: BackupRequest, facts: Facts): Checked<NormalizedBackup> {
  const shape = refuseShape(request);
  if (shape !== undefined) return refused(shape);
  // 1: both are looked up first.
  const source = facts.node(request.source);
  if (source === undefined) return refused(deviceNotFound(request.source));
  const target = facts.node(request.target);
  if (target === undefined) return refused(deviceNotFound(request.target));
  const pair = checkPair(request, source);
  if (!pair.ok) return pair;
  const { bitmap, mode } = pair.value;
  const { jobId = "", speed = 0, maxWorkers = maxWorkersDefault, maxChunk = 0, minClusterSize = 0 } = request;
  const clusterSize = jobClusterSize(target.clusterSize, minClusterSize);
  const reason =
    refuseNodes(request, source, target) ??
    refuseLimits(maxWorkers, maxChunk, minClusterSize) ??
    // 14: only mode never will do with a bitmap that cannot be changed.
    (bitmap === undefined || mode === undefined
      ? undefined
      : refuseBitmapOperation(bitmap.name, bitmap, mode === "never" ? "backup-never" : "backup")) ??
    refuseFilter(request, source, target, clusterSize, facts) ??
    refuseJob(jobId, speed, facts);
  if (reason !== undefined) return refused(reason);
  return accepted({
    jobId,
    source: source.name,
    target: target.name,
    sync: request.sync,
    set: setOf(request.sync),
    copies: request.sync !== "none",
    bitmap: bitmap === undefined || mode === undefined ? null : { name: bitmap.name, mode },
    clusterSize,
    speed,
    compress: request.compress ?? false,
    onSourceError: request.onSourceError ?? "report",
    onTargetError: request.onTargetError ?? "report",
    autoFinalize: request.autoFinalize ?? true,
    autoDismiss: request.autoDismiss ?? true,
    maxWorkers,
    maxChunk,
  });
}

function setOf(sync: Sync): NormalizedBackup["set"] {
  if (sync === "bitmap" || sync === "incremental") return "bitmap";
  return sync === "top" ? "allocated" : "all";
}

/** What an error policy does about one error (reference 3.6). */
export function errorAction(policy: OnError, noSpace: boolean): "report" | "ignore" | "stop" {
  if (policy === "enospc" || policy === "auto") return noSpace ? "stop" : "report";
  return policy;
}
