/**
 * What helpers do for a journal: everything that blocks, one call each. Files are opened and closed here, on threads whose end closes
 * nothing. Errors are values: a class does not survive the way back.
 */
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from "node:fs";
import { dirname, join as joinPath, resolve } from "node:path";
import { threadId } from "node:worker_threads";
import { type BitmapHandle, SharedBitmap } from "@heirloom/bitmap";
import {
  allocateRange,
  BlockError,
  closeFile,
  connectNode,
  type Errno,
  errnoName,
  fileSystemOf,
  isUnsupported,
  loadDrivers,
  lockImage,
  type NodeHandle,
  O_CREAT,
  O_EXCL,
  O_RDONLY,
  O_RDWR,
  openFile,
} from "@heirloom/block";
import { waitOutside } from "@heirloom/engine/thread";
import { BlockBits, layerMemoryWords } from "./block-bits.ts";
import type { BitmapEntry, Directory, ImageIdentity } from "./directory.ts";
import { clearFailed, markFailed, type MarkedSidecar, readFailed, syncDirectory } from "./failed-mark.ts";
import { foldInto } from "./fold.ts";
import { bootId, identify, isSpillOf, sidecarPath } from "./identity.ts";
import type { JobEntry } from "./job-entry.ts";
import { JournalError, type JournalErrorCode } from "./journal-error.ts";
import { blockWords, layerBytes, layersAt } from "./layout.ts";
import { readLayer, readSidecar, type Sidecar } from "./recover.ts";
import { join, recoverLayer, type RecoveredBits, type RecoveryRules } from "./recover-bits.ts";
import { type JobState, recoverJob } from "./recover-job.ts";
import { RegionMarks } from "./region-marks.ts";
import * as steps from "./steps.ts";
import { FileStorage } from "./storage.ts";

export type Answer<Value> =
  | { readonly value: Value }
  | { readonly error: { readonly code: JournalErrorCode; readonly message: string } };

function answer<Value>(work: () => Value): Answer<Value> {
  try {
    return { value: work() };
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    if (error instanceof JournalError) return { error: { code: error.code, message } };
    const locked = error instanceof BlockError && error.code === "ERR_IMAGE_LOCKED";
    return { error: { code: locked ? "ERR_JOURNAL_LOCKED" : "ERR_JOURNAL_IO", message } };
  }
}

export interface LookTask {
  /** The image or device. */
  readonly filename: string;
  readonly path: string | undefined;
  readonly directory: string | undefined;
  readonly length: number;
}
export interface Look {
  readonly path: string;
  readonly exists: boolean;
  /** One that lies beside the image, where the place is another. */
  readonly forgotten: string | undefined;
  readonly image: ImageIdentity;
  readonly bootId: string;
}

/** Who the image is, and whether it has a sidecar. A device without a lasting name and without a place has none. */
export function lookTask({ filename, path, directory, length }: LookTask): Answer<Look> {
  return answer(() => {
    const place = path === undefined ? sidecarPath(filename, directory) : resolve(path);
    const image = identify(filename, length);
    const usual = usualSidecar(filename);
    const forgotten = usual === place ? undefined : usual;
    return { path: place, exists: existsSync(place), forgotten, image, bootId: bootId() };
  });
}

/** The sidecar that lies where sidecars lie by default, if there is one: for those who do not use it. */
export function findTask({ filename }: { readonly filename: string }): Answer<string | undefined> {
  return answer(() => usualSidecar(filename));
}

function usualSidecar(filename: string): string | undefined {
  try {
    const path = sidecarPath(filename);
    return existsSync(path) ? path : undefined;
  } catch (error) {
    if (error instanceof JournalError) return undefined; // a device without a lasting name has none
    throw error;
  }
}

