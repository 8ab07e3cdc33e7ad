/**
 * Requests and replies on one descriptor, by straight-line code: sends what there is, receives what comes, and sleeps in
 * poll when neither goes on. Both directions are looked at together, so that two peers who fill each other's buffers do
 * not wait for each other for ever.
 */
import { EAGAIN, EIO, type Errno, POLLIN, POLLOUT, receiveBytes, sendBytes } from "@heirloom/block";
import { CMD_WRITE, EXTENDED_REQUEST_BYTES } from "../protocol/constants.ts";
import { NbdError } from "../protocol/nbd-error.ts";
import type { SelectedContext } from "../server/export-offer.ts";
import { nowMs, type Patience } from "./patience.ts";
import type { PendingRequest } from "./pending-request.ts";
import { ReplyReader } from "./reply-reader.ts";
import { encodeRequest } from "./request-codec.ts";

/** On one connection, of one verb. */
const IN_FLIGHT_MAX = 16;
/** Replies are received together up to this; longer data goes straight to where it belongs. */
const INPUT_BYTES = 64 * 1024;
/** A header and a payload of at most this are sent by one call. */
const JOINED_BYTES_MAX = 16 * 1024;

export interface ExchangeForm {
  readonly structured: boolean;
  readonly extended: boolean;
  readonly contexts: readonly SelectedContext[];
}

/** One connection as one thread sees it. After `run` failed it is of no more use. */
export class ThreadExchange {
  readonly #fd: number;
  readonly #form: ExchangeForm;
  readonly #reader: ReplyReader;
  readonly #pending: Map<number, PendingRequest> = new Map();
  readonly #input: Uint8Array = new Uint8Array(INPUT_BYTES);
  readonly #output: Uint8Array = new Uint8Array(EXTENDED_REQUEST_BYTES + JOINED_BYTES_MAX);
  readonly #outputView: DataView = new DataView(this.#output.buffer);
  /** What the peer did, where `run` failed by its fault. */
  violation: NbdError | undefined;

  constructor(fd: number, form: ExchangeForm) {
    this.#fd = fd;
    this.#form = form;
    this.#reader = new ReplyReader({
      ...form,
      find: (cookie) => this.#pending.get(cookie),
      settle: (cookie) => void this.#pending.delete(cookie),
    });
  }

  /**
   * Sends the requests and takes their replies.
   *
   * @param firstCookie of as many as there are requests
   * @param stallMs how long nothing may move; 0: for ever
   * @returns 0 when each has its reply (look at its `errno`), or why the connection is lost
   */
  run(requests: readonly PendingRequest[], firstCookie: number, patience: Patience, stallMs: number): Errno {
    let next = 0;
    let pieces: Uint8Array[] = [];
    let movedAt = nowMs();
    while (next < requests.length || pieces.length > 0 || this.#pending.size > 0) {
      const stop = patience.look();
      if (stop !== 0) return stop;
      if (pieces.length === 0 && next < requests.length && this.#pending.size < IN_FLIGHT_MAX) {
        pieces = this.#begin(requests[next], firstCookie + next);
        next++;
      }
      const sent = this.#send(pieces);
      if (sent < 0) return -sent;
      // Nobody answers before the request is out, unless there are others.
      const received = pieces.length > 0 || sent === 0 || this.#pending.size > 1 ? this.#receive() : 0;
      if (received < 0) return -received;
      if (sent > 0 || received > 0) {
        movedAt = nowMs();
        if (pieces.length === 0 && next < requests.length && this.#pending.size < IN_FLIGHT_MAX) continue;
        if (received > 0) continue;
      }
      if (this.#pending.size === 0 && pieces.length === 0) continue;
      const events = pieces.length > 0 ? POLLIN | POLLOUT : POLLIN;
      const deadline = stallMs === 0 ? Number.POSITIVE_INFINITY : movedAt + stallMs;
      const errno = patience.forSocket(this.#fd, events, deadline);
      if (errno !== 0) return errno;
    }
    return 0;
  }

  /** @returns what is to be sent */
  #begin(request: PendingRequest, cookie: number): Uint8Array[] {
    this.#pending.set(cookie, request);
    const { flags, type, offset, length, buffer } = request;
    const size = encodeRequest(this.#outputView, this.#form.extended, flags, type, cookie, offset, length);
    if (type !== CMD_WRITE || buffer === undefined) return [this.#output.subarray(0, size)];
    if (buffer.length > JOINED_BYTES_MAX) return [this.#output.subarray(0, size), buffer];
    this.#output.set(buffer, size);
    return [this.#output.subarray(0, size + buffer.length)];
  }

  /** @returns bytes sent, or a negative errno */
  #send(pieces: Uint8Array[]): number {
    let total = 0;
    while (pieces.length > 0) {
      const count = sendBytes(this.#fd, pieces[0]);
      if (count === -EAGAIN) return total;
      if (count < 0) return count;
      total += count;
      if (count < pieces[0].length) pieces[0] = pieces[0].subarray(count);
      else pieces.shift();
    }
    return total;
  }

  /** What has come, up to one buffer. @returns bytes received, or a negative errno */
  #receive(): number {
    const room = this.#reader.room();
    const direct = room.length >= this.#input.length;
    const count = receiveBytes(this.#fd, direct ? room : this.#input);
    if (count === -EAGAIN) return 0;
    if (count < 0) return count;
    if (count === 0) return -EIO; // the server has ended
    try {
      if (direct) this.#reader.filled(count);
      else this.#reader.receive(this.#input.subarray(0, count));
    } catch (error) {
      if (!(error instanceof NbdError)) throw error;
      this.violation = error;
      return -EIO;
    }
    return count;
  }
}
