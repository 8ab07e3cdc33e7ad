/**
 * One client's connection: requests in, replies out. Straight-line code: a request whose bytes are there is served before
 * the next one is looked at; what would have to wait is parked with a helper, and its reply comes when it comes.
 *
 * The client is not read from while there is something that it must take, or that must be waited for, first. So a
 * connection holds at most INPUT_BYTES carried, OUTPUT_BYTES pending, and PARKED_MAX requests in payload memory.
 */
import { EAGAIN, type Errno, errnoText } from "@heirloom/block";
import {
  CMD_BLOCK_STATUS,
  CMD_CACHE,
  CMD_DISC,
  CMD_FLAG_DF,
  CMD_FLAG_FAST_ZERO,
  CMD_FLAG_FUA,
  CMD_FLAG_NO_HOLE,
  CMD_FLAG_PAYLOAD_LEN,
  CMD_FLAG_REQ_ONE,
  CMD_FLUSH,
  CMD_READ,
  CMD_TRIM,
  CMD_WRITE,
  NBD_EINVAL,
  SIMPLE_REPLY_BYTES,
} from "../protocol/constants.ts";
import type { Exported } from "./exported.ts";
import { Input, type InputBuffers } from "./input.ts";
import * as limits from "./limits.ts";
import type { PostedConnection } from "./messages.ts";
import { type Framing, Output } from "./output.ts";
import type { OutputBlocks } from "./output-blocks.ts";
import { failures, type Helpers, Parking, type Transfer, wholeOf } from "./parking.ts";
import * as replies from "./replies.ts";
import { commandName, Request, requestBytes } from "./request.ts";
import { rangeRefusal, type Refusal, strangeFlags, tooLong } from "./refusals.ts";
import { statusReply } from "./status-reply.ts";
import type { Traffic } from "./traffic.ts";
import * as work from "./work-layout.ts";

/** What a connection needs of its thread. */
export interface ConnectionThread extends Helpers {
  readonly input: InputBuffers;
  readonly output: OutputBlocks;
  /** Whether the thread does changes of an export by itself. */
  writesItself(exported: Exported): boolean;
}

/** A request is served when its bytes and everything that it needs are there. */
const notNow = -1;

/** Large writes are cut at borders of pages. */
const PAGE = 4096;

const request = new Request();

export class Connection {
  readonly id: number;
  readonly fd: number;
  readonly exported: Exported;
  readonly #traffic: Traffic;
  /** What the thread's poll knows it by. */
  readonly tag: number;
  readonly parking: Parking;
  /** What the poll waits for at this moment. */
  events = 0;
  requests = 0;
  /** Why it ends, once it does: nothing more is read. */
  ended: string | undefined;
  /** The client has said that it needs no more; what it asked before is done, whether it hears of it or not. */
  saidGoodbye = false;

  readonly #thread: ConnectionThread;
  readonly #framing: Framing;
  readonly #contexts: PostedConnection["contexts"];
  readonly #input: Input;
  readonly #output: Output;
  /** The read or write that is under way in pieces. */
  #reading: Transfer | undefined;
  #writing: Transfer | undefined;