export interface OpenTask {
  readonly path: string;
  /** The image or device. */
  readonly filename: string;
  readonly allowTmpfs: boolean;
  /** Makes a new one; the file must not exist, unless it takes the place of one that has failed. */
  readonly create: Directory | undefined;
  readonly replace: boolean;
}
export interface Opened {
  readonly fd: number;
  readonly sidecar: Sidecar;
  /** It failed when an earlier run had it, and could not say so itself. */
  readonly failed: string | undefined;
}

export function openTask({ path, filename, allowTmpfs, create, replace }: OpenTask): Answer<Opened> {
  return answer(() => {
    if (create !== undefined) makeSidecar(path, allowTmpfs, create, replace);
    const fd = openOrThrow(path, O_RDWR);
    try {
      refusePlace(fd, path, allowTmpfs);
      lockImage(fd, path, false);
      const sidecar = readSidecar(new FileStorage(fd), path);
      return { fd, sidecar, failed: readFailed({ path, filename, uuid: sidecar.superblock.uuid }) };
    } catch (error) {
      closeFile(fd);
      throw error;
    }
  });
}

/** Under another name until it is whole and durable: a crash leaves a sidecar, or none. */
function makeSidecar(path: string, allowTmpfs: boolean, directory: Directory, replace: boolean): void {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const temporary = `${path}.new`;
  rmSync(temporary, { force: true });
  const fd = openOrThrow(temporary, O_RDWR | O_CREAT | O_EXCL);
  try {
    refusePlace(fd, path, allowTmpfs);
    expectDone("make room in", temporary, allocate(fd, 0, layersAt));
    const superblock = { uuid: new Uint8Array(randomBytes(16)), createdAt: Date.now() };
    expectDone("write", temporary, steps.createSidecar(new FileStorage(fd), superblock, directory));
    if (!replace && existsSync(path))
      throw new JournalError("ERR_JOURNAL_PLACE", `make journal '${path}': it exists already`);
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  } finally {
    closeFile(fd);
  }
  expectDone("make room for", path, syncDirectory(dirname(path)));
}

function refusePlace(fd: number, path: string, allowTmpfs: boolean): void {
  const facts = fileSystemOf(fd);
  if (typeof facts === "number" || !facts.isTmpfs || allowTmpfs) return;
  const message = `journal '${path}': expected a place that outlives a power loss, but it is on a tmpfs, whose files are memory; name another with journal.path, or allow it with journal.allowTmpfs`;
  throw new JournalError("ERR_JOURNAL_PLACE", message);
}

function openOrThrow(path: string, flags: number): number {
  const fd = openFile(path, flags, 0o600);
  if (fd < 0) throw new JournalError("ERR_JOURNAL_IO", `open journal '${path}': ${errnoName(-fd)}`);
  return fd;
}

function expectDone(operation: string, path: string, errno: Errno): void {
  if (errno === 0) return;
  const code = errnoName(errno) === "ENOSPC" ? "ERR_JOURNAL_FULL" : "ERR_JOURNAL_IO";
  throw new JournalError(code, `${operation} journal '${path}': ${errnoName(errno)}`);
}

function allocate(fd: number, offset: number, length: number): Errno {
  const errno = allocateRange(fd, offset, length);
  return isUnsupported(errno) ? 0 : errno;
}

export interface CreateLayerTask {
  readonly fd: number;
  readonly tag: number;
  readonly layer: steps.NewLayer;
}
/** Room first, so that no guest's write finds a full disk. */
export function createLayerTask({ fd, tag, layer }: CreateLayerTask): Errno {
  const { length, granularity, offset } = layer;
  return allocate(fd, offset, layerBytes(length, granularity)) || steps.createLayer(new FileStorage(fd), tag, layer);
}

export interface WriteDirectoryTask {
  readonly fd: number;
  readonly record: Uint8Array;
  readonly sequence: number;
}
export function writeDirectoryTask({ fd, record, sequence }: WriteDirectoryTask): Errno {
  return steps.writeDirectory(new FileStorage(fd), record, sequence);
}

