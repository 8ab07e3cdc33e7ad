/** The frame of a record: who it is, how long it is, and that it is whole. */
import { crc32 } from "node:zlib";
import {
  frameBytes,
  frameChecksumAt,
  frameLengthAt,
  frameMagicAt,
  frameSequenceAt,
  frameTagAt,
  sectorBytes,
} from "./layout.ts";

export interface Frame {
  readonly magic: number;
  readonly tag: number;
  readonly sequence: number;
  /** Bytes, frame included. */
  readonly length: number;
}

/** Writes the frame of a record whose payload stands already, and its checksum over all but magic and checksum. */
export function seal(record: Uint8Array, frame: Frame): void {
  const view = viewOf(record);
  view.setUint32(frameMagicAt, frame.magic, true);
  view.setUint32(frameLengthAt, frame.length, true);
  view.setUint32(frameTagAt, frame.tag, true);
  view.setBigUint64(frameSequenceAt, BigInt(frame.sequence), true);
  view.setUint32(frameChecksumAt, crc32(record.subarray(frameLengthAt, frame.length)), true);
}

/** The sequence of a whole record of this magic and tag; undefined for anything else. `tag` undefined: of any sidecar. */
export function openRecord(record: Uint8Array, magic: number, tag: number | undefined): Frame | undefined {
  const view = viewOf(record);
  if (view.getUint32(frameMagicAt, true) !== magic) return undefined;
  const length = view.getUint32(frameLengthAt, true);
  if (length < frameBytes || length > record.length) return undefined;
  if (view.getUint32(frameChecksumAt, true) !== crc32(record.subarray(frameLengthAt, length))) return undefined;
  const found = view.getUint32(frameTagAt, true);
  if (tag !== undefined && found !== tag) return undefined;
  return { magic, tag: found, sequence: Number(view.getBigUint64(frameSequenceAt, true)), length };
}

/** Of two slots, the one that counts: whole, and the newer. */
export function newerOf(
  slots: readonly [Uint8Array, Uint8Array],
  magic: number,
  tag: number,
): { readonly frame: Frame; readonly record: Uint8Array } | undefined {
  const [first, second] = slots.map((record) => ({ record, frame: openRecord(record, magic, tag) }));
  if (first.frame === undefined) return second.frame === undefined ? undefined : { ...second, frame: second.frame };
  if (second.frame === undefined || second.frame.sequence < first.frame.sequence)
    return { ...first, frame: first.frame };
  return { ...second, frame: second.frame };
}

/** The sectors of a slot that a sealed record takes: what lies behind them is not looked at. */
export function usedPart(slot: Uint8Array): Uint8Array {
  const length = viewOf(slot).getUint32(frameLengthAt, true);
  return slot.subarray(0, Math.ceil(length / sectorBytes) * sectorBytes);
}

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
