/** A block of bits as it stands in the file. */
import { crc32 } from "node:zlib";
import {
  blockBytes,
  blockChecksumAt,
  blockIndexAt,
  blockLayerAt,
  blockMagic,
  blockMagicAt,
  blockTagAt,
} from "./layout.ts";
import { viewOf } from "./record.ts";

/** Finishes a block whose bits stand already in `block` from `blockBitsAt` on. */
export function sealBlock(block: Uint8Array, view: DataView, tag: number, layer: number, index: number): void {
  view.setUint32(blockMagicAt, blockMagic, true);
  view.setUint32(blockTagAt, tag, true);
  view.setUint32(blockLayerAt, layer, true);
  view.setUint32(blockIndexAt, index, true);
  view.setUint32(blockChecksumAt, crc32(block.subarray(blockTagAt)), true);
}

/** Whether it is whole, and the block that ought to lie here. */
export function isBlock(block: Uint8Array, tag: number, layer: number, index: number): boolean {
  const view = viewOf(block);
  return (
    block.length === blockBytes &&
    view.getUint32(blockMagicAt, true) === blockMagic &&
    view.getUint32(blockTagAt, true) === tag &&
    view.getUint32(blockLayerAt, true) === layer &&
    view.getUint32(blockIndexAt, true) === index &&
    view.getUint32(blockChecksumAt, true) === crc32(block.subarray(blockTagAt))
  );
}

/** Blocks without a bit set, one after the other: what a new layer begins as. */
export function emptyBlocks(tag: number, layer: number, first: number, count: number): Uint8Array {
  const bytes = new Uint8Array(count * blockBytes);
  for (let index = 0; index < count; index++) {
    const block = bytes.subarray(index * blockBytes, (index + 1) * blockBytes);
    sealBlock(block, viewOf(block), tag, layer, first + index);
  }
  return bytes;
}
