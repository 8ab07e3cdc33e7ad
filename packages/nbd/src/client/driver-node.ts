/**
 * The verbs of an nbd node on one thread: requests in pieces that the server takes, run on one of the node's connections.
 *
 * - What the server cannot do is done the long way (zeroes are written) or left out where that is allowed (a discard).
 * - `status` says zero only where the server says so, and asks it each time: somebody else may be writing there.
 * - A flush goes over every connection that carried changes since the last one: only its own answer proves that the
 *   server which acknowledged them is still the same.
 */
import { type BlockNode, EIO, ENOTSUP, type Errno, type StatusExtent } from "@heirloom/block";
import * as nbd from "../protocol/constants.ts";
import { DriverConnections } from "./driver-connections.ts";
import { CHANGES, COVERED, LOST, slotAt, slotCount } from "./driver-memory.ts";
import type { DriverState } from "./driver-state.ts";
import { PendingRequest } from "./pending-request.ts";
import { COMPACT_LENGTH_MAX } from "./request-codec.ts";

const EFFECT_BYTES_MAX: number = 1024 * 1024 * 1024;
const ZEROES: Uint8Array = new Uint8Array(1024 * 1024);

export class NbdNode implements BlockNode {
  readonly direct = undefined;
  readonly #state: DriverState;
  readonly #connections: DriverConnections;
  readonly #words: Int32Array;
  #lostKnown: number;

  constructor(state: DriverState) {
    this.#state = state;
    this.#connections = new DriverConnections(state);
    this.#words = this.#connections.words;
    this.#lostKnown = Atomics.load(this.#words, LOST);
  }

  length(): number {
    return this.#state.length;
  }

  read(buffer: Uint8Array, offset: number): Errno {
    return this.#pieces(nbd.CMD_READ, 0, offset, buffer.length, this.#state.payloadMax, buffer);
  }

  write(buffer: Uint8Array, offset: number): Errno {
    return this.#pieces(nbd.CMD_WRITE, 0, offset, buffer.length, this.#state.payloadMax, buffer);
  }

  discard(offset: number, length: number): Errno {
    if (!this.#has(nbd.FLAG_SEND_TRIM)) return 0;
    return this.#pieces(nbd.CMD_TRIM, 0, offset, length, this.#aligned(EFFECT_BYTES_MAX));
  }

  writeZeroes(offset: number, length: number, unmap: boolean): Errno {
    if (!this.#has(nbd.FLAG_SEND_WRITE_ZEROES)) return this.#writeZeroBytes(offset, length);
    const flags = unmap ? 0 : nbd.CMD_FLAG_NO_HOLE;
    return this.#pieces(nbd.CMD_WRITE_ZEROES, flags, offset, length, this.#aligned(EFFECT_BYTES_MAX));
  }

  flush(): Errno {
    const errno = this.#flushChanged();
    if (errno !== 0) return errno;
    // Each thread that has the node hears of a loss, once: whoever flushes first must not hide it from the others.
    const lost = Atomics.load(this.#words, LOST);
    const isNew = lost !== this.#lostKnown;
    this.#lostKnown = lost;
    return isNew && !this.#state.assumeWritesSurvive ? EIO : 0;
  }

  status(offset: number, length: number, extent: StatusExtent): Errno {
    extent.length = length;
    extent.zero = false;
    extent.allocated = true;
    if (length === 0 || !this.#state.allocation) return 0;
    const asked = Math.min(length, this.#aligned(COMPACT_LENGTH_MAX));
    let request = new PendingRequest(nbd.CMD_BLOCK_STATUS, nbd.CMD_FLAG_REQ_ONE, offset, asked);
    const errno = this.#connections.run(() => {
      request = new PendingRequest(nbd.CMD_BLOCK_STATUS, nbd.CMD_FLAG_REQ_ONE, offset, asked);
      return [request];
    }, "none");
    // No answer, or a server that cannot tell: data is always true.
    if (errno !== 0) return errno;
    if (request.errno !== 0) return 0;
    const [runs] = request.extents.values();
    if (runs === undefined) return 0;
    // Whole blocks, as requests are: a part of one is data.
    const whole = this.#aligned(runs[0]);
    if (whole === 0) {
      extent.length = Math.min(asked, this.#state.alignment);
      return 0;
    }
    extent.length = whole;
    extent.zero = (runs[1] & nbd.STATE_ZERO) !== 0;
    extent.allocated = (runs[1] & nbd.STATE_HOLE) === 0;
    return 0;
  }

  resize(): Errno {
    return ENOTSUP;
  }

  admit(): number {
    return 0;
  }

  #has(flag: number): boolean {
    return (this.#state.flags & flag) !== 0;
  }

  #aligned(length: number): number {
    return length - (length % this.#state.alignment);
  }

  #pieces(type: number, flags: number, offset: number, length: number, most: number, buffer?: Uint8Array): Errno {
    if (length === 0) return 0;
    let requests: PendingRequest[] = [];
    const errno = this.#connections.run(
      () => {
        requests = [];
        for (let at = 0; at < length; at += most) {
          const size = Math.min(most, length - at);
          const part = size === length ? buffer : buffer?.subarray(at, at + size);
          requests.push(new PendingRequest(type, flags, offset + at, size, part));
        }
        return requests;
      },
      type === nbd.CMD_READ ? "none" : "changes",
    );
    return errno === 0 ? firstError(requests) : errno;
  }

  #writeZeroBytes(offset: number, length: number): Errno {
    const most = this.#aligned(Math.min(ZEROES.length, this.#state.payloadMax));
    for (let at = 0; at < length; at += most) {
      const size = Math.min(most, length - at);
      const errno = this.write(ZEROES.subarray(0, size), offset + at);
      if (errno !== 0) return errno;
    }
    return 0;
  }

  #flushChanged(): Errno {
    // QEMU's and the kernel's clients take a server without FLUSH for one that writes through.
    if (!this.#has(nbd.FLAG_SEND_FLUSH)) return 0;
    const words = this.#words;
    let flushed = false;
    for (let slot = 0; slot < slotCount(words); slot++) {
      const at = slotAt(slot);
      if (Atomics.load(words, at + CHANGES) === Atomics.load(words, at + COVERED)) continue;
      flushed = true;
      const errno = this.#flushOn(slot);
      if (errno !== 0) return errno;
    }
    return flushed ? 0 : this.#flushOn(undefined);
  }

  /** On the connection of that slot, or on any. */
  #flushOn(slot: number | undefined): Errno {
    let request = new PendingRequest(nbd.CMD_FLUSH, 0, 0, 0);
    const errno = this.#connections.run(
      () => {
        request = new PendingRequest(nbd.CMD_FLUSH, 0, 0, 0);
        return [request];
      },
      "flush",
      slot,
    );
    return errno === 0 ? request.errno : errno;
  }
}

function firstError(requests: readonly PendingRequest[]): Errno {
  for (const { errno } of requests) if (errno !== 0) return errno;
  return 0;
}
