/**
 * Requests of one connection that are with helpers: how they get there, and what is replied when they come back. Their
 * payload lies in the server's payload memory meanwhile.
 */
import type { Errno } from "@heirloom/block";
import { SIMPLE_REPLY_BYTES } from "../protocol/constants.ts";
import { countedRead, countedWrite, furtherPart } from "@heirloom/engine/thread";
import type { Exported } from "./exported.ts";
import { KNOWN_BYTES, KnownExtents } from "./known-extents.ts";
import { LAST_PLACE_BYTES } from "./payload-memory.ts";
import { PARKED_MAX, REPLY_ROOM, SEND_BYTES } from "./limits.ts";
import type { PostedConnection } from "./messages.ts";
import type { Framing, Output } from "./output.ts";
import * as replies from "./replies.ts";
import type { Answered } from "./replies.ts";
import { statusReply } from "./status-reply.ts";
import * as work from "./work-layout.ts";

/** Room before a parked read's data for the header of its reply. */
const HEADER_ROOM = 64;

/** A read or write that is answered, and counts, when all its pieces are done. */
export interface Transfer extends Answered {
  /** workRead or workWrite. */
  readonly operation: number;
  /** When it came, as `performance.now()` had it. */
  readonly begunMs: number;
  /** Where it begins. */
  readonly offset: number;
  /** Where the next piece begins, and where the last one ends. */
  next: number;
  readonly end: number;
  /** Pieces that helpers have. */
  outstanding: number;
  /** All pieces are under way or done. */
  issued: boolean;
  /** It was answered, or its last flush is under way: several of its pieces may be found to be the last, one after the other. */
  over: boolean;
  /** The first that failed. */
  errno: number;
  /** Its error is one of the wire, and this is said of it. */
  readonly text: string | undefined;
  readonly fua: boolean;
}

/** A request that a helper has, or will have. */
export interface Parked {
  readonly parking: Parking;
  readonly exported: Exported;
  readonly answered: Answered;
  /** One of the `work` numbers, with its flags. */
  readonly operation: number;
  readonly flags: number;
  readonly offset: number;
  readonly length: number;
  /** Where its data lie, or -1; and its piece of payload memory, or -1. */
  readonly data: number;
  readonly place: number;
  readonly placeBytes: number;
  /** Of which it is a piece. */
  readonly transfer: Transfer | undefined;
  /** Of block status: what it is asked of. */
  readonly contexts: PostedConnection["contexts"];
}

/** What a parking needs of its thread. */
export interface Helpers {
  readonly payload: Uint8Array;
  readonly payloadView: DataView;
  /** So much of this export waits for helpers already that no memory is spent on more. */
  isCrowded(exported: Exported): boolean;
  /** Where `length` bytes of payload memory are, or -1. */
  allocate(length: number): number;
  /** Where LAST_PLACE_BYTES are for a connection that has nothing, or -1. */
  takeLastPlace(): number;
  /** Of one that `parking.held` counts. */
  freePayload(parked: Parked): void;
  park(parked: Parked): void;
}

export const failures: Readonly<Record<number, string>> = {
  [work.workRead]: "reading from file failed",
  [work.workWrite]: "writing to file failed",
  [work.workFlush]: "flush failed",
  [work.workDiscard]: "discard failed",
  [work.workWriteZeroes]: "writing to file failed",
  [work.workCache]: "caching data failed",
  [work.workStatus]: "can't get block status",
};

const nowhere = { data: -1, place: -1, placeBytes: 0 } as const;

/** What a disk is told of a piece before it does it (`DiskIo.whole`). */
export function wholeOf(transfer: Transfer | undefined, offset: number): number {
  if (transfer === undefined) return 0;
  return offset === transfer.offset ? transfer.end - transfer.offset : furtherPart;
}

