/**
 * One client's connection: bytes in, requests, bytes out. Straight-line code: a request whose bytes are there is served
 * before the next one is looked at, and what would have to wait is parked with a helper (`Session.park`).
 *
 * Input that is not a whole request, or that cannot be served now, is *carried* to the next turn; the client is not read from
 * while there is something that it must take or wait for first. So a connection holds at most: INPUT_BYTES carried,
 * OUTPUT_BYTES pending, and PARKED_MAX requests in the server's payload memory.
 */
import { EAGAIN, type Errno, errnoText, receiveBytes, sendBytes } from "@heirloom/block";
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
  CMD_WRITE_ZEROES,
  NBD_EINVAL,
  NBD_ENOSPC,
  NBD_EPERM,
  SIMPLE_REPLY_BYTES,
} from "../protocol/constants.ts";
import { wireError } from "./errors.ts";
import type { Exported } from "./exported.ts";
import * as limits from "./limits.ts";
import type { PostedConnection } from "./messages.ts";
import type { Pending } from "./output.ts";
import { KNOWN_BYTES, KnownExtents } from "./known-extents.ts";
import { HEADER_ROOM, type Parked, type Transfer } from "./parked.ts";
import * as replies from "./replies.ts";
import type { Answered } from "./replies.ts";
import { commandName, Request, requestBytes, strangeFlags } from "./request.ts";
import type { Session } from "./session.ts";
import { statusReply } from "./status-reply.ts";
import * as work from "./work-layout.ts";

/** A request is served when its bytes and everything that it needs are there. */
const notNow = -1;

const request = new Request();

export class Connection {
  readonly id: number;
  readonly fd: number;
  readonly exported: Exported;
  readonly structured: boolean;
  readonly extended: boolean;
  readonly contexts: PostedConnection["contexts"];
  /** What the thread's poll knows it by. */
  readonly tag: number;
  /** What the poll waits for at this moment. */
  events = 0;
  requests = 0;
  /** Requests that helpers have. */
  parked = 0;
  /** Why it ends, once it does: nothing more is read. */
  ended: string | undefined;
  /** Nothing more is sent either. */
  dead = false;
  /** It waits for payload memory. */
  starved = false;

  readonly #session: Session;
  #carry: Uint8Array | undefined;
  #carryFrom = 0;
  #carryTo = 0;
  #pending: Pending | undefined;
  /** Replies that wait for `#pending`, in their order; empty where that is undefined. */
  readonly #later: (() => void)[] = [];
  #reading: Transfer | undefined;
  #writing: Transfer | undefined;

  constructor(session: Session, posted: PostedConnection, exported: Exported, tag: number) {
    this.#session = session;
    this.id = posted.id;
    this.fd = posted.fd;
    this.exported = exported;
    this.structured = posted.structured;
    this.extended = posted.extended;
    this.contexts = posted.contexts;
    this.tag = tag;
    if (posted.unread.length > 0) this.#keep(posted.unread, 0, posted.unread.length);
  }

  get sending(): boolean {
    return this.#pending !== undefined;
  }
  /** Whether bytes of the client are of use now. */
  get listening(): boolean {
    return this.ended === undefined && !this.#blocked;
  }
  /** Nothing of it is under way any more. */
  get quiet(): boolean {
    return this.dead || (this.parked === 0 && this.#pending === undefined && this.#reading === undefined);
  }
  get #blocked(): boolean {
    return this.dead || this.#pending !== undefined || this.parked >= limits.PARKED_MAX || this.starved;
  }

