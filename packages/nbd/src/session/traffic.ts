/**
 * What goes through an export, counted by the threads that serve it and read by the main thread, for people to look at.
 *
 * | field of a thread's line | holds | written by |
 * |---|---|---|
 * | 0 | reads | the session thread of that index, alone |
 * | 1 | writes | the same |
 * | 2 | other requests | the same |
 * | 3 | bytes asked for by reads | the same |
 * | 4 | bytes brought by writes | the same |
 *
 * Float64, so that no count wraps and none allocates; plain stores of one writer, which the machines that Node runs on do not
 * tear. A reader may see one field newer than the next, so nothing is decided by them. A request counts when it is
 * taken, whatever becomes of it.
 */
import { CMD_READ, CMD_WRITE } from "../protocol/constants.ts";

export interface TrafficCounts {
  readonly reads: number;
  readonly writes: number;
  /** Flushes, discards, zeroes, questions. */
  readonly others: number;
  /** Bytes. */
  readonly bytesRead: number;
  readonly bytesWritten: number;
}

/** A cache line for each thread. */
const LINE_NUMBERS = 8;

/** For as many session threads as a server has at most. */
export function makeTraffic(threads: number): SharedArrayBuffer {
  return new SharedArrayBuffer(threads * LINE_NUMBERS * 8);
}

/** The line of one thread. */
export class Traffic {
  readonly #line: Float64Array;

  constructor(memory: SharedArrayBuffer, threadIndex: number) {
    this.#line = new Float64Array(memory, threadIndex * LINE_NUMBERS * 8, LINE_NUMBERS);
  }

  count(type: number, length: number): void {
    if (type === CMD_READ) {
      this.#line[0]++;
      this.#line[3] += length;
    } else if (type === CMD_WRITE) {
      this.#line[1]++;
      this.#line[4] += length;
    } else this.#line[2]++;
  }
}

/** The sum over all threads. */
export function readTraffic(memory: SharedArrayBuffer): TrafficCounts {
  const all = new Float64Array(memory);
  const sum = (field: number): number => {
    let total = 0;
    for (let at = field; at < all.length; at += LINE_NUMBERS) total += all[at];
    return total;
  };
  return { reads: sum(0), writes: sum(1), others: sum(2), bytesRead: sum(3), bytesWritten: sum(4) };
}
