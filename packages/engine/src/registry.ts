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
 * | per participant: `threadId` | `worker_threads.threadId` | the thread, by compare-exchange, before it goes live; -1 by main to take the number back |
 */
export const participantCapacity = 512;
const threadCapacity = 256;

const arenaCountWord = 0;
const participantMaxWord = 1;
const threadsWord = 16;
const participantsWord = threadsWord + threadCapacity;
const participantWords = 16; // a cache line each
const stateField = 0;
const threadIdField = 1;

export const participantFree = 0;
export const participantReserved = 1;
export const participantLive = 2;
export const participantGone = 3;

export class Registry {
  readonly buffer: SharedArrayBuffer;
  readonly #words: Int32Array;

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

  /** Main thread: a free number, or -1. */
  reserve(): number {
    for (let index = 0; index < participantCapacity; index++) {
      const word = field(index, stateField);
      if (Atomics.load(this.#words, word) !== participantFree) continue;
      Atomics.store(this.#words, word, participantReserved);
      if (index >= this.participantMax) Atomics.store(this.#words, participantMaxWord, index + 1);
      return index;
    }
    return -1;
  }

  /** On the thread: takes a reserved number; false if somebody else took it. */
  goLive(participant: number, threadId: number): boolean {
    if (Atomics.load(this.#words, field(participant, stateField)) !== participantReserved) return false;
    // The thread's id first: one that dies right here is found by it.
    if (Atomics.compareExchange(this.#words, field(participant, threadIdField), 0, threadId) !== 0) return false;
    Atomics.store(this.#words, field(participant, stateField), participantLive);
    return true;
  }

  /** Main thread: takes a number back that no thread has taken; false if one has. */
  revoke(participant: number): boolean {
    return Atomics.compareExchange(this.#words, field(participant, threadIdField), 0, -1) === 0;
  }

  /** On the thread: it will not enter a gate with this number again. */
  leave(participant: number): void {
    Atomics.store(this.#words, field(participant, stateField), participantGone);
  }

  state(participant: number): number {
    return Atomics.load(this.#words, field(participant, stateField));
  }

  threadOf(participant: number): number {
    return Atomics.load(this.#words, field(participant, threadIdField));
  }

  /** Main thread: the number may be given to somebody else; its slots are empty. */
  release(participant: number): void {
    Atomics.store(this.#words, field(participant, threadIdField), 0);
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
    for (let index = 0; index < threadCapacity; index++) {
      if (Atomics.load(this.#words, threadsWord + index) === threadId) return true;
    }
    return false;
  }
}

function field(participant: number, index: number): number {
  return participantsWord + participant * participantWords + index;
}
