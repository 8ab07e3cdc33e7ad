/**
 * The spill file of a resumable job, which is found again after a restart. All numbers are little-endian.
 *
 *   offset  bytes                what
 *   0       512                  header: magic, crc32 of bytes 8 to 512, tag, bytes of a cluster
 *   512     512                  the mark that the point in time was given up; zeroes until then
 *   4096    512 + cluster each   entries: a head, and what the cluster held at the instant
 *
 *   head of an entry: magic 0, crc32 of bytes 8 to its end 4, tag 8, cluster 12, zeroes to 512
 *
 * An entry counts if its checksum is right: one that a kill or a power loss cut off does not, and then the guest that was
 * storing it has not written yet. One that was drained stays until its place is used again, and is right as long as it stands:
 * a cluster has one content at the instant of one job, which is what the tag names.
 */
import { crc32 } from "node:zlib";

export const entryHeadBytes = 512;
export const entriesAt = 4096;
export const givenUpAt = 512;

const magicAt = 0;
const checksumAt = 4;
const tagAt = 8;
const clusterAt = 12;

const headerMagic = Buffer.from("HLSh", "latin1").readUInt32LE();
const entryMagic = Buffer.from("HLSe", "latin1").readUInt32LE();
const givenUpMagic = Buffer.from("HLSx", "latin1").readUInt32LE();

/** What a thread needs of the file to find its slots. */
export function entryOffset(slot: number, clusterSize: number): number {
  return entriesAt + slot * (entryHeadBytes + clusterSize);
}
/** Whole entries in a file of so many bytes. */
export function entriesIn(bytes: number, clusterSize: number): number {
  return Math.max(0, Math.floor((bytes - entriesAt) / (entryHeadBytes + clusterSize)));
}

function viewOf({ buffer, byteOffset, byteLength }: Uint8Array): DataView {
  return new DataView(buffer, byteOffset, byteLength);
}

function seal(record: Uint8Array, magic: number, tag: number, value: number): void {
  const view = viewOf(record);
  view.setUint32(magicAt, magic, true);
  view.setInt32(tagAt, tag, true);
  view.setUint32(clusterAt, value, true);
  view.setUint32(checksumAt, crc32(record.subarray(tagAt)), true);
}

/** What a whole record of this magic and tag holds; -1 for anything else. */
function open(record: Uint8Array, magic: number, tag: number): number {
  const view = viewOf(record);
  if (view.getUint32(magicAt, true) !== magic || view.getInt32(tagAt, true) !== tag) return -1;
  if (view.getUint32(checksumAt, true) !== crc32(record.subarray(tagAt))) return -1;
  return view.getUint32(clusterAt, true);
}

/** Finishes an entry whose data stands already behind its head. */
export function sealEntry(entry: Uint8Array, tag: number, cluster: number): void {
  seal(entry, entryMagic, tag, cluster);
}
/** The cluster that an entry holds; -1 where it is not whole, or another job's. */
export function openEntry(entry: Uint8Array, tag: number): number {
  return open(entry, entryMagic, tag);
}

export function encodeHeader(tag: number, clusterSize: number): Uint8Array {
  const header = new Uint8Array(entryHeadBytes);
  seal(header, headerMagic, tag, clusterSize);
  return header;
}
export function isHeader(header: Uint8Array, tag: number, clusterSize: number): boolean {
  return open(header, headerMagic, tag) === clusterSize;
}

export function encodeGivenUp(tag: number): Uint8Array {
  const mark = new Uint8Array(entryHeadBytes);
  seal(mark, givenUpMagic, tag, 1);
  return mark;
}
/** Anything but zeroes: a mark that was cut off was being made. */
export function isGivenUp(mark: Uint8Array): boolean {
  return mark.some((byte) => byte !== 0);
}
