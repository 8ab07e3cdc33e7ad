/**
 * Memory for payloads that are with helpers, and for long replies: one budget a server, in slabs of 1 MiB that a session
 * thread takes with a compare-exchange and then divides by itself, in units of 4 KiB. A thread that died is found by the
 * number that it left in the words of its slabs.
 *
 * Clients that do not read their replies, and devices that hang, keep what they have for as long as they like. So that
 * nobody else waits for them, each thread has *last places* besides, of a piece each, never touched before they are needed:
 * a connection that holds nothing gets one when the budget is spent.
 */
import { PIECE_BYTES_MAX } from "./limits.ts";

export const SLAB_BYTES: number = 1024 * 1024;
/** A piece, with room for a reply's header before it. */
export const LAST_PLACE_BYTES: number = PIECE_BYTES_MAX + 4096;
const UNIT = 4096;
const unitsASlab = SLAB_BYTES / UNIT;
const none = -1;

/** What threads share: an owner's word for each slab (0: nobody), and the bytes. */
export interface PayloadBudget {
  readonly owners: SharedArrayBuffer;
  /** The slabs, then each owner's last places. */
  readonly bytes: SharedArrayBuffer;
  readonly lastPlaces: number;
}

/** @param owners from 1 on, each with `lastPlaces` places of its own */
export function makePayloadBudget(byteLength: number, owners = 0, lastPlaces = 0): PayloadBudget {
  const slabs = Math.ceil(byteLength / SLAB_BYTES);
  const bytes = slabs * SLAB_BYTES + owners * lastPlaces * LAST_PLACE_BYTES;
  return { owners: new SharedArrayBuffer(slabs * 4), bytes: new SharedArrayBuffer(bytes), lastPlaces };
}

/** Main: gives back what a thread had that is gone. */
export function releaseSlabs({ owners }: PayloadBudget, owner: number): void {
  const words = new Int32Array(owners);
  for (let slab = 0; slab < words.length; slab++) Atomics.compareExchange(words, slab, owner, 0);
}

interface Slab {
  readonly index: number;
  /** One bit a unit. */
  readonly taken: Uint32Array;
  free: number;
}

export class PayloadMemory {
  readonly bytes: Uint8Array;
  readonly #owners: Int32Array;
  readonly #owner: number;
  readonly #slabs: Slab[] = [];
  readonly #slabsEnd: number;
  readonly #lastPlaces: number[] = [];

  /** @param owner not 0; of this thread alone */
  constructor({ owners, bytes, lastPlaces }: PayloadBudget, owner: number) {
    this.#owners = new Int32Array(owners);
    this.bytes = new Uint8Array(bytes);
    this.#owner = owner;
    this.#slabsEnd = this.#owners.length * SLAB_BYTES;
    const start = this.#slabsEnd + (owner - 1) * lastPlaces * LAST_PLACE_BYTES;
    for (let place = lastPlaces - 1; place >= 0; place--) this.#lastPlaces.push(start + place * LAST_PLACE_BYTES);
  }

  /** A place of LAST_PLACE_BYTES, or -1: for who holds nothing and got nothing. Freed as all others. */
  takeLastPlace(): number {
    return this.#lastPlaces.pop() ?? none;
  }

  /** Where `length` bytes are, or -1 where the budget has no such piece now. */
  allocate(length: number): number {
    const units = Math.ceil(length / UNIT);
    if (units > unitsASlab) return this.#allocateSlabs(Math.ceil(length / SLAB_BYTES));
    for (const slab of this.#slabs) {
      const at = slab.free < units ? none : findRun(slab.taken, units);
      if (at !== none) return this.#take(slab, at, units);
    }
    const index = this.#claim(0, 1);
    if (index === none) return none;
    const slab: Slab = { index, taken: new Uint32Array(unitsASlab / 32), free: unitsASlab };
    this.#slabs.push(slab);
    return this.#take(slab, 0, units);
  }

  /** The same place and length as allocated. */
  free(place: number, length: number): void {
    if (place >= this.#slabsEnd) {
      this.#lastPlaces.push(place);
      return;
    }
    const units = Math.ceil(length / UNIT);
    const first = Math.floor(place / SLAB_BYTES);
    if (units > unitsASlab) {
      for (let slab = 0; slab < Math.ceil(length / SLAB_BYTES); slab++) Atomics.store(this.#owners, first + slab, 0);
      return;
    }
    const position = this.#slabs.findIndex(({ index }) => index === first);
    const slab = this.#slabs[position];
    const at = (place % SLAB_BYTES) / UNIT;
    for (let unit = at; unit < at + units; unit++) slab.taken[unit >>> 5] &= ~(1 << (unit & 31));
    slab.free += units;
    // None is kept: a long reply needs many in a row.
    if (slab.free < unitsASlab) return;
    this.#slabs.splice(position, 1);
    Atomics.store(this.#owners, first, 0);
  }

  #take(slab: Slab, at: number, units: number): number {
    for (let unit = at; unit < at + units; unit++) slab.taken[unit >>> 5] |= 1 << (unit & 31);
    slab.free -= units;
    return slab.index * SLAB_BYTES + at * UNIT;
  }

  #allocateSlabs(count: number): number {
    for (let first = 0; first + count <= this.#owners.length; first++) {
      const got = this.#claim(first, count);
      if (got !== none) return got * SLAB_BYTES;
    }
    return none;
  }

  /** Takes `count` slabs in a row: with 1 the first that is free from `from` on, else those at `from` or none. */
  #claim(from: number, count: number): number {
    for (let slab = from; slab < this.#owners.length; slab++) {
      if (Atomics.compareExchange(this.#owners, slab, 0, this.#owner) !== 0) {
        if (count === 1) continue;
        for (let back = from; back < slab; back++) Atomics.store(this.#owners, back, 0);
        return none;
      }
      if (slab === from + count - 1 || count === 1) return count === 1 ? slab : from;
    }
    return none;
  }
}

/** The first run of `count` clear bits, or -1. */
function findRun(bits: Uint32Array, count: number): number {
  let run = 0;
  for (let unit = 0; unit < bits.length * 32; unit++) {
    if ((bits[unit >>> 5] & (1 << (unit & 31))) === 0) {
      if (++run === count) return unit - count + 1;
    } else run = 0;
  }
  return none;
}
