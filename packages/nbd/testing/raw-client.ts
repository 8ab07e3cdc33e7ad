/**
 * A client that sends any bytes and takes every reply apart, written from the protocol's text and sharing no code with
 * what it tests. It believes nothing: whatever is not a reply to something that was asked is an error.
 */
import { connect, type Socket } from "node:net";
import { clientFlags, info, metaContext, opt, option, u16, u32 } from "../src/server/option-wire.fixture.ts";

export const cmd = { read: 0, write: 1, disc: 2, flush: 3, trim: 4, cache: 5, zeroes: 6, status: 7 } as const;
export const flag = { fua: 1, noHole: 2, df: 4, reqOne: 8, fastZero: 16, payloadLen: 32 } as const;
export const code = { ok: 0, perm: 1, io: 5, inval: 22, noSpace: 28, notSup: 95 } as const;

export type Form = "simple" | "structured" | "extended";

export interface Wish {
  readonly flags?: number;
  readonly offset?: number | bigint;
  readonly length?: number | bigint;
  readonly payload?: Uint8Array;
}

/** Everything that came for one request. */
export interface Answer {
  /** The forms of its replies, a letter each: simple, none, data, hole, error, status. */
  readonly chunks: string;
  readonly error: number;
  readonly text: string;
  readonly data: readonly Piece[];
  /** By context: pairs of length and flags. */
  readonly status: ReadonlyMap<number, ReadonlyArray<readonly [number, number]>>;
}
export interface Piece {
  readonly offset: number;
  readonly length: number;
  /** Undefined: a hole. */
  readonly bytes: Buffer | undefined;
}

interface Asked {
  readonly type: number;
  readonly offset: bigint;
  readonly length: number;
  chunks: string;
  error: number;
  text: string;
  readonly data: Piece[];
  readonly status: Map<number, ReadonlyArray<readonly [number, number]>>;
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: Error) => void;
}

export function u64(value: number | bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(value));
  return bytes;
}

/** The bytes of a request. A length that is not given is the payload's. */
export function requestBytes(form: Form, type: number, cookie: bigint, wish: Wish = {}): Buffer {
  const { offset = 0, payload } = wish;
  const length = wish.length ?? payload?.length ?? 0;
  const extended = form === "extended";
  const flags = (wish.flags ?? 0) | (extended && payload !== undefined ? flag.payloadLen : 0);
  const parts: Uint8Array[] = [
    u32(extended ? 0x21e41c71 : 0x25609513),
    u16(flags),
    u16(type),
    u64(cookie),
    u64(offset),
    extended ? u64(length) : u32(Number(length)),
  ];
  if (payload !== undefined) parts.push(payload);
  return Buffer.concat(parts);
}

/** What a read brought, holes as zeroes. */
export function bytesOf(answer: Answer): Buffer {
  const pieces = [...answer.data].sort((one, other) => one.offset - other.offset);
  return Buffer.concat(pieces.map(({ bytes, length }) => bytes ?? Buffer.alloc(length)));
}

export class RawNbd {
  readonly socket: Socket;
  readonly form: Form;
  readonly closed: Promise<void>;
  /** Of the export, as GO told. */
  size = 0;
  flags = 0;
  /** Ids of the contexts that were granted, by name. */
  readonly contexts: Map<string, number> = new Map();
  readonly #parts: Buffer[] = [];
  #available = 0;
  readonly #asked = new Map<bigint, Asked>();
  /** The last that was heard, for whoever wonders why. */
  readonly #story: string[] = [];
  #nextCookie = 0x1122334400000001n;
  #transmission = false;
  #wake: () => void = () => undefined;
  #ended = false;
  failure: Error | undefined;

