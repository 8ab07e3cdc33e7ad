/**
 * Reading a sidecar back: what it says, whether it may be believed, and the bits of each bitmap. Pure but for the storage:
 * nothing is changed here.
 */
import { isBlock } from "./block.ts";
import {
  type BitmapEntry,
  decodeDirectory,
  type Directory,
  type ImageIdentity,
  type LayerEntry,
  type StopKind,
} from "./directory.ts";
import { JournalError } from "./journal-error.ts";
import {
  blockBitsAt,
  blockBytes,
  blocksOf,
  blockWords,
  directoryAt,
  directoryMagic,
  directorySlotBytes,
  marksAt,
  marksMagic,
  marksSlotBytes,
  superblockAt,
  superblockBytes,
  superblockCopyAt,
} from "./layout.ts";
import { decodeMarks } from "./mark-record.ts";
import { newerOf, viewOf } from "./record.ts";
import type { Storage } from "./storage.ts";
import { decodeSuperblock, type Superblock, tagOf } from "./superblock.ts";

export interface Sidecar {
  readonly superblock: Superblock;
  readonly tag: number;
  readonly directory: Directory;
  readonly directorySequence: number;
  /** Regions marked; undefined where neither slot is whole. */
  readonly marks: readonly number[] | undefined;
  readonly marksSequence: number;
}

/** @throws JournalError */
export function readSidecar(storage: Storage, path: string): Sidecar {
  const copies = [superblockAt, superblockCopyAt].map((offset) => readAt(storage, offset, superblockBytes, path));
  const superblock = decodeSuperblock(copies, path);
  const tag = tagOf(superblock);
  const directory = newerOf(readSlots(storage, directoryAt, directorySlotBytes, path), directoryMagic, tag);
  if (directory === undefined) {
    const message = `open journal '${path}': expected a directory, but neither of its two slots is whole`;
    throw new JournalError("ERR_JOURNAL_DAMAGED", message);
  }
  const marks = newerOf(readSlots(storage, marksAt, marksSlotBytes, path), marksMagic, tag);
  return {
    superblock,
    tag,
    directory: decodeDirectory(directory.record, directory.frame),
    directorySequence: directory.frame.sequence,
    marks: marks === undefined ? undefined : decodeMarks(marks.record, marks.frame),
    marksSequence: marks?.frame.sequence ?? 0,
  };
}

function readSlots(storage: Storage, offset: number, length: number, path: string): [Uint8Array, Uint8Array] {
  return [readAt(storage, offset, length, path), readAt(storage, offset + length, length, path)];
}

function readAt(storage: Storage, offset: number, length: number, path: string): Uint8Array {
  const bytes = new Uint8Array(length);
  const errno = storage.read(bytes, offset);
  if (errno === 0) return bytes;
  throw new JournalError("ERR_JOURNAL_IO", `read journal '${path}' at ${offset}: errno ${errno}`);
}

/** How the last run ended, and why its bitmaps cannot be believed if they cannot. */
export interface Judgement {
  readonly kind: StopKind;
  readonly distrust: string | undefined;
  /** The system was started anew since, be it after a clean stop: page caches that are not the disk's own are gone. */
  readonly rebooted: boolean;
}

/**
 * After a clean stop the image must be what it was: itself, its length, the time of its last change. After a crash its times say nothing, since
 * the guest wrote until the end; who it is and how long it is must be right.
 */
export function judge({ directory, marks }: Sidecar, image: ImageIdentity, bootId: string): Judgement {
  const { image: known, inUse, nextLength } = directory;
  const rebooted = directory.bootId !== bootId;
  const kind = inUse ? (rebooted ? "power-loss" : "killed") : "clean";
  if (known.kind !== image.kind || known.name !== image.name) {
    const distrust = `the journal belongs to another image (it knows ${known.kind} ${known.name}, this is ${image.kind} ${image.name}): one of the two was copied, replaced or moved without the other`;
    return { kind, distrust, rebooted };
  }
  if (image.length !== known.length && image.length !== nextLength) {
    const distrust = `the image has ${image.length} bytes and had ${known.length}: it was resized behind Heirloom's back`;
    return { kind, distrust, rebooted };
  }
  // Not by the time of its inode: renaming it, or giving it to another user, writes nothing.
  if (kind === "clean" && image.modified !== known.modified) {
    const distrust = `the image was changed behind Heirloom's back at ${timeText(image.modified)}, after it was closed at ${new Date(directory.closedAt).toISOString()}`;
    return { kind, distrust, rebooted };
  }
  if (kind === "power-loss" && marks === undefined)
    return { kind, distrust: "neither record of the regions that were being written is whole", rebooted };
  return { kind, distrust: undefined, rebooted };
}

/** For people; empty where there is no such time (a device). */
export function lastWritten({ modified }: ImageIdentity): string {
  return modified === 0n ? "" : `the image was last written at ${timeText(modified)}`;
}

function timeText(nanoseconds: bigint): string {
  return new Date(Number(nanoseconds / 1_000_000n)).toISOString();
}

/** The layers that a bitmap is made of: the join of all, or its successor alone where an abdicate is true. */
export function layersOf(bitmap: BitmapEntry, decided: boolean): readonly LayerEntry[] {
  if (bitmap.pending === null || !decided) return bitmap.layers;
  return bitmap.layers.filter((layer) => layer.role === "successor");
}

/** Blocks read at once. */
const blocksPerRead = 512;

/**
 * Reads the blocks of a layer. @param visit gets each block with something set; `bits` undefined for one that is damaged: any of
 * its granules may be dirty. @returns errno
 */
export function readLayer(
  storage: Storage,
  tag: number,
  layer: LayerEntry,
  granularity: number,
  visit: (block: number, bits: Int32Array | undefined) => void,
): number {
  const blocks = blocksOf(layer.length, granularity);
  const buffer = new Uint8Array(blocksPerRead * blockBytes);
  const bits = new Int32Array(blockWords);
  for (let first = 0; first < blocks; first += blocksPerRead) {
    const count = Math.min(blocksPerRead, blocks - first);
    const part = buffer.subarray(0, count * blockBytes);
    const errno = storage.read(part, layer.offset + first * blockBytes);
    if (errno !== 0) return errno;
    for (let index = 0; index < count; index++) {
      const block = part.subarray(index * blockBytes, (index + 1) * blockBytes);
      if (!isBlock(block, tag, layer.id, first + index)) visit(first + index, undefined);
      else if (readBits(block, bits)) visit(first + index, bits);
    }
  }
  return 0;
}

/** @returns whether any is set */
function readBits(block: Uint8Array, bits: Int32Array): boolean {
  const view = viewOf(block);
  let any = 0;
  for (let word = 0; word < blockWords; word++) any |= bits[word] = view.getInt32(blockBitsAt + 4 * word, true);
  return any !== 0;
}
