/** Reply headers, written into a block of output. Who calls has seen that there is room. Every function answers its end. */
import {
  EXTENDED_REPLY_BYTES,
  EXTENDED_REPLY_MAGIC,
  REPLY_BLOCK_STATUS,
  REPLY_BLOCK_STATUS_EXT,
  REPLY_ERROR,
  REPLY_FLAG_DONE,
  REPLY_NONE,
  REPLY_OFFSET_DATA,
  REPLY_OFFSET_HOLE,
  SIMPLE_REPLY_BYTES,
  SIMPLE_REPLY_MAGIC,
  STRUCTURED_REPLY_BYTES,
  STRUCTURED_REPLY_MAGIC,
} from "../protocol/constants.ts";

/** Who is answered: a request, or what is left of it. */
export interface Answered {
  readonly cookieHigh: number;
  readonly cookieLow: number;
  /** Only extended replies repeat the offset. */
  readonly offsetHigh: number;
  readonly offsetLow: number;
}

export function putSimple(view: DataView, at: number, to: Answered, error: number): number {
  view.setUint32(at, SIMPLE_REPLY_MAGIC);
  view.setUint32(at + 4, error);
  view.setUint32(at + 8, to.cookieHigh);
  view.setUint32(at + 12, to.cookieLow);
  return at + SIMPLE_REPLY_BYTES;
}

export function chunkBytes(extended: boolean): number {
  return extended ? EXTENDED_REPLY_BYTES : STRUCTURED_REPLY_BYTES;
}

function putChunk(
  view: DataView,
  at: number,
  to: Answered,
  extended: boolean,
  type: number,
  done: boolean,
  length: number,
): number {
  view.setUint32(at, extended ? EXTENDED_REPLY_MAGIC : STRUCTURED_REPLY_MAGIC);
  view.setUint16(at + 4, done ? REPLY_FLAG_DONE : 0);
  view.setUint16(at + 6, type);
  view.setUint32(at + 8, to.cookieHigh);
  view.setUint32(at + 12, to.cookieLow);
  if (!extended) {
    view.setUint32(at + 16, length);
    return at + STRUCTURED_REPLY_BYTES;
  }
  view.setUint32(at + 16, to.offsetHigh);
  view.setUint32(at + 20, to.offsetLow);
  putUint64(view, at + 24, length);
  return at + EXTENDED_REPLY_BYTES;
}

export function putNone(view: DataView, at: number, to: Answered, extended: boolean): number {
  return putChunk(view, at, to, extended, REPLY_NONE, true, 0);
}

/** The header of a piece of data; the data follow it. */
export function putData(
  view: DataView,
  at: number,
  to: Answered,
  extended: boolean,
  done: boolean,
  offset: number,
  length: number,
): number {
  const next = putChunk(view, at, to, extended, REPLY_OFFSET_DATA, done, 8 + length);
  putUint64(view, next, offset);
  return next + 8;
}
export function dataHeaderBytes(extended: boolean): number {
  return chunkBytes(extended) + 8;
}

/** @param length up to 2^32 - 1 */
export function putHole(
  view: DataView,
  at: number,
  to: Answered,
  extended: boolean,
  done: boolean,
  offset: number,
  length: number,
): number {
  const next = putChunk(view, at, to, extended, REPLY_OFFSET_HOLE, done, 12);
  putUint64(view, next, offset);
  view.setUint32(next + 8, length);
  return next + 12;
}

const encoder = new TextEncoder();

/** Ends the request with an error. @param text of at most 256 bytes */
export function putError(
  view: DataView,
  at: number,
  to: Answered,
  extended: boolean,
  error: number,
  text: string,
): number {
  const start = at + chunkBytes(extended) + 6;
  const room = new Uint8Array(view.buffer, view.byteOffset + start, ERROR_TEXT_MAX);
  const { written } = encoder.encodeInto(text, room);
  const next = putChunk(view, at, to, extended, REPLY_ERROR, true, 6 + written);
  view.setUint32(next, error);
  view.setUint16(next + 4, written);
  return start + written;
}
const ERROR_TEXT_MAX = 256;

/** The header of what one context says; `count` descriptors follow it. */
export function putStatus(
  view: DataView,
  at: number,
  to: Answered,
  extended: boolean,
  done: boolean,
  context: number,
  count: number,
): number {
  if (!extended) {
    const next = putChunk(view, at, to, false, REPLY_BLOCK_STATUS, done, 4 + count * 8);
    view.setUint32(next, context);
    return next + 4;
  }
  const next = putChunk(view, at, to, true, REPLY_BLOCK_STATUS_EXT, done, 8 + count * 16);
  view.setUint32(next, context);
  view.setUint32(next + 4, count);
  return next + 8;
}
export function statusHeaderBytes(extended: boolean): number {
  return chunkBytes(extended) + (extended ? 8 : 4);
}

function putUint64(view: DataView, at: number, value: number): void {
  view.setUint32(at, Math.floor(value / 2 ** 32));
  view.setUint32(at + 4, value >>> 0);
}
