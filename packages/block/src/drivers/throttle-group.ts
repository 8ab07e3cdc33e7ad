/**
 * Limits that throttle nodes share, over all threads. A node by itself is a group of one.
 *
 * Nobody waits in here: who may not go on is told how long to wait and asks again, from outside of its gate. What a
 * request costs is charged when it goes on, so who has nothing to do leaves its share to the others.
 *
 * - *How much*: a limit is a time, on the clock that all threads share, at which all that was charged is paid for. A request may
 *   go on while that is at most the burst's worth ahead of now, and moves it by its cost with a compare-exchange: no lock that a
 *   dying thread could keep. One that is larger than the burst runs up a debt that those after it wait for. Two threads that
 *   look at once may both go on, and both are charged: the rate holds, and the burst is exceeded by a request a thread.
 * - *Whose turn*: members that wait go on in turns, a request each, however many each has waiting. A member's turn counts its
 *   requests, and begins where the others are when it comes back from doing nothing; who is a few requests ahead of one that waits
 *   lets that one go first. Reads and writes have turns of their own, as they may have limits of their own.
 *   That somebody waits is believed for a moment longer than it was told to wait, so whoever does not come back (a client that
 *   left, a thread that died) holds nobody up. A turn is moved by plain atomic steps; a step lost to a race is worth one request.
 *
 * Times are int64 nanoseconds (a number would round after 104 days of uptime). The BigInts that this allocates are what a node
 * that is slowed down on purpose can afford.
 *
 *     bytes        holds
 *     0            a shared integer for each of perSecond, burst, peak of the 6 limits, then bytesPerRequest: 19 x 20
 *     384          paid-for times: of the limit, of its peak: 6 x 2 x 8
 *     480          where turns are: of reads, of writes: 2 x 8
 *     496          members that there ever were, 4; whether there is any limit, 4
 *     512          members: taken, 8; of reads and of writes the turn, and until when it waits: 2 x 2 x 8
 */
import assert from "node:assert/strict";
import { loadSharedInteger, SHARED_INTEGER_WORDS, storeSharedInteger } from "../shared-integer.ts";

/** A limit of bytes or requests a second, of all requests, or of those that read or change. */
export interface GroupLimit {
  readonly unit: "bytes" | "requests";
  readonly of: "all" | "read" | "write";
  readonly perSecond: number;
  /** What may pass at once after a quiet time; what 100 ms are worth where it is not given. */
  readonly burst?: number;
  /** While a burst lasts, at most so much a second; 0: no such limit. */
  readonly peak?: number;
}

const units = ["bytes", "requests"] as const;
const ways = ["all", "read", "write"] as const;
const LIMITS = units.length * ways.length;

const BYTES_PER_REQUEST = 3 * LIMITS * SHARED_INTEGER_WORDS;
const PAID = 384 / 8;
const TURNS = 480 / 8;
const MEMBER_COUNT = 496 / 4;
const ANY_LIMIT = 500 / 4;
const MEMBERS = 512;
const MEMBER_BYTES = 40;
assert((BYTES_PER_REQUEST + SHARED_INTEGER_WORDS) * 4 <= PAID * 8 && (PAID + 2 * LIMITS) * 8 <= TURNS * 8);

/** Nodes that a group can have. */
export const GROUP_MEMBERS_MAX = 1024;

const NS_PER_SECOND = 1_000_000_000;
const NS_PER_MS = 1_000_000;
/** The default burst is rate / 10, and so is what a peak lets pass at once. */
const BURST_DIVISOR = 10;
/** 3 years, so that no sum passes int64. */
const COST_NS_MAX = 1e17;
const INTERVAL_MS_MAX = 2 ** 31 - 1;
/** Timers are late. */
const LATE_NS = BigInt(20 * NS_PER_MS);
/** Who is ahead by more than what this share of a second is worth lets others go first: those sleep for milliseconds. */
const AHEAD_DIVISOR = 200;
const TURN_MS = 1;

