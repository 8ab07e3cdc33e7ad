/**
 * Replies, read without I/O: it says where the next bytes belong (`room`), is told how many came (`filled`), and settles
 * requests. A read's data goes straight into the caller's buffer, whether an event loop copies it there or a thread's
 * recv puts it there.
 *
 * A server is not believed: every chunk must answer a request that is on its way, be of a type that the request can have
 * for an answer, lie inside its range, and bring nothing twice; a reply without an error must bring all. Anything else
 * throws `ERR_NBD_PROTOCOL`, after which the connection is of no more use, as nobody knows where the next reply begins.
 *
 * The steps are a generator that yields the place that it wants filled.
 */
import { EINVAL, type Errno, errnoName, errnoText } from "@heirloom/block";
import * as nbd from "../protocol/constants.ts";
import { NbdError } from "../protocol/nbd-error.ts";
import type { SelectedContext } from "../server/export-offer.ts";
import {
  ERROR_CHUNK_BYTES_MAX,
  ERROR_TEXT_BYTES_MAX,
  READ_RUNS_MAX,
  REPLY_CHUNKS_MAX,
  STATUS_EXTENTS_MAX,
} from "./limits.ts";
import { plainText } from "./plain-text.ts";
import type { PendingRequest } from "./pending-request.ts";
import { getNumber } from "./request-codec.ts";

export interface ReplyContext {
  readonly structured: boolean;
  readonly extended: boolean;
  readonly contexts: readonly SelectedContext[];
  /** The request of that cookie, if one is on its way on this connection. */
  find(cookie: number): PendingRequest | undefined;
  /** Its reply is whole; `request.errno` says how it went. Its cookie is free. */
  settle(cookie: number, request: PendingRequest): void;
}

type Steps = Generator<Uint8Array, void, void>;

/** Descriptors of a block status are read in pieces of this many bytes: a multiple of 8 and of 16. */
const PIECE_BYTES = 4096;

/** The errors of the protocol are errno values of Linux; any other one is as good as EINVAL. */
const ERRORS: ReadonlySet<number> = new Set([
  nbd.NBD_EPERM,
  nbd.NBD_EIO,
  nbd.NBD_ENOMEM,
  nbd.NBD_EINVAL,
  nbd.NBD_ENOSPC,
  nbd.NBD_EOVERFLOW,
  nbd.NBD_ENOTSUP,
  nbd.NBD_ESHUTDOWN,
]);

export class ReplyReader {
  readonly #context: ReplyContext;
  readonly #steps: Steps;
  readonly #header: Uint8Array = new Uint8Array(nbd.EXTENDED_REPLY_BYTES);
  readonly #headerView: DataView = new DataView(this.#header.buffer);
  readonly #piece: Uint8Array = new Uint8Array(PIECE_BYTES);
  readonly #pieceView: DataView = new DataView(this.#piece.buffer);
  #target: Uint8Array;
  #count = 0;

  constructor(context: ReplyContext) {
    this.#context = context;
    this.#steps = this.#read();
    this.#target = this.#steps.next().value as Uint8Array;
  }

  /** Where the next bytes go; never empty. */
  room(): Uint8Array {
    return this.#count === 0 ? this.#target : this.#target.subarray(this.#count);
  }

  /**
   * That many bytes of `room` were filled.
   * @throws NbdError ERR_NBD_PROTOCOL
   */
  filled(count: number): void {
    this.#count += count;
    while (this.#count === this.#target.length) {
      this.#target = this.#steps.next().value as Uint8Array;
      this.#count = 0;
    }
  }

