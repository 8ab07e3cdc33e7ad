/**
 * The registry: who takes part. One shared buffer per engine, in every thread's hands from its start. A *participant*
 * is one holder of slots (a long task of the pool, or one opened handle of an embedder's thread); its number is the
 * number of its slot in every gate.
 *
 * | word | holds | written by |
 * |---|---|---|
 * | `arenaCount` | arenas announced so far | main |
 * | `participantMax` | one more than the highest number in use | main |
 * | registered threads | thread ids of embedders' workers that the pool watches | main |
 * | per participant: `state` | free, reserved, live, gone | main reserves and frees; the thread goes live by compare-exchange |
 * | per participant: `holder` | minus the number of the reservation, then `worker_threads.threadId` | main; then the thread, by compare-exchange, before it goes live |
 *
 * A number is used again, a reservation is not: a handle that was posted, revoked and found much later does not fit the
 * reservation that its number has by then.
 */
export const participantCapacity = 512;
export const threadCapacity = 256;

const arenaCountWord = 0;
const participantMaxWord = 1;
const threadsWord = 16;
const participantsWord = threadsWord + threadCapacity;
const participantWords = 16; // a cache line each
const stateField = 0;
const holderField = 1;

export const participantFree = 0;
export const participantReserved = 1;
export const participantLive = 2;
export const participantGone = 3;

/** A participant's number, with the reservation that it is good for. */
export interface Seat {
  readonly participant: number;
  readonly reservation: number;
}

export class Registry {
  readonly buffer: SharedArrayBuffer;
  readonly #words: Int32Array;
  #reservations = 0;

  constructor(
    buffer: SharedArrayBuffer = new SharedArrayBuffer((participantsWord + participantCapacity * participantWords) * 4),
  ) {
    this.buffer = buffer;
    this.#words = new Int32Array(buffer);
  }

  get arenaCount(): number {
    return Atomics.load(this.#words, arenaCountWord);
  }
  set arenaCount(count: number) {
    Atomics.store(this.#words, arenaCountWord, count);
    Atomics.notify(this.#words, arenaCountWord);
  }
  /** Sleeps until an arena beyond `known` is announced, or the time is over. */
  waitForArena(known: number, timeoutMs: number): void {
    Atomics.wait(this.#words, arenaCountWord, known, timeoutMs);
  }

  get participantMax(): number {
    return Atomics.load(this.#words, participantMaxWord);
  }

  /** Main thread: a free number, or undefined. */
  reserve(): Seat | undefined {
    for (let index = 0; index < participantCapacity; index++) {
      const word = field(index, stateField);
      if (Atomics.load(this.#words, word) !== participantFree) continue;
      this.#reservations = this.#reservations === 2 ** 31 - 1 ? 1 : this.#reservations + 1;
      Atomics.store(this.#words, field(index, holderField), -this.#reservations);
      Atomics.store(this.#words, word, participantReserved);
      if (index >= this.participantMax) Atomics.store(this.#words, participantMaxWord, index + 1);
      return { participant: index, reservation: this.#reservations };
    }
    return undefined;
  }

  /** On the thread: takes a reserved number; false if somebody else took it. */
  goLive({ participant, reservation }: Seat, threadId: number): boolean {
    // The thread's id first: one that dies right here is found by it.
    const holder = field(participant, holderField);
    if (Atomics.compareExchange(this.#words, holder, -reservation, threadId) !== -reservation) return false;
    Atomics.store(this.#words, field(participant, stateField), participantLive);
    return true;
  }

  /** Main thread: takes a number back that no thread has taken; false if one has. */
  revoke({ participant, reservation }: Seat): boolean {
    return Atomics.compareExchange(this.#words, field(participant, holderField), -reservation, 0) === -reservation;
  }

  /** On the thread: it will not enter a gate with this number again. */
  leave(participant: number): void {
    Atomics.store(this.#words, field(participant, stateField), participantGone);
  }

  state(participant: number): number {
    return Atomics.load(this.#words, field(participant, stateField));
  }

  /** The thread's id, or undefined before a thread has taken the number. */
  threadOf(participant: number): number | undefined {
    const holder = Atomics.load(this.#words, field(participant, holderField));
    return holder > 0 ? holder : undefined;
  }

  /** Main thread: the number may be given to somebody else; its slots are empty. */
  release(participant: number): void {
    Atomics.store(this.#words, field(participant, holderField), 0);
    Atomics.store(this.#words, field(participant, stateField), participantFree);
  }

  /** Main thread: this embedder's thread is watched. False if there is no room. */
  registerThread(threadId: number): boolean {
    for (let index = 0; index < threadCapacity; index++) {
      if (Atomics.compareExchange(this.#words, threadsWord + index, 0, threadId) === 0) return true;
    }
    return false;
  }

  unregisterThread(threadId: number): void {
    for (let index = 0; index < threadCapacity; index++) {
      Atomics.compareExchange(this.#words, threadsWord + index, threadId, 0);
    }
  }

  isRegistered(threadId: number): boolean {
    if (threadId <= 0) return false; // the main thread: free entries hold 0
    for (let index = 0; index < threadCapacity; index++) {
      if (Atomics.load(this.#words, threadsWord + index) === threadId) return true;
    }
    return false;
  }
}

function field(participant: number, index: number): number {
  return participantsWord + participant * participantWords + index;
}