/** @param members that it can have */
export function makeThrottleGroup(members: number = GROUP_MEMBERS_MAX): SharedArrayBuffer {
  return new SharedArrayBuffer(MEMBERS + members * MEMBER_BYTES);
}

/** Changes the limits for all. What was charged before is forgotten, so that a higher limit helps at once. */
export function setGroupLimits(memory: SharedArrayBuffer, limits: readonly GroupLimit[], bytesPerRequest = 0): void {
  const words = new Int32Array(memory);
  const numbers = new BigInt64Array(memory, 0, MEMBERS / 8);
  const values = Array.from({ length: 3 * LIMITS }, () => 0);
  for (const { unit, of, perSecond, burst, peak = 0 } of limits) {
    const at = 3 * (units.indexOf(unit) * ways.length + ways.indexOf(of));
    values.splice(at, 3, perSecond, burst ?? Math.ceil(perSecond / BURST_DIVISOR), peak);
  }
  values.forEach((value, index) => storeSharedInteger(words, index * SHARED_INTEGER_WORDS, value));
  storeSharedInteger(words, BYTES_PER_REQUEST, bytesPerRequest);
  for (let limit = 0; limit < 2 * LIMITS; limit++) Atomics.store(numbers, PAID + limit, 0n);
  Atomics.store(words, ANY_LIMIT, limits.some(({ perSecond }) => perSecond > 0) ? 1 : 0);
}

/** @returns the number of a new member, or -1 where there is no place left */
export function joinGroup(memory: SharedArrayBuffer): number {
  const words = new Int32Array(memory);
  const places = (memory.byteLength - MEMBERS) / MEMBER_BYTES;
  for (let member = 0; member < places; member++) {
    if (Atomics.compareExchange(words, (MEMBERS + member * MEMBER_BYTES) / 4, 0, 1) !== 0) continue;
    for (let count = Atomics.load(words, MEMBER_COUNT); count <= member;) {
      count = Atomics.compareExchange(words, MEMBER_COUNT, count, member + 1);
    }
    return member;
  }
  return -1;
}

export function leaveGroup(memory: SharedArrayBuffer, member: number): void {
  Atomics.store(new Int32Array(memory), (MEMBERS + member * MEMBER_BYTES) / 4, 0);
}

/** A member, on one thread. */
export class GroupMember {
  readonly #words: Int32Array;
  readonly #numbers: BigInt64Array;
  readonly #member: number;
  readonly #now: () => bigint;

  /** @param now nanoseconds; by default the one monotonic clock that has the same origin on every thread */
  constructor(memory: SharedArrayBuffer, member: number, now: () => bigint = () => process.hrtime.bigint()) {
    this.#now = now;
    this.#words = new Int32Array(memory);
    this.#numbers = new BigInt64Array(memory);
    this.#member = member;
  }

