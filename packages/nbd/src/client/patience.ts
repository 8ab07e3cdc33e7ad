/**
 * How a thread waits for a socket: in turns of a bounded length, between which it looks whether it should go on. Every
 * wait of the driver is one of these, so that none lasts longer than a turn after it was interrupted.
 */
import { type Errno, pollDescriptor } from "@heirloom/block";
import { constants } from "node:os";
import { BEAT, CLOSED, HOLDER, INTERRUPTS, slotAt } from "./driver-memory.ts";

const TURN_MS = 100;

const { ECANCELED, ETIMEDOUT, EIO } = constants.errno;

/** Milliseconds that all threads agree on. */
export function nowMs(): number {
  const [seconds, nanoseconds] = process.hrtime();
  return seconds * 1000 + nanoseconds / 1e6;
}

export class Patience {
  readonly #words: Int32Array;
  readonly #slot: number;
  readonly #ticket: number;
  readonly #interrupts: number;

  /** `ticket` holds `slot`. `interrupts`: the count when the request began. */
  constructor(words: Int32Array, slot: number, ticket: number, interrupts: number) {
    this.#words = words;
    this.#slot = slotAt(slot);
    this.#ticket = ticket;
    this.#interrupts = interrupts;
  }

  /** Shows that the holder is alive. @returns 0, or why it must stop */
  look(): Errno {
    const words = this.#words;
    Atomics.add(words, this.#slot + BEAT, 1);
    if (Atomics.load(words, INTERRUPTS) !== this.#interrupts || Atomics.load(words, CLOSED) === 1) return ECANCELED;
    // Somebody took the slot away: this thread stood still for too long.
    if (Atomics.load(words, this.#slot + HOLDER) !== this.#ticket) return EIO;
    return 0;
  }

  /** Until the descriptor is ready, at most until `deadline` (of `nowMs`). @returns 0, or why it must stop */
  forSocket(fd: number, events: number, deadline: number): Errno {
    for (;;) {
      const errno = this.look();
      if (errno !== 0) return errno;
      const left = deadline - nowMs();
      if (left <= 0) return ETIMEDOUT;
      const ready = pollDescriptor(fd, events, Math.max(1, Math.min(TURN_MS, Math.ceil(left))));
      if (ready < 0) return -ready;
      if (ready > 0) return 0;
    }
  }

  /** Sleeps. @returns 0, or why it must stop */
  sleep(milliseconds: number): Errno {
    return this.forWord(new Int32Array(new SharedArrayBuffer(4)), nowMs() + milliseconds) === ETIMEDOUT
      ? 0
      : this.look();
  }

  /** Until the first of `words` is not 0, at most until `deadline`. @returns 0, or why it must stop */
  forWord(words: Int32Array, deadline: number): Errno {
    for (;;) {
      if (Atomics.load(words, 0) !== 0) return 0;
      const errno = this.look();
      if (errno !== 0) return errno;
      const left = deadline - nowMs();
      if (left <= 0) return ETIMEDOUT;
      Atomics.wait(words, 0, 0, Math.min(TURN_MS, left));
    }
  }
}
