/** Making and finding the spill file of a resumable job. On helper threads. */
import { rmSync } from "node:fs";
import { dirname } from "node:path";
import {
  allocateRange,
  closeFile,
  type Errno,
  errnoName,
  fileSystemOf,
  O_CREAT,
  O_EXCL,
  O_RDONLY,
  O_RDWR,
  openFile,
  readFully,
  seekEnd,
  syncData,
  writeFully,
} from "@heirloom/block";
import { EngineError } from "./engine-error.ts";
import {
  encodeHeader,
  entriesAt,
  entriesIn,
  entryHeadBytes,
  entryOffset,
  givenUpAt,
  isGivenUp,
  isHeader,
  openEntry,
} from "./spill-entry.ts";
import { spaceRefusal } from "./spill-space.ts";
import { asResult, type TaskResult } from "./task-result.ts";

/** An open spill file that outlives its process. */
export interface KeptSpill {
  readonly path: string;
  readonly fd: number;
  /** Of the job: no other job's entries are taken for its own. Not 0. */
  readonly tag: number;
  /** Bytes that have room on disk. */
  readonly allocated: number;
}

/** Bytes that there is room for from the start, at most. */
const firstBytes = 64 * 1024 * 1024;

/** Clusters that a kept spill has room for when its job starts, of at most so many bytes. */
export function keptSlotsFirst(clusterSize: number, bytesMax: number): number {
  return Math.max(1, Math.floor(Math.min(firstBytes, bytesMax) / clusterSize));
}

export interface MakeSpillTask {
  readonly path: string;
  readonly tag: number;
  readonly clusterSize: number;
  /** Clusters that there is room for from the start. */
  readonly slots: number;
  readonly allowTmpfs: boolean;
  readonly floor: number;
}

/** Made before the freeze: from its first write on a guest may have something to store. Its name and header are durable. */
export function makeSpillTask(task: MakeSpillTask): Promise<TaskResult<KeptSpill>> {
  return asResult(() => {
    const { path, tag, clusterSize } = task;
    const fd = openFile(path, O_RDWR | O_CREAT | O_EXCL, 0o600);
    if (fd < 0) throw spillError("make", path, -fd);
    try {
      const to = entryOffset(task.slots, clusterSize);
      const facts = fileSystemOf(fd);
      if (typeof facts === "number") throw spillError("look at the file system of", path, facts);
      const refusal = spaceRefusal({ ...task, directory: dirname(path), from: 0, to }, facts);
      if (refusal !== undefined) throw new EngineError("ERR_SPILL", `spill file: ${refusal}`);
      expectDone("make room in", path, allocateRange(fd, 0, to));
      expectDone("write", path, writeFully(fd, encodeHeader(tag, clusterSize), 0) || syncData(fd));
      syncDirectory(dirname(path));
      return { path, fd, tag, allocated: to };
    } catch (error) {
      closeFile(fd);
      throw error;
    }
  });
}

export interface OpenSpillTask {
  readonly path: string;
  readonly tag: number;
  readonly clusterSize: number;
}
export interface FoundSpill {
  readonly spill: KeptSpill;
  /** Slot and cluster of each whole entry, one after the other. */
  readonly entries: Int32Array;
}

/** @throws EngineError, in a result, where nothing in it can be used */
export function openSpillTask({ path, tag, clusterSize }: OpenSpillTask): Promise<TaskResult<FoundSpill>> {
  return asResult(() => {
    const fd = openFile(path, O_RDWR);
    if (fd < 0) throw spillError("open", path, -fd);
    try {
      const header = new Uint8Array(entryHeadBytes);
      expectDone("read", path, readFully(fd, header, 0));
      if (!isHeader(header, tag, clusterSize))
        throw new EngineError("ERR_SPILL", `spill file '${path}': it is not the job's`);
      expectDone("read", path, readFully(fd, header, givenUpAt));
      if (isGivenUp(header)) throw new EngineError("ERR_SPILL", "its point in time had been given up");
      const allocated = seekEnd(fd);
      if (allocated < entriesAt) throw spillError("look for the end of", path, Math.max(0, -allocated));
      return { spill: { path, fd, tag, allocated }, entries: readEntries(fd, path, tag, clusterSize, allocated) };
    } catch (error) {
      closeFile(fd);
      throw error;
    }
  });
}

/** @param task.fd where nobody has closed it */
export function removeSpillTask(task: {
  readonly path: string;
  readonly fd: number | undefined;
}): Promise<TaskResult<void>> {
  return asResult(() => {
    rmSync(task.path, { force: true });
    if (task.fd !== undefined) closeFile(task.fd);
  });
}

function readEntries(fd: number, path: string, tag: number, clusterSize: number, bytes: number): Int32Array {
  const stride = entryHeadBytes + clusterSize;
  const perRead = Math.max(1, Math.floor(readBytes / stride));
  const buffer = new Uint8Array(perRead * stride);
  const found: number[] = [];
  const slots = entriesIn(bytes, clusterSize);
  for (let first = 0; first < slots; first += perRead) {
    const count = Math.min(perRead, slots - first);
    expectDone("read", path, readFully(fd, buffer.subarray(0, count * stride), entryOffset(first, clusterSize)));
    for (let index = 0; index < count; index++) {
      const cluster = openEntry(buffer.subarray(index * stride, (index + 1) * stride), tag);
      if (cluster !== -1) found.push(first + index, cluster);
    }
  }
  return Int32Array.from(found);
}

const readBytes = 4 * 1024 * 1024;

function syncDirectory(path: string): void {
  const fd = openFile(path, O_RDONLY);
  if (fd < 0) throw spillError("open", path, -fd);
  const errno = syncData(fd);
  closeFile(fd);
  expectDone("sync", path, errnoName(errno) === "EINVAL" ? 0 : errno);
}

function expectDone(operation: string, path: string, errno: Errno): void {
  if (errno !== 0) throw spillError(operation, path, errno);
}
function spillError(operation: string, path: string, errno: Errno): EngineError {
  return new EngineError("ERR_SPILL", `spill file: ${operation} '${path}': ${errnoName(errno)}`);
}