  static readonly #open = new Set<Socket>();
  /** Hangs up wherever somebody has not. */
  static closeAll(): void {
    for (const socket of RawNbd.#open) socket.destroy();
  }

  private constructor(path: string, form: Form) {
    this.form = form;
    this.socket = connect({ path, allowHalfOpen: true });
    this.socket.on("data", (bytes: Buffer) => {
      this.#parts.push(bytes);
      this.#available += bytes.length;
      if (!this.#transmission) this.#wake();
      else this.#takeReplies();
    });
    this.socket.on("error", (error) => {
      this.#story.push(error.message);
      this.socket.destroy();
    });
    this.socket.on("end", () => {
      this.#story.push(`the server ended with ${this.#available} bytes left`);
      this.socket.destroy();
    });
    this.closed = new Promise((resolve) => {
      this.socket.on("close", () => {
        RawNbd.#open.delete(this.socket);
        this.#ended = true;
        this.#wake();
        for (const asked of this.#asked.values()) {
          asked.reject(
            this.failure ?? new Error(`closed before the reply to ${asked.type}: ${this.#story.join("; ")}`),
          );
        }
        this.#asked.clear();
        resolve();
      });
    });
    RawNbd.#open.add(this.socket);
  }

  /**
   * Negotiates as much as `form` says, and goes into the transmission.
   * @param early sent together with the last option; then `adopt` says what is in it, and `go` has replies taken
   */
  static async open(
    path: string,
    name: string,
    form: Form = "structured",
    contexts: string[] = [],
    early?: Uint8Array,
  ): Promise<RawNbd> {
    const client = new RawNbd(path, form);
    await client.#negotiate(name, contexts, early ?? new Uint8Array(0));
    if (early === undefined) client.go();
    return client;
  }

  /** From now on replies are taken. */
  go(): void {
    this.#transmission = true;
    this.#takeReplies();
  }

  /** A request that was sent as bytes. */
  adopt(cookie: bigint, type: number, offset: number | bigint, length: number): Promise<Answer> {
    const answer = new Promise<Answer>((resolve, reject) => {
      const asked = { type, offset: BigInt(offset), length, chunks: "", error: 0, text: "" };
      this.#asked.set(cookie, { ...asked, data: [], status: new Map(), resolve, reject });
    });
    answer.catch(() => undefined); // told to whoever waits for it
    return answer;
  }

  get unanswered(): number {
    return this.#asked.size;
  }

  raw(...bytes: readonly Uint8Array[]): void {
    this.socket.write(Buffer.concat(bytes));
  }

  /** Sends a request; its answer, once all of it came. */
  call(type: number, wish: Wish = {}): Promise<Answer> {
    const { bytes, answer } = this.prepare(type, wish);
    this.socket.write(bytes);
    return answer;
  }

  /** A request as bytes, for whoever sends them in a way of his own. */
  prepare(type: number, wish: Wish = {}): { bytes: Buffer; answer: Promise<Answer> } {
    const cookie = this.#nextCookie++;
    const length = Number(wish.length ?? wish.payload?.length ?? 0);
    const answer = this.adopt(cookie, type, wish.offset ?? 0, length);
    return { bytes: requestBytes(this.form, type, cookie, wish), answer };
  }

  read(offset: number, length: number, flags = 0): Promise<Answer> {
    return this.call(cmd.read, { offset, length, flags });
  }
  write(offset: number, payload: Uint8Array, flags = 0): Promise<Answer> {
    return this.call(cmd.write, { offset, payload, flags });
  }

  async #negotiate(name: string, contexts: string[], early: Uint8Array): Promise<void> {
    const { form } = this;
    await this.#take(18);
    this.raw(clientFlags());
    if (form === "extended") await this.#acknowledged(option(opt.extendedHeaders));
    if (form === "structured") await this.#acknowledged(option(opt.structuredReply));
    if (contexts.length > 0) {
      this.raw(metaContext(opt.setMetaContext, name, ...contexts));
      for (let reply = await this.#optionReply(); reply.type !== 1; reply = await this.#optionReply()) {
        if (reply.type !== 4) throw new Error(`set meta context: reply ${reply.type} ${reply.data.toString()}`);
        this.contexts.set(reply.data.subarray(4).toString(), reply.data.readUInt32BE(0));
      }
    }
    this.raw(info(opt.go, name, 3), early);
    for (let reply = await this.#optionReply(); reply.type !== 1; reply = await this.#optionReply()) {
      if (reply.type !== 3) throw new Error(`go: reply ${reply.type.toString(16)} ${reply.data.toString()}`);
      if (reply.data.readUInt16BE(0) !== 0) continue;
      this.size = Number(reply.data.readBigUInt64BE(2));
      this.flags = reply.data.readUInt16BE(10);
    }
  }

  async #acknowledged(bytes: Buffer): Promise<void> {
    this.raw(bytes);
    const { type, data } = await this.#optionReply();
    if (type !== 1) throw new Error(`expected an acknowledgement: ${type} ${data.toString()}`);
  }

  async #optionReply(): Promise<{ type: number; data: Buffer }> {
    const header = await this.#take(20);
    return { type: header.readUInt32BE(12), data: await this.#take(header.readUInt32BE(16)) };
  }

  async #take(length: number): Promise<Buffer> {
    while (this.#available < length) {
      if (this.#ended) throw new Error(`closed after ${this.#available} of ${length} bytes`);
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
    return this.#cut(length);
  }

  /** The first bytes, as one piece. */
  #peek(length: number): Buffer {
    if (this.#parts[0].length < length) this.#parts.splice(0, this.#parts.length, Buffer.concat(this.#parts));
    return this.#parts[0].subarray(0, length);
  }
  #cut(length: number): Buffer {
    if (length === 0) return Buffer.alloc(0);
    const bytes = this.#peek(length);
    const rest = this.#parts[0].subarray(length);
    if (rest.length === 0) this.#parts.shift();
    else this.#parts[0] = rest;
    this.#available -= length;
    return bytes;
  }

