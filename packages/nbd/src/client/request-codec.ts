/** Request headers, compact and extended. */
import {
  CMD_FLAG_PAYLOAD_LEN,
  CMD_WRITE,
  EXTENDED_REQUEST_BYTES,
  EXTENDED_REQUEST_MAGIC,
  REQUEST_BYTES,
  REQUEST_MAGIC,
} from "../protocol/constants.ts";

/** Largest length that a compact header can say. */
export const COMPACT_LENGTH_MAX: number = 2 ** 32 - 1;

/**
 * Writes a header at the start of `target`.
 * @param cookie a safe integer, so that it needs no BigInt
 * @returns its length in bytes
 */
export function encodeRequest(
  target: DataView,
  extended: boolean,
  flags: number,
  type: number,
  cookie: number,
  offset: number,
  length: number,
): number {
  target.setUint32(0, extended ? EXTENDED_REQUEST_MAGIC : REQUEST_MAGIC);
  target.setUint16(4, extended && type === CMD_WRITE ? flags | CMD_FLAG_PAYLOAD_LEN : flags);
  target.setUint16(6, type);
  setNumber(target, 8, cookie);
  setNumber(target, 16, offset);
  if (extended) {
    setNumber(target, 24, length);
    return EXTENDED_REQUEST_BYTES;
  }
  target.setUint32(24, length);
  return REQUEST_BYTES;
}

function setNumber(target: DataView, at: number, value: number): void {
  target.setUint32(at, Math.floor(value / 2 ** 32));
  target.setUint32(at + 4, value >>> 0);
}

/** A 64-bit field, or `undefined` where it passes 2^53-1. */
export function getNumber(source: DataView, at: number): number | undefined {
  const high = source.getUint32(at);
  return high >= 2 ** 21 ? undefined : high * 2 ** 32 + source.getUint32(at + 4);
}
