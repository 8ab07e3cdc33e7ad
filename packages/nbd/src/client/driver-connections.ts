/**
 * The connections of an nbd node as one thread uses them: takes one, makes it where there is none, runs requests on it, and
 * makes it anew where it breaks, as long as the node's options allow.
 */
import { closeFile, type Errno } from "@heirloom/block";
import { constants } from "node:os";
import { CONTEXT_ALLOCATION, FLAG_READ_ONLY, FLAG_ROTATIONAL, NBD_ESHUTDOWN } from "../protocol/constants.ts";
import { NbdError } from "../protocol/nbd-error.ts";
import * as memory from "./driver-memory.ts";
import type { DriverState } from "./driver-state.ts";
import { nowMs, Patience } from "./patience.ts";
import type { PendingRequest } from "./pending-request.ts";
import { leaseSlot } from "./slot-lease.ts";
import { connectThread, type ThreadConnection } from "./thread-connect.ts";
import { ThreadExchange } from "./thread-exchange.ts";

const RETRY_FIRST_MS = 5;
const RETRY_LAST_MS = 1000;
/** Cookies of one connection start over after this many; none of the old ones is on its way by then. */
const COOKIES = 2 ** 31;

const { EIO, ECANCELED, ETIMEDOUT } = constants.errno;

/** Cookies are 1 and more; a request for n of them gets n in a row. */
function takeCookies(words: Int32Array, at: number, count: number): number {
  const last = Atomics.load(words, at + memory.COOKIE);
  const first = last + count >= COOKIES ? 1 : last + 1;
  Atomics.store(words, at + memory.COOKIE, first + count - 1);
  return first;
}

/** What requests do to the export: nothing, changes that a flush makes stable, or that flush. */
export type Effect = "none" | "changes" | "flush";

interface Known {
  readonly generation: number;
  readonly exchange: ThreadExchange;
}

export class DriverConnections {
  readonly #state: DriverState;
  readonly #words: Int32Array;
  readonly #ticket: number;
  /** By slot: this thread's side of connections that it has used. */
  readonly #known: (Known | undefined)[] = [];
  /** The slot that it used last. It begins with the one that stands, and finds its own when others are there. */
  #last = 0;

  constructor(state: DriverState) {
    this.#state = state;
    this.#words = new Int32Array(state.shared);
    this.#ticket = memory.takeTicket(this.#words);
  }

  get words(): Int32Array {
    return this.#words;
  }