export class Parking {
  /** Requests that helpers have. */
  count = 0;
  /** There was no payload memory for the next one. */
  starved = false;
  /** Pieces of payload memory that it has. */
  held = 0;
  readonly #helpers: Helpers;
  readonly #exported: Exported;
  readonly #framing: Framing;
  readonly #output: Output;

  constructor(helpers: Helpers, exported: Exported, framing: Framing, output: Output) {
    this.#helpers = helpers;
    this.#exported = exported;
    this.#framing = framing;
    this.#output = output;
  }

  get isFull(): boolean {
    return this.starved || this.count >= PARKED_MAX;
  }

  /** @returns false without memory for it */
  read(to: Answered, offset: number, length: number, transfer?: Transfer): boolean {
    const placeBytes = length + HEADER_ROOM;
    const place = this.#allocate(placeBytes);
    if (place === -1) return false;
    if (transfer !== undefined) transfer.outstanding++;
    const where = { data: place + HEADER_ROOM, place, placeBytes };
    this.#park(work.workRead, this.#admitted, to, offset, length, where, transfer);
    return true;
  }

  /** @returns false without memory for it */
  write(to: Answered, data: Uint8Array, offset: number, fua: boolean, transfer?: Transfer): boolean {
    const { length } = data;
    const place = this.#allocate(length);
    if (place === -1) return false;
    this.#helpers.payload.set(data, place);
    if (transfer !== undefined) transfer.outstanding++;
    const flags = (fua ? work.flagFua : 0) | this.#admitted;
    this.#park(work.workWrite, flags, to, offset, length, { data: place, place, placeBytes: length }, transfer);
    return true;
  }

  /** What has no payload. */
  change(to: Answered, operation: number, flags: number, offset: number, length: number): void {
    this.#park(operation, flags | this.#admitted, to, offset, length, nowhere, undefined);
  }

  /** @param one a single extent a context @returns false without memory for it */
  status(to: Answered, offset: number, length: number, one: boolean, contexts: PostedConnection["contexts"]): boolean {
    const place = this.#allocate(KNOWN_BYTES);
    if (place === -1) return false;
    const where = { data: place, place, placeBytes: KNOWN_BYTES };
    this.#park(work.workStatus, one ? work.flagOne : 0, to, offset, length, where, undefined, contexts);
    return true;
  }

  /** A helper is done. @param found extents, of block status */
  unpark(parked: Parked, errno: Errno, found: number): void {
    this.count--;
    const output = this.#output;
    if (output.broken !== undefined || output.room(REPLY_ROOM)) this.#answer(parked, errno, found);
    else output.whenFree(() => this.#answer(parked, errno, found));
  }

  /** Answers a transfer when nothing of it is left to do. */
  finish(transfer: Transfer): void {
    const output = this.#output;
    if (!transfer.issued || transfer.outstanding > 0 || transfer.over || output.broken !== undefined) return;
    if (!output.room(REPLY_ROOM)) {
      output.whenFree(() => this.finish(transfer));
      return;
    }
    transfer.over = true;
    if (transfer.text === undefined) {
      const { offset, end, begunMs, errno } = transfer;
      const kind = transfer.operation === work.workRead ? countedRead : countedWrite;
      this.#exported.disk?.partsDone(kind, offset, end - offset, begunMs, errno);
    }
    if (transfer.text !== undefined) output.fail(transfer, transfer.errno, transfer.text);
    else if (transfer.errno !== 0) output.failed(transfer, transfer.errno, failures[transfer.operation]);
    else if (transfer.operation === work.workRead) {
      output.put(replies.putNone(output.view, output.at, transfer, this.#framing.extended));
    } else if (transfer.fua) this.change(transfer, work.workFlush, 0, 0, 0);
    else output.ok(transfer);
  }

  get #admitted(): number {
    return this.#exported.disk?.admitted === true ? work.flagAdmitted : 0;
  }

  #allocate(length: number): number {
    const helpers = this.#helpers;
    let place = helpers.isCrowded(this.#exported) ? -1 : helpers.allocate(length);
    if (place === -1 && this.held === 0 && length <= LAST_PLACE_BYTES) place = helpers.takeLastPlace();
    this.starved = place === -1;
    if (!this.starved) this.held++;
    // Throttles let it pass, and it is not done now: it will be asked again.
    else if (this.#exported.disk !== undefined) this.#exported.disk.admitted = false;
    return place;
  }

  #park(
    operation: number,
    flags: number,
    to: Answered,
    offset: number,
    length: number,
    where: { readonly data: number; readonly place: number; readonly placeBytes: number },
    transfer: Transfer | undefined,
    contexts: PostedConnection["contexts"] = [],
  ): void {
    this.count++;
    const exported = this.#exported;
    if (exported.disk !== undefined) exported.disk.admitted = false;
    const { cookieHigh, cookieLow, offsetHigh, offsetLow } = to;
    const answered = { cookieHigh, cookieLow, offsetHigh, offsetLow };
    this.#helpers.park({
      parking: this,
      exported,
      answered,
      operation,
      flags,
      offset,
      length,
      ...where,
      transfer,
      contexts,
    });
  }

