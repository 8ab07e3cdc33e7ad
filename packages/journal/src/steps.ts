/** What is written to a sidecar beside bits and marks: single steps. */
import type { Errno } from "@heirloom/block";
import { emptyBlocks } from "./block.ts";
import { type Directory, encodeDirectory } from "./directory.ts";
import {
  blockBytes,
  blocksOf,
  directoryAt,
  directorySlotBytes,
  marksAt,
  marksSlotBytes,
  superblockAt,
  superblockCopyAt,
} from "./layout.ts";
import { encodeMarks } from "./mark-record.ts";
import type { Storage } from "./storage.ts";
import { usedPart } from "./record.ts";
import { encodeSuperblock, type Superblock, tagOf } from "./superblock.ts";

/** A new file. It counts from the moment at which its superblock is durable, which is the last thing. */
export function createSidecar(storage: Storage, superblock: Superblock, directory: Directory): Errno {
  const tag = tagOf(superblock);
  const marks = new Uint8Array(marksSlotBytes);
  encodeMarks(marks, [], tag, 1);
  const record = encodeSuperblock(superblock);
  return (
    storage.write(marks, marksAt + marksSlotBytes) ||
    storage.write(usedPart(encodeDirectory(directory, tag, 1)), directoryAt + directorySlotBytes) ||
    storage.sync() ||
    storage.write(record, superblockAt) ||
    storage.write(record, superblockCopyAt) ||
    storage.sync()
  );
}

/**
 * The directory as it is to be. The bits that it speaks of become durable before it, so that no layer leaves it whose bits are
 * not safe elsewhere.
 */
export function writeDirectory(storage: Storage, record: Uint8Array, sequence: number): Errno {
  return (
    storage.sync() ||
    storage.write(usedPart(record), directoryAt + (sequence % 2) * directorySlotBytes) ||
    storage.sync()
  );
}

export interface NewLayer {
  readonly id: number;
  readonly offset: number;
  readonly length: number;
  readonly granularity: number;
}

const blocksPerWrite = 512;

/** An empty layer. It is durable before any directory names it: `writeDirectory` syncs what was written before. */
export function createLayer(storage: Storage, tag: number, layer: NewLayer): Errno {
  const blocks = blocksOf(layer.length, layer.granularity);
  for (let first = 0; first < blocks; first += blocksPerWrite) {
    const count = Math.min(blocksPerWrite, blocks - first);
    const errno = storage.write(emptyBlocks(tag, layer.id, first, count), layer.offset + first * blockBytes);
    if (errno !== 0) return errno;
  }
  return 0;
}