  /** Goes on with what was begun, then with what was carried, then with what the socket has. */
  turn(): void {
    const session = this.#session;
    if (!this.#blocked && this.#carryTo > this.#carryFrom) this.#serveCarried();
    else if (!this.#blocked && (this.#reading ?? this.#writing) !== undefined) {
      this.#consume(session.input, session.inputView, 0, 0);
    }
    for (let turn = 0; turn < limits.TURNS && this.listening; turn++) {
      if (!this.#receive()) break;
    }
    this.flush();
  }

  /** The socket has room. */
  writable(): void {
    this.#sendPending();
    while (this.#pending === undefined && !this.dead) {
      const next = this.#later.shift();
      if (next === undefined) break;
      next();
      this.flush(); // so that each finds the block empty
    }
    if (this.#pending === undefined) this.turn();
  }

  /** Helpers are done with some of its requests. */
  unpark(done: ReadonlyArray<{ readonly parked: Parked; readonly errno: Errno }>): void {
    for (const { parked, errno } of done) {
      this.parked--;
      if (this.dead || this.#room(limits.REPLY_ROOM)) this.#answer(parked, errno);
      else this.#later.push(() => this.#answer(parked, errno));
    }
    this.turn();
  }

  /** The client, or the server, ends it: what is in flight is still answered. */
  end(reason: string): void {
    this.ended ??= reason;
    this.#dropCarry();
    this.#writing = undefined; // the rest of its payload will not be read
  }

  /** Nothing is sent any more. */
  die(reason: string): void {
    this.end(reason);
    this.dead = true;
    this.#pending?.release();
    this.#pending = undefined;
    for (const reply of this.#later.splice(0)) reply(); // each gives back what it holds
    this.#session.resetOutput();
  }

  // Input.

  #serveCarried(): void {
    const carry = this.#carry;
    if (carry === undefined) return;
    const to = this.#carryTo;
    const view = new DataView(carry.buffer, carry.byteOffset, carry.length);
    this.#keep(carry, this.#consume(carry, view, this.#carryFrom, to), to);
  }

  /** @returns whether the socket may have more */
  #receive(): boolean {
    const session = this.#session;
    const carried = this.#carryTo - this.#carryFrom;
    let bytes = session.input;
    let view = session.inputView;
    if (this.#carry !== undefined && carried > 0) {
      if (carried > session.smallCarryBytes) {
        bytes = this.#carry;
        view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
        if (this.#carryFrom > 0) bytes.copyWithin(0, this.#carryFrom, this.#carryTo);
        this.#carryFrom = 0;
        this.#carryTo = carried;
      } else bytes.set(this.#carry.subarray(this.#carryFrom, this.#carryTo));
    }
    const room = bytes.length - carried;
    const received = receiveBytes(this.fd, carried === 0 ? bytes : bytes.subarray(carried));
    if (received === -EAGAIN) return false;
    if (received <= 0) {
      if (received === 0) this.end("the client closed the connection");
      else this.die(`the connection broke: ${errnoText(-received)}`);
      return false;
    }
    const to = carried + received;
    this.#keep(bytes, this.#consume(bytes, view, 0, to), to);
    return received === room;
  }

  /** Keeps what was not consumed. */
  #keep(bytes: Uint8Array, from: number, to: number): void {
    if (from >= to || this.ended !== undefined) {
      this.#dropCarry();
      return;
    }
    if (bytes !== this.#carry) {
      const length = to - from;
      if (this.#carry === undefined || this.#carry.length < length) {
        this.#dropCarry();
        this.#carry = this.#session.takeCarry(length);
      }
      this.#carry.set(bytes.subarray(from, to));
      this.#carryFrom = 0;
      this.#carryTo = length;
      return;
    }
    this.#carryFrom = from;
    this.#carryTo = to;
  }

  #dropCarry(): void {
    if (this.#carry !== undefined) this.#session.giveBackCarry(this.#carry);
    this.#carry = undefined;
    this.#carryFrom = 0;
    this.#carryTo = 0;
  }

  /** Serves the requests in a stretch of input. @returns where the first byte is that was not consumed */
  #consume(bytes: Uint8Array, view: DataView, from: number, to: number): number {
    const header = requestBytes(this.extended);
    let at = from;
    for (;;) {
      if (this.#reading !== undefined && !this.#continueRead(this.#reading)) return at;
      if (this.#writing !== undefined) {
        at = this.#continueWrite(this.#writing, bytes, at, to);
        if (this.#writing !== undefined) return at;
      }
      if (this.ended !== undefined || to - at < header || this.#blocked || !this.#room(limits.REPLY_ROOM)) return at;
      if (!request.read(view, at, this.extended)) {
        this.die("the client sent something that is not a request");
        return to;
      }
      const next = this.#serve(bytes, view, at + header, to);
      if (next === notNow) return at;
      this.requests++;
      at = next;
      const session = this.#session;
      if (session.used >= limits.SEND_BYTES || session.replies >= limits.SEND_REPLIES) this.flush();
    }
  }

  // Requests. `request` has the header; `at` is where its payload begins. Each answers where the next one begins.

  #serve(bytes: Uint8Array, view: DataView, at: number, to: number): number {
    const { type, flags, length } = request;
    if (type === CMD_WRITE) return this.#serveWrite(bytes, at, to);
    const name = commandName(type);
    const payload = this.extended && (flags & CMD_FLAG_PAYLOAD_LEN) !== 0;
    if (payload) return this.#servePayload(view, at, to);
    if (name === undefined) {
      this.#fail(request, NBD_EINVAL, `invalid request type (${type}) received`);
      return at;
    }
    const strange = strangeFlags(type, flags, this.structured, this.extended);
    if (type === CMD_DISC) {
      this.end("the client said goodbye");
      return at;
    }
    if (strange !== 0) {
      this.#fail(request, NBD_EINVAL, `unsupported flags for command ${name} (got 0x${flags.toString(16)})`);
      return at;
    }
    if (type === CMD_FLUSH) return this.#parkChange(work.workFlush, 0, 0, 0, at);
    if (!this.#checkRange(name, type === CMD_TRIM || type === CMD_WRITE_ZEROES)) return at;
    switch (type) {
      case CMD_READ:
        return this.#serveRead(at);
      case CMD_BLOCK_STATUS:
        return this.#serveStatus(at, this.contexts);
      case CMD_CACHE:
        if (length > this.exported.payloadBytesMax) {
          this.#fail(request, NBD_EINVAL, this.#tooLong());
          return at;
        }
        return this.#parkChange(work.workCache, 0, request.offset, length, at);
      case CMD_TRIM:
        return this.#serveEffect(work.workDiscard, 0, at);
      default: {
        const unmap = (flags & CMD_FLAG_NO_HOLE) === 0 ? work.flagUnmap : 0;
        const fast = (flags & CMD_FLAG_FAST_ZERO) === 0 ? 0 : work.flagFast;
        return this.#serveEffect(work.workWriteZeroes, unmap | fast, at);
      }
    }
  }

  /** Block status for some of the contexts: the one command besides WRITE that has a payload. */
  #servePayload(view: DataView, at: number, to: number): number {
    const { length } = request;
    if (request.type !== CMD_BLOCK_STATUS || length > 8 + 4 * 64 || length < 12 || length % 4 !== 0) {
      this.#fail(request, NBD_EINVAL, "unexpected payload");
      this.end("the client sent a payload with a command that takes none");
      return at;
    }
    if (to - at < length) return notNow;
    const wanted = new Set<number>();
    for (let index = 8; index < length; index += 4) wanted.add(view.getUint32(at + index));
    request.length = view.getUint32(at) * 2 ** 32 + view.getUint32(at + 4);
    const contexts = this.contexts.filter(({ id }) => wanted.has(id));
    const end = at + length;
    if (contexts.length !== wanted.size || wanted.size !== (length - 8) / 4) {
      this.#fail(request, NBD_EINVAL, "block status of a context that was not negotiated");
      return end;
    }
    return this.#checkRange("block status", false) ? this.#serveStatus(end, contexts) : end;
  }

  /** Refuses a range that is none of this export. */
  #checkRange(name: string, changes: boolean): boolean {
    const { offset, length } = request;
    const { exported } = this;
    if (changes && !exported.writable) {
      this.#fail(request, NBD_EPERM, "Export is read-only");
      return false;
    }
    if (offset > exported.length || length > exported.length - offset) {
      const text = `operation past EOF; From: ${offset}, Len: ${length}, Size: ${exported.length}`;
      this.#fail(request, changes ? NBD_ENOSPC : NBD_EINVAL, text);
      return false;
    }
    if (offset % exported.alignment !== 0 || length % exported.alignment !== 0) {
      this.#fail(request, NBD_EINVAL, `${name} is not aligned to ${exported.alignment} bytes`);
      return false;
    }
    return true;
  }

  #tooLong(): string {
    return `len (${request.length}) is larger than max len (${this.exported.payloadBytesMax})`;
  }

  #serveRead(at: number): number {
    const { offset, length, flags } = request;
    const { exported, structured, extended } = this;
    if (length > exported.payloadBytesMax) {
      this.#fail(request, NBD_EINVAL, this.#tooLong());
      return at;
    }
    if (length === 0) {
      if (structured) this.#put(replies.putNone(this.#session.out.view, this.#session.used, request, extended));
      else this.#ok(request);
      return at;
    }
    const whole = !structured || (flags & CMD_FLAG_DF) !== 0;
    if (!whole && length >= limits.SPARSE_READ_BYTES) {
      this.#reading = transfer("read", offset + length, untroubled);
      return at;
    }
    if (length > limits.PIECE_BYTES_MAX) return this.#parkRead(undefined, answered(), offset, length) ? at : notNow;
    const head = structured ? replies.dataHeaderBytes(extended) : SIMPLE_REPLY_BYTES;
    if (!this.#room(head + length)) return notNow;
    const session = this.#session;
    const dataAt = session.used + head;
    const errno = exported.readNow(session.out.bytes.subarray(dataAt, dataAt + length), offset);
    if (errno === EAGAIN) return this.#parkRead(undefined, answered(), offset, length) ? at : notNow;
    if (errno !== 0) this.#failed(request, errno, "reading from file failed");
    else {
      if (structured) replies.putData(session.out.view, session.used, request, extended, true, offset, length);
      else replies.putSimple(session.out.view, session.used, request, 0);
      this.#put(dataAt + length);
    }
    return at;
  }

  /** A long read, in pieces; holes as such. @returns false if it must wait */
  #continueRead(read: Transfer): boolean {
    const { exported, extended } = this;
    const session = this.#session;
    const head = replies.dataHeaderBytes(extended);
    while (read.next < read.end) {
      const left = read.end - read.next;
      const piece = Math.min(limits.PIECE_BYTES_MAX, left);
      if (this.parked >= limits.PARKED_MAX || !this.#room(head + piece)) return false;
      const zeroes = exported.prompt ? exported.zeroesFrom(read.next, left) : 0;
      if (zeroes === left || zeroes >= limits.SPARSE_READ_BYTES) {
        const at = session.used;
        this.#put(replies.putHole(session.out.view, at, read, extended, false, read.next, zeroes));
        read.next += zeroes;
        continue;
      }
      const dataAt = session.used + head;
      const errno = exported.readNow(session.out.bytes.subarray(dataAt, dataAt + piece), read.next);
      if (errno === EAGAIN) {
        if (!this.#parkRead(read, read, read.next, piece)) return false;
      } else if (errno === 0) {
        replies.putData(session.out.view, session.used, read, extended, false, read.next, piece);
        this.#put(dataAt + piece);
      } else {
        read.errno = errno;
        break;
      }
      read.next += piece;
      if (session.used >= limits.SEND_BYTES) this.flush();
    }
    if (!this.#room(limits.REPLY_ROOM)) return false;
    read.issued = true;
    this.#reading = undefined;
    this.#finish(read);
    return true;
  }

  #serveWrite(bytes: Uint8Array, at: number, to: number): number {
    const { offset, length, flags } = request;
    const { exported } = this;
    if (this.extended && (flags & CMD_FLAG_PAYLOAD_LEN) === 0) {
      this.#fail(request, NBD_EINVAL, "a write must say that its length is that of a payload");
      this.end("the client sent a write without a payload");
      return at;
    }
    if (length > exported.payloadBytesMax) {
      this.#fail(request, NBD_EINVAL, this.#tooLong());
      this.end("the client sent a payload that is too long");
      return at;
    }
    const refusal = this.#writeRefusal();
    if (refusal !== undefined || length > limits.PIECE_BYTES_MAX) {
      this.#writing = transfer("write", offset + length, refusal ?? untroubled);
      return at;
    }
    if (to - at < length) return notNow;
    const fua = (flags & CMD_FLAG_FUA) !== 0;
    const data = bytes.subarray(at, at + length);
    const errno = this.#write(data, offset);
    const end = at + length;
    if (errno === EAGAIN) {
      return this.#parkWrite(undefined, answered(), data, offset, fua) ? end : notNow;
    }
    if (errno !== 0) this.#failed(request, errno, "writing to file failed");
    else if (fua) return this.#parkChange(work.workFlush, 0, 0, 0, end);
    else this.#ok(request);
    return end;
  }

  /** Why a write is not done, though its payload comes. */
  #writeRefusal(): Trouble | undefined {
    const { offset, length, flags } = request;
    const { exported } = this;
    const refusal = (errno: number, text: string): Trouble => ({ errno, text });
    const strange = strangeFlags(CMD_WRITE, flags, this.structured, this.extended);
    if (strange !== 0) {
      return refusal(NBD_EINVAL, `unsupported flags for command write (got 0x${flags.toString(16)})`);
    }
    if (!exported.writable) return refusal(NBD_EPERM, "Export is read-only");
    if (offset > exported.length || length > exported.length - offset) {
      return refusal(NBD_ENOSPC, `operation past EOF; From: ${offset}, Len: ${length}, Size: ${exported.length}`);
    }
    if (offset % exported.alignment !== 0 || length % exported.alignment !== 0) {
      return refusal(NBD_EINVAL, `write is not aligned to ${exported.alignment} bytes`);
    }
    return undefined;
  }

  /** EAGAIN where a helper must do it. */
  #write(data: Uint8Array, offset: number): Errno {
    return this.#session.writesItself(this.exported) ? this.exported.write(data, offset) : EAGAIN;
  }

  /** A write that is served as its payload arrives, in pieces of whole pages. @returns where the next byte is */
  #continueWrite(write: Transfer, bytes: Uint8Array, from: number, to: number): number {
    let at = from;
    while (write.next < write.end && at < to) {
      const left = write.end - write.next;
      let piece = Math.min(limits.PIECE_BYTES_MAX, left, to - at);
      if (piece < left) piece -= (write.next + piece) % PAGE;
      if (write.errno !== 0) piece = Math.min(left, to - at); // nothing is done with it
      if (piece <= 0) return at;
      if (write.errno === 0) {
        if (this.parked >= limits.PARKED_MAX) return at;
        const data = bytes.subarray(at, at + piece);
        const errno = this.#write(data, write.next);
        if (errno === EAGAIN) {
          if (!this.#parkWrite(write, write, data, write.next, false)) return at;
        } else if (errno !== 0) write.errno = errno;
      }
      at += piece;
      write.next += piece;
    }
    if (write.next < write.end || !this.#room(limits.REPLY_ROOM)) return at;
    write.issued = true;
    this.#writing = undefined;
    this.#finish(write);
    return at;
  }

  /** A discard, or zeroes. */
  #serveEffect(operation: number, flags: number, at: number): number {
    const { offset, length } = request;
    const { exported } = this;
    const fua = (request.flags & CMD_FLAG_FUA) !== 0;
    const itself = length <= limits.INLINE_EFFECT_BYTES && this.#session.writesItself(exported);
    const errno = !itself
      ? EAGAIN
      : operation === work.workDiscard
        ? exported.discard(offset, length)
        : exported.writeZeroes(offset, length, (flags & work.flagUnmap) !== 0, (flags & work.flagFast) !== 0);
    if (errno === EAGAIN) return this.#parkChange(operation, flags | (fua ? work.flagFua : 0), offset, length, at);
    if (errno !== 0) this.#failed(request, errno, failures[operation]);
    else if (fua) return this.#parkChange(work.workFlush, 0, 0, 0, at);
    else this.#ok(request);
    return at;
  }

  #serveStatus(at: number, contexts: PostedConnection["contexts"]): number {
    const { offset, length } = request;
    if (contexts.length === 0) {
      this.#fail(request, NBD_EINVAL, "CMD_BLOCK_STATUS not negotiated");
      return at;
    }
    if (length === 0) {
      this.#fail(request, NBD_EINVAL, "need non-zero length");
      return at;
    }
    const one = (request.flags & CMD_FLAG_REQ_ONE) !== 0;
    const { exported, extended } = this;
    if (!exported.prompt) return this.#parkStatus(at, one, contexts);
    const session = this.#session;
    if (session.used > 0) this.flush();
    if (this.#pending !== undefined || this.dead) return notNow;
    const { view } = session.out;
    const end = statusReply(exported, exported.contexts, contexts, request, extended, one, offset, length, view, 0);
    if (end < 0) this.#failed(request, -end, failures[work.workStatus]);
    else this.#put(end);
    return at;
  }

  /** The reply to a status that a helper asked for. */
  #answerStatus(parked: Parked): void {
    const session = this.#session;
    if (session.used > 0) this.flush();
    if (this.#pending !== undefined) {
      this.#later.unshift(() => this.#answerStatus(parked));
      return;
    }
    const { answered: to, offset, contexts, flags, place, found } = parked;
    if (!this.dead) {
      const known = new KnownExtents(new Float64Array(session.payload.buffer, place), found, offset);
      const all = this.exported.contexts;
      const { view } = session.out;
      const end = statusReply(known, all, contexts, to, this.extended, flags === 1, offset, known.length, view, 0);
      if (end < 0) this.#failed(to, -end, failures[work.workStatus]);
      else this.#put(end);
    }
    session.freePayload(parked);
  }

  // Helpers.

  #parkRead(transfer: Transfer | undefined, to: Answered, offset: number, length: number): boolean {
    const placeBytes = length + HEADER_ROOM;
    const place = this.#session.allocate(placeBytes);
    if (place === -1) return this.#starve();
    if (transfer !== undefined) transfer.outstanding++;
    const flags = this.exported.disk?.admitted === true ? work.flagAdmitted : 0;
    this.#park(work.workRead, flags, to, offset, length, place, placeBytes, transfer);
    return true;
  }

