/**
 * The gate, from the side of a thread: every operation that changes a disk happens between `enter` and `leave`.
 *
 * Why no write is inside while the gate is closed and found empty. Enter stores the slot, then loads `closed`; the
 * coordinator stores `closed`, then loads the slot. All four are sequentially consistent, so at least one sees the other's
 * store: either the thread sees `closed` and backs out, or the coordinator sees the slot and waits for it.
 *
 * Why nobody sleeps for ever. A thread that backs out or leaves under a closed gate notifies its slot after storing 0, and
 * the coordinator waits with the value that it saw, so it cannot miss the change. A thread waits on `closed` with the
 * value 1; the coordinator stores 0 and then notifies, in the same call that closed it.
 */
import {
  asideField,
  closedWord,
  generationWord,
  kibibytesField,
  operationField,
  parkedWord,
  progressWord,
  requestsField,
  servedField,
  slotWord,
} from "./gate-layout.ts";

export class Gate {
  readonly words: Int32Array;
  readonly #slot: number;
  readonly #served: number;
  readonly #aside: number;
  readonly #requests: number;
  readonly #kibibytes: number;

  constructor(words: Int32Array, participant: number) {
    this.words = words;
    this.#slot = slotWord(participant, operationField);
    this.#served = slotWord(participant, servedField);
    this.#aside = slotWord(participant, asideField);
    this.#requests = slotWord(participant, requestsField);
    this.#kibibytes = slotWord(participant, kibibytesField);
  }

  /** Goes in, waiting while a transition holds the gate. `operation` is not 0. */
  enter(operation: number): void {
    for (;;) {
      Atomics.store(this.words, this.#slot, operation);
      if (Atomics.load(this.words, closedWord) === 0) return;
      Atomics.store(this.words, this.#slot, 0);
      Atomics.notify(this.words, this.#slot);
      Atomics.wait(this.words, closedWord, 1);
    }
  }

  leave(): void {
    Atomics.store(this.words, this.#slot, 0);
    if (Atomics.load(this.words, closedWord) !== 0) Atomics.notify(this.words, this.#slot);
  }

  /**
   * Leaves, and goes on working with what the table in force named. Said while still inside: whoever takes that memory away
   * commits a table without it first, so it finds this thread outside and not aside, or aside.
   */
  leaveAside(): void {
    Atomics.store(this.words, this.#aside, 1);
    this.leave();
  }
  /** That work is over. */
  comeBack(): void {
    Atomics.store(this.words, this.#aside, 0);
  }

  /** The number of the table in force; meaningful while inside. */
  generation(): number {
    return Atomics.load(this.words, generationWord);
  }

  /** Inside, before a look for room in a spill: what `park` waits to see move. */
  progressSeen(): number {
    return Atomics.load(this.words, progressWord);
  }

  /** Outside: sleeps until some spill of the stack got room after `seen` was read, or the time is over. */
  park(seen: number, timeoutMs: number): void {
    Atomics.add(this.words, parkedWord, 1);
    Atomics.wait(this.words, progressWord, seen, timeoutMs);
    Atomics.sub(this.words, parkedWord, 1);
  }

  /** From now on this thread's death breaks the views of the disk. Said once, before the first touch. */
  markServed(): void {
    Atomics.store(this.words, this.#served, 1);
  }

  /** Counts a guest request, for whoever yields to active guests. */
  count(length: number): void {
    this.words[this.#requests] = (this.words[this.#requests] + 1) | 0;
    this.words[this.#kibibytes] = (this.words[this.#kibibytes] + ((length + 1023) >>> 10)) | 0;
  }
}

/**
 * A spill of the stack got room, or a view is over. The count moves first: a guest that is about to sleep sees it, or is
 * counted as parked and woken.
 */
export function makeProgress(gateWords: Int32Array): void {
  Atomics.add(gateWords, progressWord, 1);
  if (Atomics.load(gateWords, parkedWord) > 0) Atomics.notify(gateWords, progressWord);
}
