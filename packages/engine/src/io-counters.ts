/**
 * What has gone through a disk, counted by the threads that are its guests and summed up by main, in shared memory.
 *
 * A line of numbers (Float64: no count wraps, and none allocates) for each participant, whose thread alone writes it, with plain
 * stores; a participant's number that goes to another thread goes on where the line stands, so that nothing is forgotten when a
 * guest leaves. Main may see one field newer than the next: figures for people, nothing is decided by them.
 *
 * | field | holds |
 * |---|---|
 * | `4 * kind + 0` | requests that succeeded |
 * | `4 * kind + 1` | their bytes |
 * | `4 * kind + 2` | nanoseconds that requests took, failed ones included, waiting for a throttle, for room or for a thread too |
 * | `4 * kind + 3` | requests that failed |
 * | `16 + kind` | requests that were refused: out of range, read-only |
 * | 20 | one more than the last byte that was ever written |
 * | 21 | when the last request ended, milliseconds since the epoch; 0 before the first |
 */
import type { Errno } from "@heirloom/block";

export const countedRead = 0;
/** Zeroes that are written, too. */
export const countedWrite = 1;
export const countedFlush = 2;
export const countedDiscard = 3;
export type CountedKind = 0 | 1 | 2 | 3;

const refusedField = 16;
const highestField = 20;
const lastField = 21;
/** Three cache lines. */
const lineNumbers = 24;

export function counterBytes(participants: number): number {
  return participants * lineNumbers * 8;
}

/** The line of one participant. */
export class IoCounters {
  readonly #line: Float64Array;

  constructor(buffer: SharedArrayBuffer, byteOffset: number, participant: number) {
    this.#line = new Float64Array(buffer, byteOffset + participant * lineNumbers * 8, lineNumbers);
  }

  /** @param begunMs as `performance.now()` had it when the request came */
  ended(kind: CountedKind, offset: number, length: number, begunMs: number, errno: Errno): void {
    const line = this.#line;
    const now = performance.now();
    const at = 4 * kind;
    line[at + 2] += (now - begunMs) * 1e6;
    line[lastField] = performance.timeOrigin + now;
    if (errno !== 0) {
      line[at + 3]++;
      return;
    }
    line[at]++;
    line[at + 1] += length;
    if (kind === countedWrite) this.wrote(offset + length);
  }

  /** A part of a request is done, which counts when all of it is: how far was written is known at once. */
  wrote(end: number): void {
    const line = this.#line;
    if (end > line[highestField]) line[highestField] = end;
  }

  refused(kind: CountedKind): void {
    this.#line[refusedField + kind]++;
  }
}

export interface KindCounts {
  readonly operations: number;
  readonly bytes: number;
  readonly timeNs: number;
  readonly failed: number;
  readonly invalid: number;
}

export interface IoCounts {
  readonly read: KindCounts;
  readonly write: KindCounts;
  readonly flush: KindCounts;
  readonly discard: KindCounts;
  /** Bytes; where the furthest write has ended. */
  readonly writeHighest: number;
  /** Milliseconds since the epoch; 0: there was none. */
  readonly lastAt: number;
}

/** The sum over all participants. */
export function readCounters(buffer: SharedArrayBuffer, byteOffset: number, participants: number): IoCounts {
  const all = new Float64Array(buffer, byteOffset, participants * lineNumbers);
  const sum = (field: number): number => {
    let total = 0;
    for (let at = field; at < all.length; at += lineNumbers) total += all[at];
    return total;
  };
  const most = (field: number): number => {
    let found = 0;
    for (let at = field; at < all.length; at += lineNumbers) found = Math.max(found, all[at]);
    return found;
  };
  const counts = (kind: CountedKind): KindCounts => ({
    operations: sum(4 * kind),
    bytes: sum(4 * kind + 1),
    timeNs: Math.round(sum(4 * kind + 2)),
    failed: sum(4 * kind + 3),
    invalid: sum(refusedField + kind),
  });
  return {
    read: counts(countedRead),
    write: counts(countedWrite),
    flush: counts(countedFlush),
    discard: counts(countedDiscard),
    writeHighest: most(highestField),
    lastAt: most(lastField),
  };
}