  constructor(thread: ConnectionThread, posted: PostedConnection, exported: Exported, traffic: Traffic, tag: number) {
    const { id, fd, structured, extended, contexts, unread } = posted;
    this.id = id;
    this.fd = fd;
    this.exported = exported;
    this.#traffic = traffic;
    this.tag = tag;
    this.#thread = thread;
    this.#framing = { structured, extended };
    this.#contexts = contexts;
    this.#output = new Output(fd, this.#framing, thread.output);
    this.parking = new Parking(thread, exported, this.#framing, this.#output);
    this.#input = new Input(fd, thread.input, (bytes, view, from, to) => this.#consume(bytes, view, from, to));
    this.#input.prepend(unread);
  }

  /** The socket must take something first. */
  get isSending(): boolean {
    return this.#output.isPending;
  }
  /** Bytes of the client are of use now. */
  get isListening(): boolean {
    return this.ended === undefined && !this.#isBlocked;
  }
  /** It has ended, and nothing of it is under way any more. */
  get isOver(): boolean {
    if (this.#output.broken !== undefined) return true;
    return this.ended !== undefined && this.parking.count === 0 && !this.isSending && this.#reading === undefined;
  }
  get #isBlocked(): boolean {
    return this.#output.isBlocked || this.parking.isFull;
  }

  /** Goes on with what was begun, then with what was carried, then with what the socket has; sends what that gave. */
  turn(): void {
    const begun = this.#reading ?? this.#writing;
    if ((begun !== undefined || this.#input.carried > 0) && !this.#isBlocked) this.#input.resume();
    for (let turn = 0; turn < limits.TURNS && this.isListening; turn++) {
      const more = this.#input.receive();
      if (more === undefined) this.end("the client closed the connection");
      else if (more < 0) this.die(`the connection broke: ${errnoText(-more)}`);
      if (more !== 1) break;
    }
    this.#output.flush();
  }

  /** The socket has room. */
  writable(): void {
    if (this.#output.writable()) this.turn();
  }

  /** Ends it, for the client or the server: nothing more is read, what is in flight is still answered. */
  end(reason: string): void {
    this.ended ??= reason;
    this.#input.close();
    this.#writing = undefined; // the rest of its payload will not be read
  }

  /** Nothing is sent any more either. */
  die(reason: string): void {
    this.end(reason);
    this.#output.break(reason);
  }

  #consume(bytes: Uint8Array, view: DataView, from: number, to: number): number {
    const header = requestBytes(this.#framing.extended);
    const { output } = this.#thread;
    let at = from;
    for (;;) {
      if (this.#reading !== undefined && !this.#continueRead(this.#reading)) return at;
      if (this.#writing !== undefined) {
        at = this.#continueWrite(this.#writing, bytes, at, to);
        if (this.#writing !== undefined) return at;
      }
      if (this.ended !== undefined || to - at < header || this.#isBlocked) return at;
      if (!this.#output.room(limits.REPLY_ROOM)) return at;
      if (!request.read(view, at, this.#framing.extended)) {
        this.end("the client sent something that is not a request");
        return to;
      }
      const next = this.#serve(bytes, view, at + header, to);
      if (next === notNow) return at;
      this.requests++;
      this.#traffic.count(request.type, request.length);
      at = next;
      if (output.used >= limits.SEND_BYTES || output.replies >= limits.SEND_REPLIES) this.#output.flush();
    }
  }

  // Requests. `request` has the header; `at` is where its payload begins. Each answers where the next one begins.

  #serve(bytes: Uint8Array, view: DataView, at: number, to: number): number {
    const { type, flags, offset, length } = request;
    const { structured, extended } = this.#framing;
    if (type === CMD_WRITE) return this.#serveWrite(bytes, at, to);
    if (extended && (flags & CMD_FLAG_PAYLOAD_LEN) !== 0) return this.#servePayload(view, at, to);
    if (type === CMD_DISC) {
      this.saidGoodbye = true;
      this.end("the client said goodbye");
      return at;
    }
    if (commandName(type) === undefined)
      return this.#refuse({ error: NBD_EINVAL, text: `invalid request type (${type}) received` }, at);
    const strange = strangeFlags(type, flags, structured, extended);
    if (strange !== undefined) return this.#refuse(strange, at);
    if (type === CMD_FLUSH) return this.#park(work.workFlush, 0, 0, 0, at);
    const refused = this.#outOfRange(type, offset, length);
    if (refused !== undefined) return this.#refuse(refused, at);
    switch (type) {
      case CMD_READ:
        return this.#serveRead(at);
      case CMD_BLOCK_STATUS:
        return this.#serveStatus(at, this.#contexts);
      case CMD_CACHE:
        if (length > this.exported.payloadBytesMax) return this.#refuse(tooLong(this.exported, length), at);
        return this.#park(work.workCache, 0, offset, length, at);
      case CMD_TRIM:
        return this.#serveEffect(work.workDiscard, 0, at);
      default: {
        const unmap = (flags & CMD_FLAG_NO_HOLE) === 0 ? work.flagUnmap : 0;
        const fast = (flags & CMD_FLAG_FAST_ZERO) === 0 ? 0 : work.flagFast;
        return this.#serveEffect(work.workWriteZeroes, unmap | fast, at);
      }
    }
  }

  #outOfRange(type: number, offset: number, length: number): Refusal | undefined {
    const refused = rangeRefusal(this.exported, type, offset, length);
    if (refused !== undefined) this.exported.countRefused(type);
    return refused;
  }

  #refuse({ error, text }: Refusal, next: number): number {
    this.#output.fail(request, error, text);
    return next;
  }

  #park(operation: number, flags: number, offset: number, length: number, next: number): number {
    this.parking.change(request, operation, flags, offset, length);
    return next;
  }

  /** Block status of some of the contexts: the one command besides WRITE that has a payload. */
  #servePayload(view: DataView, at: number, to: number): number {
    const { type, length } = request;
    if (type !== CMD_BLOCK_STATUS || length > STATUS_PAYLOAD_MAX || length < 12 || length % 4 !== 0) {
      if (length > this.exported.payloadBytesMax) {
        this.end("the client sent a payload that is too long");
        return this.#refuse(tooLong(this.exported, length), at);
      }
      this.#writing = begin(work.workWrite, { error: NBD_EINVAL, text: "unexpected payload" });
      return at;
    }
    if (to - at < length) return notNow;
    const end = at + length;
    const wanted = new Set<number>();
    for (let entry = at + 8; entry < end; entry += 4) wanted.add(view.getUint32(entry));
    request.length = view.getUint32(at) * 2 ** 32 + view.getUint32(at + 4);
    const contexts = this.#contexts.filter(({ id }) => wanted.has(id));
    if (contexts.length !== (length - 8) / 4) {
      const text = "block status of a context that was not negotiated, or twice of one";
      return this.#refuse({ error: NBD_EINVAL, text }, end);
    }
    const refused = rangeRefusal(this.exported, type, request.offset, request.length);
    return refused === undefined ? this.#serveStatus(end, contexts) : this.#refuse(refused, end);
  }

  #serveRead(at: number): number {
    const { offset, length, flags } = request;
    const { exported } = this;
    const { structured, extended } = this.#framing;
    const output = this.#output;
    if (length > exported.payloadBytesMax) return this.#refuse(tooLong(exported, length), at);
    if (length === 0) {
      if (structured) output.put(replies.putNone(output.view, output.at, request, extended));
      else output.ok(request);
      return at;
    }
    if (structured && (flags & CMD_FLAG_DF) === 0 && length >= limits.SPARSE_READ_BYTES) {
      this.#reading = begin(work.workRead, undefined);
      return at;
    }
    // In one piece: what was sent of a reply without chunks cannot be taken back.
    if (length > limits.PIECE_BYTES_MAX) return this.parking.read(request, offset, length) ? at : notNow;
    const head = structured ? replies.dataHeaderBytes(extended) : SIMPLE_REPLY_BYTES;
    if (!output.room(head + length)) return notNow;
    const data = output.at + head;
    const errno = exported.readNow(output.bytes.subarray(data, data + length), offset);
    if (errno === EAGAIN) return this.parking.read(request, offset, length) ? at : notNow;
    if (errno !== 0) output.failed(request, errno, failures[work.workRead]);
    else {
      if (structured) replies.putData(output.view, output.at, request, extended, true, offset, length);
      else replies.putSimple(output.view, output.at, request, 0);
      output.put(data + length);
    }
    return at;
  }

  /** A long read, in pieces; holes as such. @returns false if it must wait */
  #continueRead(read: Transfer): boolean {
    const { exported, parking } = this;
    const { extended } = this.#framing;
    const output = this.#output;
    const head = replies.dataHeaderBytes(extended);
    while (read.next < read.end && read.errno === 0) {
      const left = read.end - read.next;
      const piece = Math.min(limits.PIECE_BYTES_MAX, left);
      if (parking.isFull || !output.room(head + piece)) return false;
      const zeroes = exported.prompt ? exported.zeroesFrom(read.next, left) : 0;
      if (zeroes === left || zeroes >= limits.SPARSE_READ_BYTES) {
        output.put(replies.putHole(output.view, output.at, read, extended, false, read.next, zeroes));
        read.next += zeroes;
        continue;
      }
      const data = output.at + head;
      const whole = wholeOf(read, read.next);
      const errno = exported.readNow(output.bytes.subarray(data, data + piece), read.next, whole);
      if (errno === 0) {
        replies.putData(output.view, output.at, read, extended, false, read.next, piece);
        output.put(data + piece);
      } else if (errno !== EAGAIN) read.errno = errno;
      else if (!parking.read(read, read.next, piece, read)) return false;
      read.next += piece;
      if (output.at >= limits.SEND_BYTES) output.flush();
    }
    if (!output.room(limits.REPLY_ROOM)) return false;
    read.issued = true;
    this.#reading = undefined;
    parking.finish(read);
    return true;
  }

  #serveWrite(bytes: Uint8Array, at: number, to: number): number {
    const { offset, length, flags } = request;
    const { exported, parking } = this;
    const { structured, extended } = this.#framing;
    const output = this.#output;
    if (extended && (flags & CMD_FLAG_PAYLOAD_LEN) === 0) {
      this.end("the client sent a write without a payload");
      return this.#refuse({ error: NBD_EINVAL, text: "a write must say that its length is a payload's" }, at);
    }
    if (length > exported.payloadBytesMax) {
      this.end("the client sent a payload that is too long");
      return this.#refuse(tooLong(exported, length), at);
    }
    const refused = strangeFlags(CMD_WRITE, flags, structured, extended) ?? this.#outOfRange(CMD_WRITE, offset, length);
    if (refused !== undefined || length > limits.PIECE_BYTES_MAX) {
      this.#writing = begin(work.workWrite, refused);
      return at;
    }
    if (to - at < length) return notNow;
    const fua = (flags & CMD_FLAG_FUA) !== 0;
    const data = bytes.subarray(at, at + length);
    const errno = this.#write(data, offset, 0);
    const next = at + length;
    if (errno === EAGAIN) return parking.write(request, data, offset, fua) ? next : notNow;
    if (errno !== 0) output.failed(request, errno, failures[work.workWrite]);
    else if (fua) return this.#park(work.workFlush, 0, 0, 0, next);
    else output.ok(request);
    return next;
  }

  /** EAGAIN where a helper must do it. */
  #write(data: Uint8Array, offset: number, whole: number): Errno {
    return this.#thread.writesItself(this.exported) ? this.exported.write(data, offset, whole) : EAGAIN;
  }