  /**
   * Runs requests that `make` makes, again after a break where it may. Each has its reply afterwards.
   *
   * @param slot the connection that it must be, where it must be one
   */
  run(make: () => readonly PendingRequest[], effect: Effect, slot?: number): Errno {
    const words = this.#words;
    const interrupts = Atomics.load(words, memory.INTERRUPTS);
    let pause = RETRY_FIRST_MS;
    let deadline: number | undefined;
    const taken = leaseSlot(words, this.#ticket, slot ?? this.#last, slot !== undefined, interrupts);
    if (taken < 0) return -taken;
    this.#last = taken;
    const patience = new Patience(words, taken, this.#ticket, interrupts);
    try {
      for (;;) {
        const errno = this.#attempt(taken, make, effect, patience);
        if (errno === 0) return 0;
        if (errno === ECANCELED || this.#final) return errno;
        deadline ??= this.#deadline();
        if (nowMs() + pause >= deadline) return errno;
        const stop = patience.sleep(pause);
        if (stop !== 0) return stop;
        pause = Math.min(2 * pause, RETRY_LAST_MS);
      }
    } catch (bug) {
      // Nobody knows where its connection stands: the next holder makes another.
      this.#drop(taken);
      throw bug;
    } finally {
      memory.releaseSlot(words, taken, this.#ticket);
    }
  }

  /** Set by an attempt after which no other helps. */
  #final = false;

  /** @returns 0, or why there is no reply */
  #attempt(slot: number, make: () => readonly PendingRequest[], effect: Effect, patience: Patience): Errno {
    const words = this.#words;
    const at = memory.slotAt(slot);
    this.#final = false;
    const exchange = this.#exchange(slot, patience);
    if (typeof exchange === "number") return exchange;
    const requests = make();
    const cookie = takeCookies(words, at, requests.length);
    const errno = exchange.run(requests, cookie, patience, this.#state.requestTimeoutMs);
    const leaves = requests.some((request) => request.errno === NBD_ESHUTDOWN);
    if (errno === 0 && !leaves) {
      if (effect === "changes") Atomics.add(words, at + memory.CHANGES, 1);
      // Nobody else changes anything over this connection meanwhile.
      const flushed = effect === "flush" && requests.every((request) => request.errno === 0);
      if (flushed) Atomics.store(words, at + memory.COVERED, Atomics.load(words, at + memory.CHANGES));
      return 0;
    }
    this.#final = exchange.violation !== undefined;
    this.#drop(slot);
    return errno === ETIMEDOUT || errno === ECANCELED ? errno : EIO;
  }

  /** This thread's side of the slot's connection, which is made where there is none. */
  #exchange(slot: number, patience: Patience): ThreadExchange | Errno {
    const words = this.#words;
    const at = memory.slotAt(slot);
    const kept = Atomics.load(words, at + memory.DESCRIPTOR);
    const generation = Atomics.load(words, at + memory.GENERATION);
    const known = this.#known[slot];
    if (kept !== 0 && known?.generation === generation) return known.exchange;
    if (kept === 0) {
      const errno = this.#connect(slot, patience);
      if (errno !== 0) return errno;
      return this.#exchange(slot, patience);
    }
    const mode = Atomics.load(words, at + memory.MODE);
    const id = Atomics.load(words, at + memory.ALLOCATION) >>> 0;
    const exchange = new ThreadExchange(kept - 1, {
      structured: (mode & memory.MODE_STRUCTURED) !== 0,
      extended: (mode & memory.MODE_EXTENDED) !== 0,
      contexts: (mode & memory.MODE_ALLOCATION) === 0 ? [] : [{ id, name: CONTEXT_ALLOCATION }],
    });
    this.#known[slot] = { generation, exchange };
    return exchange;
  }

  #connect(slot: number, patience: Patience): Errno {
    const { openTimeoutMs } = this.#state;
    try {
      const made = connectThread(this.#state, [CONTEXT_ALLOCATION], patience, nowMs() + openTimeoutMs);
      if (!isSame(this.#state, made)) {
        closeFile(made.fd);
        this.#final = true;
        return EIO;
      }
      const stop = patience.look();
      if (stop !== 0) {
        closeFile(made.fd);
        return stop;
      }
      if (!adoptConnection(this.#words, slot, made)) {
        closeFile(made.fd);
        return EIO;
      }
      Atomics.store(this.#words, memory.BROKEN_SINCE, 0);
      return 0;
    } catch (error) {
      if (!(error instanceof NbdError)) throw error;
      this.#final = error.code === "ERR_NBD_PROTOCOL" || error.code === "ERR_NBD_TLS";
      const { errno } = error;
      return errno === ECANCELED || errno === ETIMEDOUT ? errno : EIO;
    }
  }

  /** The slot's connection is of no more use. A descriptor that somebody took away is his. */
  #drop(slot: number): void {
    const words = this.#words;
    const at = memory.slotAt(slot);
    this.#known[slot] = undefined;
    if (Atomics.load(words, at + memory.HOLDER) !== this.#ticket) return;
    memory.noteLoss(words, slot);
    const kept = Atomics.exchange(words, at + memory.DESCRIPTOR, 0);
    if (kept !== 0) closeFile(kept - 1);
    Atomics.compareExchange(words, memory.BROKEN_SINCE, 0, millisecondsWord());
  }

  /** Of all requests that lack a connection: one time runs for all, from when it first was missing. */
  #deadline(): number {
    const { reconnectDelayMs } = this.#state;
    const since = Atomics.load(this.#words, memory.BROKEN_SINCE);
    const passed = since === 0 ? 0 : (millisecondsWord() - since) & 0x7fffffff;
    return nowMs() + reconnectDelayMs - passed;
  }
}

/**
 * Stores a connection that the slot's holder made. The descriptor comes last: with it the rest is there.
 *
 * @returns false where the slot has one already: it was taken away from the caller
 */
export function adoptConnection(words: Int32Array, slot: number, { fd, agreement }: ThreadConnection): boolean {
  const at = memory.slotAt(slot);
  const allocation = agreement.contexts.find(({ name }) => name === CONTEXT_ALLOCATION);
  const mode =
    (agreement.structured ? memory.MODE_STRUCTURED : 0) |
    (agreement.extended ? memory.MODE_EXTENDED : 0) |
    (allocation === undefined ? 0 : memory.MODE_ALLOCATION);
  Atomics.store(words, at + memory.MODE, mode);
  Atomics.store(words, at + memory.ALLOCATION, allocation?.id ?? 0);
  Atomics.store(words, at + memory.COOKIE, 0);
  Atomics.add(words, at + memory.GENERATION, 1);
  return Atomics.compareExchange(words, at + memory.DESCRIPTOR, 0, fd + 1) === 0;
}

/** Whether a connection found the export that the node was opened on: requests were checked against that. */
function isSame(state: DriverState, { agreement }: ThreadConnection): boolean {
  const { length, flags, blockSize } = agreement.export;
  const ignored = FLAG_READ_ONLY | FLAG_ROTATIONAL;
  return (
    length === state.length &&
    (state.flags & ~flags & ~ignored) === 0 &&
    ((flags & FLAG_READ_ONLY) === 0 || (state.flags & FLAG_READ_ONLY) !== 0) &&
    blockSize.minimum <= state.alignment &&
    blockSize.maximum >= state.payloadMax &&
    (!state.allocation || agreement.contexts.length > 0)
  );
}

function millisecondsWord(): number {
  return Math.floor(nowMs()) & 0x7fffffff || 1;
}