  /** Replies to what a helper did, now that there is room; its payload memory goes back. */
  #answer(parked: Parked, errno: Errno, found: number): void {
    const { transfer, operation, answered: to } = parked;
    const output = this.#output;
    const isData = operation === work.workRead && errno === 0;
    if (output.broken !== undefined) this.#helpers.freePayload(parked);
    else if (transfer !== undefined) {
      transfer.outstanding--;
      if (errno !== 0 && transfer.errno === 0) transfer.errno = errno;
      if (isData) this.#sendData(parked, false);
      else this.#helpers.freePayload(parked);
      output.whenFree(() => this.finish(transfer));
    } else if (isData) this.#sendData(parked, true);
    else if (operation === work.workStatus && errno === 0) this.#sendStatus(parked, found);
    else {
      this.#helpers.freePayload(parked);
      if (errno === 0) output.ok(to);
      else output.failed(to, errno, failures[operation]);
    }
  }

  /** The reply with the data of a parked read: small ones with the others, large ones from where they are. */
  #sendData(parked: Parked, last: boolean): void {
    const { answered: to, offset, length, data } = parked;
    const { structured, extended } = this.#framing;
    const output = this.#output;
    const helpers = this.#helpers;
    const head = structured ? replies.dataHeaderBytes(extended) : SIMPLE_REPLY_BYTES;
    const small = length <= SEND_BYTES && output.room(head + length);
    const view = small ? output.view : helpers.payloadView;
    const at = small ? output.at : data - head;
    if (structured) replies.putData(view, at, to, extended, last, offset, length);
    else replies.putSimple(view, at, to, 0);
    if (!small) {
      output.sendFrom(helpers.payload, at, data + length, () => helpers.freePayload(parked));
      return;
    }
    output.bytes.set(helpers.payload.subarray(data, data + length), at + head);
    output.put(at + head + length);
    helpers.freePayload(parked);
  }

  #sendStatus(parked: Parked, found: number): void {
    const output = this.#output;
    output.flush(); // the whole block is needed
    if (output.isPending) {
      output.whenFree(() => this.#sendStatus(parked, found));
      return;
    }
    const { answered: to, offset, contexts, flags, data } = parked;
    if (output.broken === undefined) {
      const known = new KnownExtents(new Float64Array(this.#helpers.payload.buffer, data), found, offset);
      const { extended } = this.#framing;
      const one = (flags & work.flagOne) !== 0;
      const all = this.#exported.contexts;
      const end = statusReply(known, all, contexts, to, extended, one, offset, known.length, output.view, 0);
      if (end < 0) output.failed(to, -end, failures[work.workStatus]);
      else output.put(end);
    }
    this.#helpers.freePayload(parked);
  }
}