/** A layer and its memory, for any thread. */
export interface LayerReference extends steps.NewLayer {
  readonly buffer: SharedArrayBuffer;
  readonly byteOffset: number;
  readonly words: number;
}

function bitsOf(fd: number, tag: number, layer: LayerReference): BlockBits {
  return new BlockBits({
    storage: new FileStorage(fd),
    tag,
    layer: layer.id,
    offset: layer.offset,
    length: layer.length,
    granularity: layer.granularity,
    words: new Int32Array(layer.buffer, layer.byteOffset, layer.words),
    holder: threadId + 1,
  });
}

export interface RecoverTask {
  readonly fd: number;
  readonly sidecar: Sidecar;
  readonly entry: BitmapEntry;
  readonly rules: RecoveryRules;
  /** What the bitmap goes on with: one of the entry's layers, or a new one. */
  readonly layer: LayerReference;
  readonly marks: BitmapHandle;
}

/** Joins what a bitmap is made of into one layer. */
export function recoverTask({ fd, sidecar, entry, rules, layer, marks }: RecoverTask): RecoveredBits {
  const into = { bits: bitsOf(fd, sidecar.tag, layer), marks: SharedBitmap.from(marks) };
  return recoverLayer(new FileStorage(fd), sidecar, entry, rules, into);
}

export interface StoreSetTask {
  readonly fd: number;
  readonly tag: number;
  readonly layer: steps.NewLayer;
  readonly set: BitmapHandle;
}
/** What a bitmap says goes into a layer that nobody has yet. */
export function storeSetTask({ fd, tag, layer, set }: StoreSetTask): Errno {
  const { length, granularity } = layer;
  const words = new Int32Array(layerMemoryWords(length, granularity));
  const bits = new BlockBits({ ...layer, layer: layer.id, storage: new FileStorage(fd), tag, words, holder: 1 });
  return foldInto(bits, SharedBitmap.create(length, granularity), SharedBitmap.from(set));
}

export interface AddWordsTask {
  readonly fd: number;
  readonly tag: number;
  readonly layer: LayerReference;
  readonly words: Int32Array;
}
/** Adds bits, given as words, to a layer; durably. */
export function addWordsTask({ fd, tag, layer, words }: AddWordsTask): Errno {
  const bits = bitsOf(fd, tag, layer);
  for (let block = 0; block < bits.blocks; block++) {
    const errno = bits.add(block, words.subarray(block * blockWords, (block + 1) * blockWords), true);
    if (errno !== 0) return errno;
  }
  return new FileStorage(fd).sync();
}

export interface RecoverJobTask {
  readonly fd: number;
  readonly sidecar: Sidecar;
  readonly job: JobEntry;
  readonly lost: boolean;
  /** Of the frozen bitmap: its layer, and its memory. */
  readonly bits: LayerReference;
  readonly marks: BitmapHandle;
  readonly successor: BitmapHandle;
  readonly flushed: LayerReference;
  readonly entries: Int32Array;
}

/** The frozen bitmap gets what it said at the freeze; its layer may have more. The successor is there already. */
export function recoverJobTask(task: RecoverJobTask): JobState {
  const { fd, sidecar, job } = task;
  const storage = new FileStorage(fd);
  const marks = SharedBitmap.from(task.marks);
  let damaged = 0;
  const errno =
    readLayer(storage, sidecar.tag, job.set, marks.granularity, (block, words) => {
      if (words === undefined) damaged++;
      else join(marks, job.set, block, words);
    }) ||
    bitsOf(fd, sidecar.tag, task.bits).loadFrom(storage) ||
    bitsOf(fd, sidecar.tag, task.flushed).loadFrom(storage);
  const none = new Int32Array(0);
  if (damaged > 0) return { errno, refused: "what it is to copy is damaged", copied: none, flushed: none };
  if (errno !== 0) return { errno, refused: undefined, copied: none, flushed: none };
  return recoverJob(storage, sidecar, job, task.lost, marks, SharedBitmap.from(task.successor), task.entries);
}

