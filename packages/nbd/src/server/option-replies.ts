/** The server's side of option haggling, as bytes. */
import {
  INFO_BLOCK_SIZE,
  INFO_DESCRIPTION,
  INFO_EXPORT,
  INFO_NAME,
  NBD_MAGIC,
  OPTION_MAGIC,
  OPTION_REPLY_MAGIC,
  REP_ACK,
  REP_INFO,
  REP_META_CONTEXT,
  REP_SERVER,
} from "../protocol/constants.ts";
import type { ExportOffer } from "./export-offer.ts";
import type { OptionRefusal } from "./option-payload.ts";

/** Reply: magic u64, option u32, type u32, length u32, and as many bytes. */
const REPLY_BYTES = 20;
/** Zeroes after the answer to EXPORT_NAME, for clients that did not ask to go without. */
const PADDING_BYTES = 124;

const text = new TextEncoder();

/** The first bytes of a connection: magic u64, magic u64, handshake flags u16. */
export function greeting(flags: number): Uint8Array {
  const bytes = Buffer.alloc(18);
  bytes.writeBigUInt64BE(NBD_MAGIC, 0);
  bytes.writeBigUInt64BE(OPTION_MAGIC, 8);
  bytes.writeUInt16BE(flags, 16);
  return bytes;
}

export function ackReply(option: number): Uint8Array {
  return reply(option, REP_ACK);
}

export function errorReply(option: number, refusal: OptionRefusal): Uint8Array {
  return reply(option, refusal.reply, text.encode(refusal.text));
}

/** Length of the name u32, name, description. */
export function serverReply(option: number, offer: ExportOffer): Uint8Array {
  const name = text.encode(offer.name);
  return reply(option, REP_SERVER, u32(name.length), name, text.encode(offer.description));
}

/** Id u32, name. */
export function contextReply(option: number, id: number, name: string): Uint8Array {
  return reply(option, REP_META_CONTEXT, u32(id), text.encode(name));
}

export function infoName(option: number, name: string): Uint8Array {
  return reply(option, REP_INFO, u16(INFO_NAME), text.encode(name));
}

export function infoDescription(option: number, description: string): Uint8Array {
  return reply(option, REP_INFO, u16(INFO_DESCRIPTION), text.encode(description));
}

/** Minimum, preferred, maximum, each u32. */
export function infoBlockSize(option: number, { blockSize }: ExportOffer): Uint8Array {
  const { minimum, preferred, maximum } = blockSize;
  return reply(option, REP_INFO, u16(INFO_BLOCK_SIZE), u32(minimum), u32(preferred), u32(maximum));
}

/** Length u64, transmission flags u16. */
export function infoExport(option: number, length: number, flags: number): Uint8Array {
  return reply(option, REP_INFO, u16(INFO_EXPORT), u64(length), u16(flags));
}

/** The answer to EXPORT_NAME, which has no header: length u64, transmission flags u16, zeroes. */
export function exportNameAnswer(length: number, flags: number, noZeroes: boolean): Uint8Array {
  return Buffer.concat([u64(length), u16(flags), new Uint8Array(noZeroes ? 0 : PADDING_BYTES)]);
}

function reply(option: number, type: number, ...data: Uint8Array[]): Uint8Array {
  const header = Buffer.alloc(REPLY_BYTES);
  let length = 0;
  for (const part of data) length += part.length;
  header.writeBigUInt64BE(OPTION_REPLY_MAGIC, 0);
  header.writeUInt32BE(option, 8);
  header.writeUInt32BE(type, 12);
  header.writeUInt32BE(length, 16);
  return Buffer.concat([header, ...data], REPLY_BYTES + length);
}

function u16(value: number): Uint8Array {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}

function u32(value: number): Uint8Array {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

function u64(value: number): Uint8Array {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(value));
  return bytes;
}