  #takeReplies(): void {
    try {
      while (this.#takeReply());
    } catch (error) {
      this.failure = error as Error;
      for (const asked of this.#asked.values()) asked.reject(this.failure);
      this.#asked.clear();
      this.socket.destroy();
    }
  }

  #takeReply(): boolean {
    if (this.#available < 16) return false;
    const magic = this.#peek(4).readUInt32BE(0);
    if (magic === 0x67446698) return this.#takeSimple();
    const extended = magic === 0x6e8a278c;
    if (!extended && magic !== 0x668e33ef) throw new Error(`no reply: magic ${magic.toString(16)}`);
    if (this.form !== (extended ? "extended" : "structured")) throw new Error(`a reply of the wrong form`);
    const headerBytes = extended ? 32 : 20;
    if (this.#available < headerBytes) return false;
    const header = this.#peek(headerBytes);
    const length = extended ? Number(header.readBigUInt64BE(24)) : header.readUInt32BE(16);
    if (this.#available < headerBytes + length) return false;
    const whole = this.#cut(headerBytes + length);
    const asked = this.#askedOf(whole.readBigUInt64BE(8));
    if (extended && whole.readBigUInt64BE(16) !== asked.offset) throw new Error("a reply with another offset");
    this.#takeChunk(asked, whole.readUInt16BE(6), whole.subarray(headerBytes));
    const flags = whole.readUInt16BE(4);
    if ((flags & ~1) !== 0) throw new Error(`a chunk with flags ${flags}`);
    if (flags === 1) this.#finish(whole.readBigUInt64BE(8), asked);
    return true;
  }

  #takeSimple(): boolean {
    if (this.form === "extended") throw new Error("a simple reply with extended headers");
    const header = this.#peek(16);
    const cookie = header.readBigUInt64BE(8);
    const asked = this.#askedOf(cookie);
    const error = header.readUInt32BE(4);
    const reads = asked.type === cmd.read;
    if (this.form === "structured" && (reads || error !== 0)) throw new Error("a simple reply that must be structured");
    const length = reads && error === 0 ? asked.length : 0;
    if (this.#available < 16 + length) return false;
    const whole = this.#cut(16 + length);
    asked.chunks += "s";
    asked.error = error;
    if (length > 0) asked.data.push({ offset: Number(asked.offset), length, bytes: whole.subarray(16) });
    this.#finish(cookie, asked);
    return true;
  }

  #takeChunk(asked: Asked, type: number, body: Buffer): void {
    if (asked.error !== 0) throw new Error("a chunk after the error");
    if (type === 0) {
      asked.chunks += "n";
      if (body.length > 0) throw new Error("a payload of nothing");
    } else if (type === 1) {
      asked.chunks += "d";
      const bytes = body.subarray(8);
      asked.data.push({ offset: Number(body.readBigUInt64BE(0)), length: bytes.length, bytes });
    } else if (type === 2) {
      asked.chunks += "h";
      asked.data.push({ offset: Number(body.readBigUInt64BE(0)), length: body.readUInt32BE(8), bytes: undefined });
    } else if (type === 0x8001) {
      asked.chunks += "e";
      asked.error = body.readUInt32BE(0);
      asked.text = body.subarray(6).toString();
      if (body.readUInt16BE(4) !== body.length - 6) throw new Error("an error whose text has another length");
    } else if (type === (this.form === "extended" ? 6 : 5)) {
      asked.chunks += "t";
      asked.status.set(body.readUInt32BE(0), extentsOf(body, type === 6));
    } else throw new Error(`a chunk of type ${type}`);
    if ((type === 1 || type === 2) && asked.type !== cmd.read) throw new Error("data that nobody asked for");
  }

  #askedOf(cookie: bigint): Asked {
    const asked = this.#asked.get(cookie);
    if (asked === undefined) throw new Error(`a reply to ${cookie.toString(16)}, which nobody asked`);
    return asked;
  }

  #finish(cookie: bigint, asked: Asked): void {
    this.#asked.delete(cookie);
    const { chunks, error, text, data, status } = asked;
    const wanted = asked.type === cmd.read && error === 0 ? asked.length : 0;
    const got = data.reduce((sum, { length }) => sum + length, 0);
    if (error === 0 && got !== wanted) throw new Error(`${got} bytes of ${wanted}`);
    asked.resolve({ chunks, error, text, data, status });
  }
}

function extentsOf(body: Buffer, wide: boolean): ReadonlyArray<readonly [number, number]> {
  const extents: (readonly [number, number])[] = [];
  if (!wide) {
    for (let at = 4; at < body.length; at += 8) extents.push([body.readUInt32BE(at), body.readUInt32BE(at + 4)]);
    return extents;
  }
  for (let at = 8; at < body.length; at += 16) {
    extents.push([Number(body.readBigUInt64BE(at)), Number(body.readBigUInt64BE(at + 8))]);
  }
  if (body.readUInt32BE(4) !== extents.length) throw new Error("a count of extents that is not theirs");
  return extents;
}