  /** A write that is served as its payload arrives, in pieces of whole pages; or whose payload is thrown away. */
  #continueWrite(write: Transfer, bytes: Uint8Array, from: number, to: number): number {
    const { parking } = this;
    let at = from;
    while (write.next < write.end && at < to) {
      const left = write.end - write.next;
      if (write.errno !== 0) {
        const thrown = Math.min(left, to - at);
        at += thrown;
        write.next += thrown;
        continue;
      }
      let piece = Math.min(limits.PIECE_BYTES_MAX, left, to - at);
      if (piece < left) piece -= (write.next + piece) % PAGE;
      if (piece <= 0 || parking.isFull) return at;
      const data = bytes.subarray(at, at + piece);
      const errno = this.#write(data, write.next, wholeOf(write, write.next));
      if (errno === EAGAIN && !parking.write(write, data, write.next, false, write)) return at;
      if (errno !== 0 && errno !== EAGAIN) write.errno = errno;
      at += piece;
      write.next += piece;
    }
    if (write.next < write.end || !this.#output.room(limits.REPLY_ROOM)) return at;
    write.issued = true;
    this.#writing = undefined;
    parking.finish(write);
    return at;
  }

  /** A discard, or zeroes. */
  #serveEffect(operation: number, flags: number, at: number): number {
    const { offset, length } = request;
    const { exported } = this;
    const fua = (request.flags & CMD_FLAG_FUA) !== 0;
    const itself = length <= limits.INLINE_EFFECT_BYTES && this.#thread.writesItself(exported);
    const errno = !itself
      ? EAGAIN
      : operation === work.workDiscard
        ? exported.discard(offset, length)
        : exported.writeZeroes(offset, length, (flags & work.flagUnmap) !== 0, (flags & work.flagFast) !== 0);
    if (errno === EAGAIN) return this.#park(operation, flags | (fua ? work.flagFua : 0), offset, length, at);
    if (errno !== 0) this.#output.failed(request, errno, failures[operation]);
    else if (fua) return this.#park(work.workFlush, 0, 0, 0, at);
    else this.#output.ok(request);
    return at;
  }

  #serveStatus(at: number, contexts: PostedConnection["contexts"]): number {
    const { offset, length } = request;
    const { exported } = this;
    const output = this.#output;
    if (contexts.length === 0) {
      return this.#refuse({ error: NBD_EINVAL, text: "CMD_BLOCK_STATUS not negotiated" }, at);
    }
    if (length === 0) return this.#refuse({ error: NBD_EINVAL, text: "need non-zero length" }, at);
    const one = (request.flags & CMD_FLAG_REQ_ONE) !== 0;
    if (!exported.prompt) return this.parking.status(request, offset, length, one, contexts) ? at : notNow;
    output.flush(); // the whole block is needed
    if (output.isBlocked) return notNow;
    const { extended } = this.#framing;
    const all = exported.contexts;
    const end = statusReply(exported, all, contexts, request, extended, one, offset, length, output.view, 0);
    if (end < 0) output.failed(request, -end, failures[work.workStatus]);
    else output.put(end);
    return at;
  }
}

/** An effect's length, and as many contexts as an export can have. */
const STATUS_PAYLOAD_MAX = 4096;

/**
 * The request at hand, as something that is done in pieces. With a refusal, its payload comes all the same, and is counted
 * from 0: an offset that is refused may be so large that what is added to it is lost.
 */
function begin(operation: number, refused: Refusal | undefined): Transfer {
  const { cookieHigh, cookieLow, offsetHigh, offsetLow, length, flags } = request;
  const next = refused === undefined ? request.offset : 0;
  return {
    cookieHigh,
    cookieLow,
    offsetHigh,
    offsetLow,
    operation,
    begunMs: performance.now(),
    offset: next,
    next,
    end: next + length,
    outstanding: 0,
    issued: false,
    over: false,
    errno: refused?.error ?? 0,
    text: refused?.text,
    fua: operation === work.workWrite && (flags & CMD_FLAG_FUA) !== 0,
  };
}