  /** Bytes that came together, wherever they belong. */
  receive(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length;) {
      const room = this.room();
      const count = Math.min(room.length, bytes.length - at);
      room.set(count === bytes.length ? bytes : bytes.subarray(at, at + count));
      at += count;
      this.filled(count);
    }
  }

  /** Whether a reply has begun and not ended. */
  get inside(): boolean {
    return this.#count > 0 || this.#target.buffer !== this.#header.buffer;
  }

  /** The caller of `request` takes its buffer back: what is still to come for it goes elsewhere. */
  detach(request: PendingRequest): void {
    const { buffer } = request;
    if (buffer === undefined) return;
    request.buffer = new Uint8Array(buffer.length);
    const at = this.#target.byteOffset - buffer.byteOffset;
    if (this.#target.buffer !== buffer.buffer || at < 0 || at >= buffer.length) return;
    this.#target = request.buffer.subarray(at, at + this.#target.length);
  }

  *#read(): Steps {
    const { structured, extended } = this.#context;
    for (;;) {
      if (extended) yield* this.#extendedChunk();
      else if (!structured) yield* this.#simpleReply(true);
      else yield* this.#simpleReplyOrChunk();
    }
  }

  *#simpleReplyOrChunk(): Steps {
    yield this.#header.subarray(0, nbd.SIMPLE_REPLY_BYTES);
    const magic = this.#headerView.getUint32(0);
    if (magic === nbd.SIMPLE_REPLY_MAGIC) {
      yield* this.#simpleReply(false);
      return;
    }
    if (magic !== nbd.STRUCTURED_REPLY_MAGIC) throw wrongMagic(magic);
    yield this.#header.subarray(nbd.SIMPLE_REPLY_BYTES, nbd.STRUCTURED_REPLY_BYTES);
    yield* this.#chunk(this.#headerView.getUint32(16));
  }

  /** magic u32, error u32, cookie u64, and the data of a read */
  *#simpleReply(readHeader: boolean): Steps {
    const view = this.#headerView;
    if (readHeader) {
      yield this.#header.subarray(0, nbd.SIMPLE_REPLY_BYTES);
      if (view.getUint32(0) !== nbd.SIMPLE_REPLY_MAGIC) throw wrongMagic(view.getUint32(0));
    }
    const error = view.getUint32(4);
    const cookie = getNumber(view, 8);
    const request = this.#find(cookie);
    const needsChunk = request.type === nbd.CMD_READ || request.type === nbd.CMD_BLOCK_STATUS;
    if (this.#context.structured && needsChunk)
      throw violation("a simple reply to a request whose answer is structured");
    if (error !== 0) this.#fail(request, error, "");
    else if (request.buffer !== undefined && request.type === nbd.CMD_READ) {
      yield request.buffer;
      request.filled = [0, request.length];
    }
    this.#settle(cookie as number, request);
  }

  /** magic u32, flags u16, type u16, cookie u64, offset u64, length u64 */
  *#extendedChunk(): Steps {
    yield this.#header;
    const view = this.#headerView;
    if (view.getUint32(0) !== nbd.EXTENDED_REPLY_MAGIC) throw wrongMagic(view.getUint32(0));
    const { offset } = this.#find(getNumber(view, 8));
    if (getNumber(view, 16) !== offset) throw violation("a chunk repeats another offset than the request's");
    const length = getNumber(view, 24);
    if (length === undefined) throw violation("a chunk is longer than 2^53 bytes");
    yield* this.#chunk(length);
  }

  /** A chunk whose header is read: flags at 4, type at 6, cookie at 8. */
  *#chunk(length: number): Steps {
    const view = this.#headerView;
    const done = (view.getUint16(4) & nbd.REPLY_FLAG_DONE) !== 0;
    const type = view.getUint16(6);
    const cookie = getNumber(view, 8);
    const request = this.#find(cookie);
    if (++request.chunks > REPLY_CHUNKS_MAX) throw violation(`a reply of more than ${REPLY_CHUNKS_MAX} chunks`);
    if ((type & nbd.REPLY_FLAG_ERROR) !== 0) {
      yield* this.#errorChunk(request, type, length);
    } else if (type === nbd.REPLY_NONE) {
      if (!done || length !== 0) throw violation("an empty chunk that has a payload, or is not the last");
    } else if (type === nbd.REPLY_OFFSET_DATA && request.type === nbd.CMD_READ) {
      yield* this.#dataChunk(request, length);
    } else if (type === nbd.REPLY_OFFSET_HOLE && request.type === nbd.CMD_READ) {
      yield* this.#holeChunk(request, length);
    } else if (type === nbd.REPLY_BLOCK_STATUS && request.type === nbd.CMD_BLOCK_STATUS) {
      yield* this.#statusChunk(request, length, 4, 8);
    } else if (type === nbd.REPLY_BLOCK_STATUS_EXT && request.type === nbd.CMD_BLOCK_STATUS && this.#context.extended) {
      yield* this.#statusChunk(request, length, 8, 16);
    } else {
      throw violation(`a chunk of type ${type} answers a request of type ${request.type}`);
    }
    if (done) this.#settle(cookie as number, request);
  }

  /** offset u64, data */
  *#dataChunk(request: PendingRequest, length: number): Steps {
    if (length < 9 || length > 8 + request.length) throw violation(`a chunk of data of ${length} bytes`);
    yield this.#piece.subarray(0, 8);
    const start = this.#claim(request, length - 8);
    // `detach` may have put another buffer there meanwhile.
    yield (request.buffer as Uint8Array).subarray(start, start + length - 8);
  }

  /** offset u64, length u32 */
  *#holeChunk(request: PendingRequest, length: number): Steps {
    if (length !== 12) throw violation(`a chunk that says "hole" of ${length} bytes`);
    yield this.#piece.subarray(0, 12);
    const holeLength = this.#pieceView.getUint32(8);
    if (holeLength === 0) throw violation("a hole of 0 bytes");
    const start = this.#claim(request, holeLength);
    request.buffer?.fill(0, start, start + holeLength);
  }

  /** @returns where the chunk lies in the request's buffer */
  #claim(request: PendingRequest, length: number): number {
    const offset = getNumber(this.#pieceView, 0);
    const { length: room } = request;
    if (offset === undefined || offset < request.offset || offset - request.offset > room - length) {
      throw violation(`a chunk lies outside of what was asked (${request.offset}+${room})`);
    }
    if (++request.contents > 1 && (request.flags & nbd.CMD_FLAG_DF) !== 0) {
      throw violation("fragments where none were allowed");
    }
    const start = offset - request.offset;
    if (!request.fill(start, start + length, READ_RUNS_MAX)) {
      throw violation(`a chunk brings what has come already, or the ${READ_RUNS_MAX}th gap`);
    }
    return start;
  }

  /** context u32, [count u32,] then lengths and flags of 32 or 64 bits */
  *#statusChunk(request: PendingRequest, length: number, before: number, each: number): Steps {
    const count = (length - before) / each;
    if (count < 1 || !Number.isInteger(count)) throw violation(`a chunk of block status of ${length} bytes`);
    request.extentCount += count;
    if (request.extentCount > STATUS_EXTENTS_MAX) throw violation(`more than ${STATUS_EXTENTS_MAX} extents`);
    yield this.#piece.subarray(0, before);
    const id = this.#pieceView.getUint32(0);
    // 0: a server that does not count them.
    const told = before === 8 ? this.#pieceView.getUint32(4) : count;
    if (told !== 0 && told !== count) throw violation(`a chunk says ${told} extents and has ${count}`);
    if (!this.#context.contexts.some((context) => context.id === id)) {
      throw violation(`block status of context ${id}, which was not selected`);
    }
    if (request.extents.has(id)) throw violation(`block status of context ${id} comes twice`);
    const extents: number[] = [];
    request.extents.set(id, extents);
    let covered = 0;
    for (let left = count * each; left > 0;) {
      const piece = Math.min(left, PIECE_BYTES);
      yield this.#piece.subarray(0, piece);
      left -= piece;
      for (let at = 0; at < piece; at += each) covered = this.#addExtent(request, extents, at, each, covered);
    }
  }

  /** @returns how much of the request is covered with it */
  #addExtent(request: PendingRequest, extents: number[], at: number, each: number, covered: number): number {
    const view = this.#pieceView;
    const length = each === 8 ? view.getUint32(at) : getNumber(view, at);
    const flags = each === 8 ? view.getUint32(at + 4) : getNumber(view, at + 8);
    if (length === 0) throw violation("an extent of 0 bytes");
    if (covered >= request.length) throw violation("extents past the end of what was asked");
    if (flags === undefined) throw violation("status flags past 2^53");
    // The last one may say more than was asked; even 2^64-1 bytes more.
    const taken = Math.min(length ?? Number.MAX_SAFE_INTEGER, request.length - covered);
    const last = extents.length;
    if (last > 0 && extents[last - 1] === flags) extents[last - 2] += taken;
    else extents.push(taken, flags);
    return covered + taken;
  }

  /** error u32, length of the text u16, the text, and fields that depend on the type */
  *#errorChunk(request: PendingRequest, type: number, length: number): Steps {
    const least = type === nbd.REPLY_ERROR_OFFSET ? 14 : 6;
    if (length < least || length > ERROR_CHUNK_BYTES_MAX) throw violation(`an error of ${length} bytes`);
    yield this.#piece.subarray(0, 6);
    const error = this.#pieceView.getUint32(0);
    const textLength = this.#pieceView.getUint16(4);
    if (textLength > length - least || textLength > ERROR_TEXT_BYTES_MAX) {
      throw violation(`an error whose text has ${textLength} bytes`);
    }
    const rest = new Uint8Array(length - 6);
    if (rest.length > 0) yield rest;
    this.#fail(request, error, plainText(rest.subarray(0, textLength)));
  }

  #fail(request: PendingRequest, error: number, text: string): void {
    // The first one counts: what follows is often its consequence.
    if (request.errno !== 0) return;
    request.errno = ERRORS.has(error) ? error : EINVAL;
    request.errorText = text;
  }

  #find(cookie: number | undefined): PendingRequest {
    const request = cookie === undefined ? undefined : this.#context.find(cookie);
    if (request === undefined) throw violation(`a reply to a request that is not on its way (cookie ${cookie})`);
    return request;
  }

  #settle(cookie: number, request: PendingRequest): void {
    if (request.errno === 0 && !request.isAnswered(this.#context.contexts)) {
      throw violation("a reply without an error leaves out a part of what was asked");
    }
    this.#context.settle(cookie, request);
  }
}

/** What the server answered, as an error for people: "read at 4096: No space left on device (ENOSPC)". */
export function replyError(operation: string, request: PendingRequest): NbdError {
  const { errno, errorText, offset } = request;
  const words = errorText === "" ? "" : `: "${errorText}"`;
  const message = `${operation} at ${offset}: ${describe(errno)}${words}`;
  return new NbdError("ERR_NBD_IO", message, { errno, offset });
}

function describe(errno: Errno): string {
  return `${errnoText(errno)} (${errnoName(errno)})`;
}

function wrongMagic(magic: number): NbdError {
  return violation(`the magic number of a reply is wrong (0x${magic.toString(16)})`);
}

function violation(what: string): NbdError {
  return new NbdError("ERR_NBD_PROTOCOL", `NBD transmission: the server breaks the protocol: ${what}`);
}
