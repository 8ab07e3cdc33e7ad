/**
 * A client's side of option haggling, written from the protocol's text and sharing no code with what it tests: bytes of
 * options, and replies taken apart.
 */
export const fixedNewstyle = 1;
export const noZeroes = 2;

export const opt = {
  exportName: 1,
  abort: 2,
  list: 3,
  startTls: 5,
  info: 6,
  go: 7,
  structuredReply: 8,
  listMetaContext: 9,
  setMetaContext: 10,
  extendedHeaders: 11,
} as const;

export const rep = {
  ack: 1,
  server: 2,
  info: 3,
  metaContext: 4,
  errUnsup: 0x80000001,
  errPolicy: 0x80000002,
  errInvalid: 0x80000003,
  errTlsReqd: 0x80000005,
  errUnknown: 0x80000006,
  errShutdown: 0x80000007,
  errBlockSizeReqd: 0x80000008,
  errTooBig: 0x80000009,
  errExtHeaderReqd: 0x8000000a,
} as const;

/** The 18 bytes that a fixed newstyle server says first, offering to leave out the zeroes. */
export const greetingText = "NBDMAGICIHAVEOPT\0\u0003";

export function u16(value: number): Buffer {
  return Buffer.from([(value >> 8) & 255, value & 255]);
}

export function u32(value: number): Buffer {
  return Buffer.from([(value >>> 24) & 255, (value >>> 16) & 255, (value >>> 8) & 255, value & 255]);
}

export function text(value: string): Buffer {
  return Buffer.concat([u32(Buffer.byteLength(value)), Buffer.from(value)]);
}

export function clientFlags(flags: number = fixedNewstyle | noZeroes): Buffer {
  return u32(flags);
}

export function option(number: number, ...payload: readonly (Buffer | string)[]): Buffer {
  const data = Buffer.concat(payload.map((part) => (typeof part === "string" ? Buffer.from(part) : part)));
  return Buffer.concat([Buffer.from("IHAVEOPT"), u32(number), u32(data.length), data]);
}

export function exportName(name: string): Buffer {
  return option(opt.exportName, name);
}

/** INFO or GO. */
export function info(number: number, name: string, ...asked: readonly number[]): Buffer {
  return option(number, text(name), u16(asked.length), Buffer.concat(asked.map(u16)));
}

/** LIST_META_CONTEXT or SET_META_CONTEXT. */
export function metaContext(number: number, name: string, ...queries: readonly string[]): Buffer {
  return option(number, text(name), u32(queries.length), Buffer.concat(queries.map(text)));
}

export interface Reply {
  readonly option: number;
  readonly type: number;
  readonly data: Buffer;
}

/** Takes replies apart. Throws where something else than whole replies is there. */
export function parseReplies(bytes: Uint8Array): Reply[] {
  let rest = Buffer.from(bytes);
  const replies: Reply[] = [];
  while (rest.length > 0) {
    if (rest.length < 20 || rest.subarray(0, 8).toString("hex") !== "0003e889045565a9") {
      throw new Error(`no option reply: ${rest.toString("hex", 0, 40)}`);
    }
    const length = rest.readUInt32BE(16);
    if (rest.length < 20 + length) throw new Error(`a reply of ${length} bytes is cut off`);
    replies.push({ option: rest.readUInt32BE(8), type: rest.readUInt32BE(12), data: rest.subarray(20, 20 + length) });
    rest = rest.subarray(20 + length);
  }
  return replies;
}

/** Replies in one line each: "ack", "errInvalid option 'list' has ...", "info 0001657870", "server name: description". */
export function tell(replies: readonly Reply[]): string[] {
  return replies.map(({ type, data }) => {
    const name = Object.entries(rep).find(([, value]) => value === type)?.[0] ?? `type ${type}`;
    if (type === rep.server) {
      const end = 4 + data.readUInt32BE(0);
      return `server ${data.subarray(4, end).toString()}: ${data.subarray(end).toString()}`;
    }
    if (type === rep.metaContext) return `metaContext ${data.readUInt32BE(0)} ${data.subarray(4).toString()}`;
    if (type === rep.info) return `info ${data.toString("hex")}`;
    return data.length === 0 ? name : `${name} ${data.toString()}`;
  });
}
