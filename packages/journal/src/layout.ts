/**
 * Where everything lies in a sidecar. All numbers are little-endian.
 *
 *   offset    bytes     what                                   written
 *   0         4096      superblock                             once, when the file is made
 *   4096      4096      its copy                               once
 *   8192      2 x 4096  marks, slots 0 and 1                   in turn: at each new mark and after each settling
 *   16384     2 x 65536 directory, slots 0 and 1               in turn: at each command that changes a bitmap
 *   147456    ...       layers: blocks of bits, 512 bytes each in place, bits are only ever added
 *
 * A *record* (superblock, marks, directory) begins with a frame: magic, checksum, length, tag, sequence. Two slots hold the
 * last two versions; what is valid and has the higher sequence counts. A write of the one slot is synced before the next
 * write of the other begins, so a power loss tears at most the newer one, which then counts as never written.
 *
 * A *block* is one sector and carries its own checksum and place. It is rewritten where it lies, and needs no second slot:
 * its bits only grow, so the old sector and the new one are both right as long as what the new one adds is covered by a mark.
 */

export const sectorBytes = 512;
export const formatVersion = 1;

/** The frame of a record. */
export const frameMagicAt = 0;
/** crc32 of the record's bytes from `frameLengthAt` on. */
export const frameChecksumAt = 4;
/** Bytes of the record that are covered, frame included. */
export const frameLengthAt = 8;
/** The first four bytes of the journal's UUID: a record of another sidecar is not taken for one of ours. */
export const frameTagAt = 12;
export const frameSequenceAt = 16;
export const frameBytes = 24;

export const superblockMagic: number = magicOf("HLJs");
export const marksMagic: number = magicOf("HLJm");
export const directoryMagic: number = magicOf("HLJd");
export const blockMagic: number = magicOf("HLJb");

export const superblockAt = 0;
export const superblockCopyAt = 4096;
export const superblockBytes = 4096;
export const marksAt = 8192;
export const marksSlotBytes = 4096;
export const directoryAt = 16384;
export const directorySlotBytes = 65536;
export const layersAt = 147456;

/** Marks in a slot at most: 4096 = 24 + 8 + 1016 x 4. */
export const marksMax = 1016;
export const marksCountAt = 24;
export const marksListAt: number = frameBytes + 8;

/** A block of bits: 512 = 32 + 480. */
export const blockBytes = 512;
export const blockMagicAt = 0;
/** crc32 of bytes 8 to 512. */
export const blockChecksumAt = 4;
export const blockTagAt = 8;
export const blockLayerAt = 12;
export const blockIndexAt = 16;
export const blockBitsAt = 32;
export const blockBitBytes: number = blockBytes - blockBitsAt;
export const blockWords: number = blockBitBytes / 4;
/** 3840: at granules of 64 KiB, 240 MiB of the disk. */
export const blockGranules: number = blockBitBytes * 8;
/** Layers begin and end at whole pages. */
export const pageBytes = 4096;

/** More granules than this are refused: half a gigabyte of bits. */
export const keptGranulesMax: number = 2 ** 32;

export function blocksOf(length: number, granularity: number): number {
  return Math.max(1, Math.ceil(Math.ceil(length / granularity) / blockGranules));
}

/** Bytes that a layer takes in the file. */
export function layerBytes(length: number, granularity: number): number {
  return Math.ceil((blocksOf(length, granularity) * blockBytes) / pageBytes) * pageBytes;
}

/** Four ASCII letters, as they stand in the file. */
function magicOf(letters: string): number {
  return Buffer.from(letters, "latin1").readUInt32LE();
}

/** At load: nothing overlaps, nothing straddles a page, and the sums in the README hold. */
function checkLayout(): void {
  const parts = [
    [superblockAt, superblockBytes],
    [superblockCopyAt, superblockBytes],
    [marksAt, marksSlotBytes],
    [marksAt + marksSlotBytes, marksSlotBytes],
    [directoryAt, directorySlotBytes],
    [directoryAt + directorySlotBytes, directorySlotBytes],
  ];
  let end = 0;
  for (const [offset, length] of parts) {
    if (offset !== end || length % pageBytes !== 0) throw new Error(`journal layout: a part at ${offset}`);
    end = offset + length;
  }
  if (end !== layersAt) throw new Error(`journal layout: the layers begin at ${layersAt}, not at ${end}`);
  if (marksListAt + 4 * marksMax !== marksSlotBytes) throw new Error("journal layout: a slot of marks is not full");
  if (marksCountAt !== frameBytes || blockBytes !== sectorBytes) throw new Error("journal layout: a border");
  if (blockBitsAt + blockBitBytes !== blockBytes || blockGranules !== 3840) throw new Error("journal layout: a block");
  if (layerBytes(2 ** 40, 65536) !== 2_240_512) throw new Error("journal layout: a layer of 1 TiB");
}

checkLayout();
