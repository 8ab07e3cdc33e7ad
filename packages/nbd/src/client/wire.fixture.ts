/** A server's bytes, written down from the protocol's text and from nothing of this package. */

export function u16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}
export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}
export function u64(value: bigint | number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(value));
  return bytes;
}
export const bytes = (...parts: readonly (Uint8Array | string)[]): Buffer =>
  Buffer.concat(parts.map((part) => (typeof part === "string" ? Buffer.from(part) : part)));

export const greeting = (flags = 3): Buffer => bytes("NBDMAGIC", "IHAVEOPT", u16(flags));

const REPLY_MAGIC = Buffer.from("0003e889045565a9", "hex");
export const reply = (option: number, type: number, payload: Uint8Array | string = ""): Buffer =>
  bytes(REPLY_MAGIC, u32(option), u32(type), u32(bytes(payload).length), payload);

export const ACK = 1;
/** NBD_REP_ERR_... of that number. */
export const error = (number: number): number => 0x80000000 + number;
export const UNSUP: number = error(1);

export const infoExport = (length: bigint | number, flags = 1): Buffer => bytes(u16(0), u64(length), u16(flags));
export const infoBlockSize = (minimum: number, preferred: number, maximum: number): Buffer =>
  bytes(u16(3), u32(minimum), u32(preferred), u32(maximum));
export const context = (id: number, name: string): Buffer => bytes(u32(id), name);
export const listed = (name: string, description = ""): Buffer =>
  bytes(u32(Buffer.byteLength(name)), name, description);

/** An option as a client sends it. */
export const option = (number: number, payload: Uint8Array | string = ""): Buffer =>
  bytes("IHAVEOPT", u32(number), u32(bytes(payload).length), payload);

export const simpleReply = (cookie: bigint, error = 0, data: Uint8Array | string = ""): Buffer =>
  bytes(u32(0x67446698), u32(error), u64(cookie), data);
export const chunk = (cookie: bigint, type: number, payload: Uint8Array | string = "", flags = 1): Buffer =>
  bytes(u32(0x668e33ef), u16(flags), u16(type), u64(cookie), u32(bytes(payload).length), payload);
export const extendedChunk = (
  cookie: bigint,
  offset: bigint | number,
  type: number,
  payload: Uint8Array | string = "",
  flags = 1,
): Buffer =>
  bytes(u32(0x6e8a278c), u16(flags), u16(type), u64(cookie), u64(offset), u64(bytes(payload).length), payload);