/** Spill files beside a sidecar that no job of its has: a crash came between a job's end and theirs. */
export function removeOrphansTask({
  path,
  kept,
}: {
  readonly path: string;
  readonly kept: readonly string[];
}): Answer<void> {
  return answer(() => {
    const directory = dirname(path);
    for (const name of readdirSync(directory)) {
      const file = joinPath(directory, name);
      if (isSpillOf(path, name) && !kept.includes(file)) rmSync(file, { force: true });
    }
  });
}

export interface FoldTask {
  readonly fd: number;
  readonly tag: number;
  readonly layer: LayerReference;
  readonly into: BitmapHandle;
  readonly from: BitmapHandle;
}
export function foldTask({ fd, tag, layer, into, from }: FoldTask): Errno {
  return foldInto(bitsOf(fd, tag, layer), SharedBitmap.from(into), SharedBitmap.from(from));
}

/** The marks and the gate of a disk, for any thread. */
export interface MarksReference {
  readonly fd: number;
  readonly tag: number;
  readonly regionBytes: number;
  readonly regions: number;
  readonly markedMax: number;
  readonly words: Int32Array;
  readonly gate: Int32Array;
  readonly participantMax: number;
  readonly node: NodeHandle;
}

/** A settler waits so long for a request that is inside the gate. */
const outsideMs = 5000;

/** @returns errno; EAGAIN where a request stayed inside the gate */
export async function settleTask(task: MarksReference & { readonly all: boolean }): Promise<Errno> {
  await loadDrivers(task.node);
  const node = connectNode(task.node);
  const marks = new RegionMarks({
    ...task,
    storage: new FileStorage(task.fd),
    holder: threadId + 1,
    waitOutside: () => waitOutside(task.gate, task.participantMax, outsideMs),
    syncImage: () => node.flush(),
  });
  return marks.settle(task.all);
}

export interface ReleaseTask {
  readonly fd: number;
  readonly tag: number;
  readonly layers: readonly LayerReference[];
  readonly holder: number;
}
/** A thread has ended: blocks whose lock it held are written from memory and released. */
export function releaseTask({ fd, tag, layers, holder }: ReleaseTask): Errno {
  let failed: Errno = 0;
  for (const layer of layers) failed = bitsOf(fd, tag, layer).releaseOfDead(holder) || failed;
  return failed;
}

/** Whether a group's success stands in another sidecar. */
export function decidedTask({ path, group }: { readonly path: string; readonly group: string }): Answer<boolean> {
  return answer(() => {
    const fd = openOrThrow(path, O_RDONLY);
    try {
      return readSidecar(new FileStorage(fd), path).directory.decisions.includes(group);
    } finally {
      closeFile(fd);
    }
  });
}

/**
 * Nothing more can be written to a sidecar that says what is no longer true: it is taken away, and where that cannot be made durable
 * either, it is written down elsewhere. @returns whether the next start will know
 */
export function takeAwayTask({
  sidecar,
  reason,
}: {
  readonly sidecar: MarkedSidecar;
  readonly reason: string;
}): boolean {
  try {
    rmSync(sidecar.path, { force: true });
    if (syncDirectory(dirname(sidecar.path)) === 0) return true;
  } catch {
    // a file system that has turned read-only
  }
  return markFailed(sidecar, reason);
}

/** Its own record says it now. */
export function clearFailedTask({ sidecar }: { readonly sidecar: MarkedSidecar }): void {
  clearFailed(sidecar);
}

export async function syncNodeTask({ node }: { readonly node: NodeHandle }): Promise<Errno> {
  await loadDrivers(node);
  return connectNode(node).flush();
}

export function closeTask({ fd }: { readonly fd: number }): Errno {
  return closeFile(fd);
}
