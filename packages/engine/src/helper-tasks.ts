/**
 * What helpers do: work that blocks for a moment and belongs to nobody's straight-line path. A helper touches no gate. Files
 * are opened and closed here, on threads whose end closes nothing, so a descriptor outlives the thread that opened it.
 */
import { type BitmapHandle, SharedBitmap } from "@heirloom/bitmap";
import {
  allocateRange,
  BlockError,
  closeFile,
  closeNode,
  connectNode,
  type Errno,
  errnoName,
  fileSystemOf,
  type ImageUse,
  loadDrivers,
  lockNode,
  type NodeHandle,
  type NodeSpec,
  O_RDWR,
  O_TMPFILE,
  openFile,
  openNode,
  reopenNode,
  type StatusExtent,
  syncData,
  unlockNode,
} from "@heirloom/block";
import { EngineError } from "./engine-error.ts";
import { spaceRefusal, type SpaceWanted } from "./spill-space.ts";
import { asResult, type TaskResult } from "./task-result.ts";

export interface OpenTask {
  readonly spec: NodeSpec;
}
/** An open node, with what the main thread wants to know of it. */
export interface OpenedNode {
  readonly handle: NodeHandle;
  readonly length: number;
}

export function openTask(task: OpenTask): Promise<TaskResult<OpenedNode>> {
  return asResult(async () => {
    const handle = await openNode(task.spec);
    try {
      return { handle, length: connectNode(handle).length() };
    } catch (error) {
      closeNode(handle);
      throw error;
    }
  });
}

export function closeTask(task: { readonly handle: NodeHandle }): Promise<TaskResult<void>> {
  return asResult(async () => {
    await loadDrivers(task.handle);
    closeNode(task.handle);
  });
}

export interface LockTask {
  readonly handle: NodeHandle;
  readonly before: ImageUse;
  readonly after: ImageUse;
}

export function lockTask({ handle, before, after }: LockTask): Promise<TaskResult<void>> {
  return asResult(() => lockNode(handle, before, after));
}

export interface ReopenTask {
  readonly handle: NodeHandle;
  readonly readOnly: boolean;
  /** What it is locked for now. */
  readonly use: ImageUse;
}

export function reopenTask({ handle, readOnly, use }: ReopenTask): Promise<TaskResult<void>> {
  return asResult(async () => {
    await loadDrivers(handle);
    reopenNode(handle, readOnly, use);
  });
}

export function unlockTask({ handle }: { readonly handle: NodeHandle }): Promise<TaskResult<void>> {
  return asResult(() => unlockNode(handle));
}

/** @returns errno */
export function flushTask(task: { readonly handle: NodeHandle }): Promise<TaskResult<Errno>> {
  return asResult(async () => {
    await loadDrivers(task.handle);
    return connectNode(task.handle).flush();
  });
}

/** @returns errno */
export function resizeTask(task: { readonly handle: NodeHandle; readonly length: number }): Promise<TaskResult<Errno>> {
  return asResult(async () => {
    await loadDrivers(task.handle);
    return connectNode(task.handle).resize(task.length);
  });
}

export interface StatusTask {
  readonly handle: NodeHandle;
  /** Ranges to ask about, in order: offset, length, offset, length ... bytes. */
  readonly ranges: Float64Array;
}

/** Cuts ranges at the borders of data and zeroes. @returns offset, length, 1 for zero or 0 for data ... */
export function statusTask(task: StatusTask): Promise<TaskResult<Float64Array>> {
  return asResult(async () => {
    await loadDrivers(task.handle);
    const node = connectNode(task.handle);
    const extent: StatusExtent = { length: 0, zero: false, allocated: false };
    const found: number[] = [];
    for (let at = 0; at < task.ranges.length; at += 2) {
      let offset = task.ranges[at];
      const end = offset + task.ranges[at + 1];
      while (offset < end) {
        const errno = node.status(offset, end - offset, extent);
        if (errno !== 0)
          throw new BlockError("ERR_IO", `look for holes at offset ${offset}: ${errnoName(errno)}`, { offset, errno });
        found.push(offset, extent.length, extent.zero ? 1 : 0);
        offset += extent.length;
      }
    }
    return Float64Array.from(found);
  });
}

export interface SpillFileTask extends SpaceWanted {
  /** -1 to make it. */
  readonly fd: number;
}
export interface SpillFile {
  readonly fd: number;
  /** Bytes that have room now. */
  readonly allocated: number;
}

/**
 * Makes or grows a spill file: unlinked from the start, mode 0600, room by fallocate, so that a guest's write into it does
 * not find a full disk.
 */
export function spillFileTask(task: SpillFileTask): Promise<TaskResult<SpillFile>> {
  return asResult(() => {
    let { fd } = task;
    if (fd === -1) {
      fd = openFile(task.directory, O_RDWR | O_TMPFILE, 0o600);
      if (fd < 0) throw spillError(`open a file in ${task.directory}`, -fd);
    }
    const facts = fileSystemOf(fd);
    const refusal =
      typeof facts === "number"
        ? `look at the file system of ${task.directory}: ${errnoName(facts)}`
        : spaceRefusal(task, facts);
    const errno = refusal === undefined ? allocateRange(fd, task.from, task.to - task.from) : 0;
    if (refusal === undefined && errno === 0) return { fd, allocated: task.to };
    if (task.fd === -1) closeFile(fd);
    if (refusal !== undefined) throw new EngineError("ERR_SPILL", `spill file: ${refusal}`);
    throw spillError(`make room for ${task.to} bytes in ${task.directory}`, errno);
  });
}

function spillError(operation: string, errno: Errno): EngineError {
  return new EngineError("ERR_SPILL", `spill file: ${operation}: ${errnoName(errno)}`);
}

export interface FoldTask {
  readonly into: BitmapHandle;
  readonly from: BitmapHandle;
}

/** A fold that would keep the main thread too long. Guests may mark both bitmaps meanwhile. */
export function foldTask(task: FoldTask): Promise<TaskResult<void>> {
  return asResult(() => SharedBitmap.from(task.into).fold(SharedBitmap.from(task.from)));
}

/** @returns errno */
export function syncFileTask(task: { readonly fd: number }): Promise<TaskResult<Errno>> {
  return asResult(() => syncData(task.fd));
}

export function closeFileTask(task: { readonly fd: number }): Promise<TaskResult<Errno>> {
  return asResult(() => closeFile(task.fd));
}

export interface ModuleTask {
  /** File URL. */
  readonly module: string;
  /** An export of it: a function of `task`. What it returns is posted back. */
  readonly name: string;
  readonly task: unknown;
}

/** Work of another package's, given by file URL, so that the engine imports none of them. */
export async function moduleTask({ module, name, task }: ModuleTask): Promise<unknown> {
  const exports = (await import(module)) as Record<string, (task: unknown) => unknown>;
  return await exports[name](task);
}