  #parkWrite(
    transfer: Transfer | undefined,
    to: Answered,
    data: Uint8Array,
    offset: number,
    fua: boolean,
  ): boolean {
    const session = this.#session;
    const place = session.allocate(data.length);
    if (place === -1) return this.#starve();
    session.payload.set(data, place);
    if (transfer !== undefined) transfer.outstanding++;
    const flags = (fua ? work.flagFua : 0) | (this.exported.disk?.admitted === true ? work.flagAdmitted : 0);
    this.#park(work.workWrite, flags, to, offset, data.length, place, data.length, transfer);
    return true;
  }

  /** What has no payload; `request` is answered when it is done. */
  #parkChange(operation: number, flags: number, offset: number, length: number, next: number): number {
    this.#park(operation, flags, answered(), offset, length, -1, 0, undefined);
    return next;
  }

  #parkStatus(next: number, one: boolean, contexts: PostedConnection["contexts"]): number {
    const placeBytes = KNOWN_BYTES;
    const place = this.#session.allocate(placeBytes);
    if (place === -1) {
      this.#starve();
      return notNow;
    }
    const { offset, length } = request;
    this.#park(work.workStatus, one ? 1 : 0, answered(), offset, length, place, placeBytes, undefined, contexts);
    return next;
  }

  #starve(): false {
    this.starved = true;
    this.#session.starve(this);
    return false;
  }

  #park(
    operation: number,
    flags: number,
    to: Answered,
    offset: number,
    length: number,
    place: number,
    placeBytes: number,
    transfer: Transfer | undefined,
    contexts: PostedConnection["contexts"] = [],
  ): void {
    this.parked++;
    const { exported } = this;
    if (exported.disk !== undefined) exported.disk.admitted = false;
    this.#session.park({
      connection: this,
      exported,
      answered: to,
      operation,
      flags,
      offset,
      length,
      place,
      placeBytes,
      transfer,
      contexts,
      found: 0,
    });
  }

  /** Replies to what a helper did; its payload memory goes back. */
  #answer(parked: Parked, errno: Errno): void {
    const { transfer, operation, answered: to } = parked;
    if (this.dead) {
      this.#session.freePayload(parked);
      return;
    }
    if (transfer !== undefined) {
      transfer.outstanding--;
      if (errno !== 0 && transfer.errno === 0) transfer.errno = errno;
      if (operation === work.workRead && errno === 0) this.#sendData(parked, false);
      else this.#session.freePayload(parked);
      if (this.#pending === undefined) this.#finish(transfer);
      else this.#later.push(() => this.#finish(transfer));
      return;
    }
    if (errno !== 0 || (operation !== work.workRead && operation !== work.workStatus)) {
      this.#session.freePayload(parked);
      if (errno !== 0) this.#failed(to, errno, failures[operation]);
      else this.#ok(to);
      return;
    }
    if (operation === work.workRead) this.#sendData(parked, true);
    else this.#answerStatus(parked);
  }

  /** The reply with the data of a parked read: small ones with the others, large ones from where they are. */
  #sendData(parked: Parked, last: boolean): void {
    const { answered: to, offset, length, place } = parked;
    const { structured, extended } = this;
    const session = this.#session;
    const head = structured ? replies.dataHeaderBytes(extended) : SIMPLE_REPLY_BYTES;
    const small = length <= limits.SEND_BYTES && this.#room(head + length);
    const view = small ? session.out.view : session.payloadView;
    const at = small ? session.used : place + HEADER_ROOM - head;
    if (structured) replies.putData(view, at, to, extended, last, offset, length);
    else replies.putSimple(view, at, to, 0);
    if (!small) {
      this.#sendPlace(parked, at, head + length);
      return;
    }
    const data = place + HEADER_ROOM;
    session.out.bytes.set(session.payload.subarray(data, data + length), at + head);
    this.#put(at + head + length);
    session.freePayload(parked);
  }

  /** Sends an answer from its payload memory, behind what is in the block. */
  #sendPlace(parked: Parked, from: number, length: number): void {
    const session = this.#session;
    this.flush();
    if (this.dead) {
      session.freePayload(parked);
    } else if (this.#pending === undefined) {
      const release = (): void => session.freePayload(parked);
      this.#pending = { bytes: session.payload, from, to: from + length, release };
      this.#sendPending();
    } else this.#later.unshift(() => this.#sendPlace(parked, from, length));
  }

  /** Answers a transfer when nothing of it is left to do. There is room for a reply. */
  #finish(done: Transfer): void {
    if (!done.issued || done.outstanding > 0 || this.dead) return;
    const session = this.#session;
    if (done.errno !== 0) {
      if (done.text === undefined) this.#failed(done, done.errno, failures[done.operation]);
      else this.#fail(done, done.errno, done.text);
    } else if (done.operation === work.workRead) {
      this.#put(replies.putNone(session.out.view, session.used, done, this.extended));
    } else if (done.fua) this.#park(work.workFlush, 0, done, 0, 0, -1, 0, undefined);
    else this.#ok(done);
  }

  // Output.

  /** Whether the block has room for so much more; sends what is in it if not. */
  #room(bytes: number): boolean {
    if (this.#pending !== undefined || this.dead) return false;
    if (this.#session.used + bytes <= limits.OUTPUT_BYTES) return true;
    this.flush();
    return this.#pending === undefined && !this.dead;
  }

  /** A reply was put into the block, up to here. */
  #put(end: number): void {
    this.#session.used = end;
    this.#session.replies++;
  }

  #ok(to: Answered): void {
    const session = this.#session;
    this.#put(
      this.extended
        ? replies.putNone(session.out.view, session.used, to, true)
        : replies.putSimple(session.out.view, session.used, to, 0),
    );
  }

  #failed(to: Answered, errno: Errno, text: string): void {
    this.#fail(to, wireError(errno), text);
  }

  #fail(to: Answered, error: number, text: string): void {
    const session = this.#session;
    this.#put(
      this.structured
        ? replies.putError(session.out.view, session.used, to, this.extended, error, text)
        : replies.putSimple(session.out.view, session.used, to, error),
    );
  }

  /** Sends what is in the thread's block; what the socket does not take stays with this connection. */
  flush(): void {
    const session = this.#session;
    if (session.used === 0 || this.dead) return;
    const block = session.out;
    const sent = sendBytes(this.fd, block.bytes.subarray(0, session.used));
    const to = session.used;
    session.resetOutput();
    if (sent === to) return;
    if (sent < 0 && sent !== -EAGAIN) {
      this.die(`the connection broke: ${errnoText(-sent)}`);
      return;
    }
    session.newBlock();
    this.#pending = { bytes: block.bytes, from: Math.max(sent, 0), to, release: () => session.giveBack(block) };
  }

  #sendPending(): void {
    const pending = this.#pending;
    if (pending === undefined) return;
    const sent = sendBytes(this.fd, pending.bytes.subarray(pending.from, pending.to));
    if (sent === -EAGAIN) return;
    if (sent < 0) {
      this.die(`the connection broke: ${errnoText(-sent)}`);
      return;
    }
    pending.from += sent;
    if (pending.from < pending.to) return;
    this.#pending = undefined;
    pending.release();
  }
}

const PAGE = 4096;
interface Trouble {
  readonly errno: number;
  readonly text: string | undefined;
}
const untroubled: Trouble = { errno: 0, text: undefined };

/** Who the request at hand is, for an answer that comes later. */
function answered(): Answered {
  const { cookieHigh, cookieLow, offset } = request;
  return { cookieHigh, cookieLow, offset };
}

/** The request at hand, as something that is done in pieces. */
function transfer(kind: "read" | "write", end: number, { errno, text }: Trouble): Transfer {
  const { offset, flags } = request;
  const operation = kind === "read" ? work.workRead : work.workWrite;
  const fua = kind === "write" && errno === 0 && (flags & CMD_FLAG_FUA) !== 0;
  return { ...answered(), operation, next: offset, end, outstanding: 0, issued: false, errno, text, fua };
}

const failures: Readonly<Record<number, string>> = {
  [work.workRead]: "reading from file failed",
  [work.workWrite]: "writing to file failed",
  [work.workFlush]: "flush failed",
  [work.workDiscard]: "discard failed",
  [work.workWriteZeroes]: "writing to file failed",
  [work.workCache]: "caching data failed",
  [work.workStatus]: "can't get block status",
};
