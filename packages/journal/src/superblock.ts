/** The superblock: what the file is. Written once, twice over. */
import { JournalError } from "./journal-error.ts";
import { ByteReader, ByteWriter } from "./byte-cursor.ts";
import { formatVersion, frameBytes, superblockBytes, superblockMagic } from "./layout.ts";
import { openRecord, seal, viewOf } from "./record.ts";

/** Version, 4 of padding, UUID, time. */
const superblockLength: number = frameBytes + 4 + 4 + 16 + 8;

export interface Superblock {
  /** 16 bytes. */
  readonly uuid: Uint8Array;
  /** Milliseconds since the epoch. */
  readonly createdAt: number;
}

/** What tells records and blocks of one sidecar from those of another. */
export function tagOf({ uuid }: Superblock): number {
  return viewOf(uuid).getUint32(0, true);
}

export function encodeSuperblock(superblock: Superblock): Uint8Array {
  const record = new Uint8Array(superblockBytes);
  const writer = new ByteWriter(record, frameBytes);
  writer.u32(formatVersion);
  writer.u32(0);
  writer.bytes(superblock.uuid);
  writer.u64(superblock.createdAt);
  seal(record, { magic: superblockMagic, tag: tagOf(superblock), sequence: 1, length: superblockLength });
  return record;
}

/**
 * @param copies what lies in the two places
 * @throws JournalError for what is no sidecar, and for a newer one
 */
export function decodeSuperblock(copies: readonly Uint8Array[], path: string): Superblock {
  for (const record of copies) {
    const frame = openRecord(record, superblockMagic, undefined);
    if (frame === undefined) continue;
    const reader = new ByteReader(record.subarray(0, frame.length), frameBytes);
    const version = reader.u32();
    if (version !== formatVersion) {
      const message = `open journal '${path}': expected a format of version ${formatVersion}, found version ${version}; use the Heirloom that wrote it, or a later one`;
      throw new JournalError("ERR_JOURNAL_VERSION", message);
    }
    reader.u32();
    return { uuid: reader.bytes(16), createdAt: reader.number() };
  }
  const message = `open journal '${path}': expected a sidecar of Heirloom's, but neither of its two superblocks is whole`;
  throw new JournalError("ERR_JOURNAL_DAMAGED", message);
}