  /** Milliseconds that a request must wait before it asks again; 0: it may go on, and is to be charged. */
  wait(reads: boolean, length: number): number {
    if (Atomics.load(this.#words, ANY_LIMIT) === 0) return 0;
    const now = this.#now();
    let wait = 0;
    let ahead = Infinity;
    for (const limit of limitsOf(reads)) {
      const perSecond = this.#value(limit, 0);
      if (perSecond === 0) continue;
      const peak = this.#value(limit, 2);
      wait = Math.max(wait, this.#until(2 * limit, now, costNs(this.#value(limit, 1), perSecond)));
      if (peak > 0) wait = Math.max(wait, this.#until(2 * limit + 1, now, costNs(peak / BURST_DIVISOR, peak)));
      ahead = Math.min(ahead, perSecond / AHEAD_DIVISOR / this.#amount(limit, length));
    }
    if (wait === 0 && ahead !== Infinity && this.#isOthersTurn(reads, now, BigInt(Math.max(1, Math.floor(ahead))))) {
      wait = TURN_MS;
    }
    if (wait > 0) this.#noteWaiting(reads, now, wait);
    return wait;
  }

  /** It goes on. */
  charge(reads: boolean, length: number): void {
    if (Atomics.load(this.#words, ANY_LIMIT) === 0) return;
    const now = this.#now();
    for (const limit of limitsOf(reads)) {
      const perSecond = this.#value(limit, 0);
      if (perSecond === 0) continue;
      const amount = this.#amount(limit, length);
      const peak = this.#value(limit, 2);
      this.#pay(2 * limit, now, costNs(amount, perSecond));
      if (peak > 0) this.#pay(2 * limit + 1, now, costNs(amount, peak));
    }
    const turn = this.#turn(reads, now);
    Atomics.store(this.#numbers, this.#place(this.#member, reads), turn + 1n);
    Atomics.store(this.#numbers, TURNS + (reads ? 0 : 1), turn);
  }

  #value(limit: number, field: number): number {
    return loadSharedInteger(this.#words, (3 * limit + field) * SHARED_INTEGER_WORDS);
  }

  /** What a request counts for. */
  #amount(limit: number, length: number): number {
    if (limit < ways.length) return Math.max(length, 1);
    const bytesPerRequest = loadSharedInteger(this.#words, BYTES_PER_REQUEST);
    return bytesPerRequest === 0 ? 1 : Math.max(1, length / bytesPerRequest);
  }

  /** Milliseconds until the paid-for time is at most the burst ahead. */
  #until(paid: number, now: bigint, burstNs: bigint): number {
    const ahead = Atomics.load(this.#numbers, PAID + paid) - now - burstNs;
    return ahead <= 0n ? 0 : Math.min(Math.ceil(Number(ahead) / NS_PER_MS), INTERVAL_MS_MAX);
  }

  #pay(index: number, now: bigint, cost: bigint): void {
    for (;;) {
      const paid = Atomics.load(this.#numbers, PAID + index);
      const next = (paid > now ? paid : now) + cost;
      if (Atomics.compareExchange(this.#numbers, PAID + index, paid, next) === paid) return;
    }
  }

  /** Index of a member's turn; until when it waits comes after it. */
  #place(member: number, reads: boolean): number {
    return (MEMBERS + member * MEMBER_BYTES) / 8 + 1 + (reads ? 0 : 2);
  }

  /** This member's turn: while it had nothing to do the others' went on, and so did its own. */
  #turn(reads: boolean, now: bigint): bigint {
    const place = this.#place(this.#member, reads);
    const own = Atomics.load(this.#numbers, place);
    if (Atomics.load(this.#numbers, place + 1) >= now) return own; // it waits
    const others = Atomics.load(this.#numbers, TURNS + (reads ? 0 : 1));
    return own > others ? own : others;
  }

  #isOthersTurn(reads: boolean, now: bigint, ahead: bigint): boolean {
    const mine = this.#turn(reads, now);
    const members = Atomics.load(this.#words, MEMBER_COUNT);
    for (let member = 0; member < members; member++) {
      if (member === this.#member) continue;
      const place = this.#place(member, reads);
      if (Atomics.load(this.#numbers, place + 1) < now) continue; // it waits for nothing
      if (mine - Atomics.load(this.#numbers, place) >= ahead) return true;
    }
    return false;
  }

  #noteWaiting(reads: boolean, now: bigint, waitMs: number): void {
    const place = this.#place(this.#member, reads);
    Atomics.store(this.#numbers, place, this.#turn(reads, now));
    Atomics.store(this.#numbers, place + 1, now + BigInt(waitMs * NS_PER_MS) + LATE_NS);
  }
}

const ofReads: readonly number[] = limitNumbers("read");
const ofWrites: readonly number[] = limitNumbers("write");
function limitNumbers(way: "read" | "write"): number[] {
  return units.flatMap((_, unit) => [0, ways.indexOf(way)].map((index) => unit * ways.length + index));
}
function limitsOf(reads: boolean): readonly number[] {
  return reads ? ofReads : ofWrites;
}

function costNs(amount: number, perSecond: number): bigint {
  return BigInt(Math.min(Math.round((amount * NS_PER_SECOND) / perSecond), COST_NS_MAX));
}
