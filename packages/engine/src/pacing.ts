/**
 * A job's speed limit, shared by its threads: a virtual clock that each run pushes on by what it takes at that speed. A run
 * may start once the clock is not ahead of now, so a run of a whole chunk overshoots, as in QEMU: `speed: 1` still
 * copies the first chunk at once.
 *
 * Times are `Date.now()` modulo 2^30 (`performance.now()` has another origin on every thread); differences are taken
 * modulo the same, so wrapping and small steps back of the clock only cost a wait that is a little wrong.
 */
import { nextStartMsWord, speedWord } from "./job-layout.ts";

const modulus = 2 ** 30;
const delayMaxMs = 2 ** 28;

function sharedNow(): number {
  return Date.now() % modulus;
}

/** How far `clock` is ahead of `now`, milliseconds; negative if behind. */
function ahead(clock: number, now: number): number {
  const difference = (clock - now + modulus) % modulus;
  return difference > modulus / 2 ? difference - modulus : difference;
}

/** Milliseconds to wait before a run may start; 0: start, and charge it. */
export function startWait(job: Int32Array): number {
  if (speedOf(job) === 0) return 0;
  const early = ahead(Atomics.load(job, nextStartMsWord), sharedNow());
  return early > 0 && early <= delayMaxMs ? early : 0;
}

/** Charges a run, or what guests made the job carry (which is charged and never waits). */
export function chargeRun(job: Int32Array, bytes: number): void {
  const speed = speedOf(job);
  if (speed === 0) return;
  for (;;) {
    const clock = Atomics.load(job, nextStartMsWord);
    const now = sharedNow();
    const early = ahead(clock, now);
    const from = early > 0 && early <= delayMaxMs ? clock : now;
    if (Atomics.compareExchange(job, nextStartMsWord, clock, advanced(from, bytes, speed)) === clock) return;
  }
}

/** Main: a new speed holds from now on. @param bytesPerSecond 0 is unlimited */
export function setSpeed(job: Int32Array, bytesPerSecond: number): void {
  asFloat[0] = bytesPerSecond;
  Atomics.store(job, nextStartMsWord, sharedNow());
  Atomics.store(job, speedWord, asWord[0]);
}

function advanced(from: number, bytes: number, bytesPerSecond: number): number {
  // The clock ticks in milliseconds and a run may take less: rounded at random, so that the sum is right.
  return Math.floor(from + Math.min(delayMaxMs, (bytes / bytesPerSecond) * 1000) + Math.random()) % modulus;
}

/** A speed is one word, so that it cannot tear: the bits of a 32-bit float (0 is 0). */
const asFloat = new Float32Array(1);
const asWord = new Int32Array(asFloat.buffer);

function speedOf(job: Int32Array): number {
  asWord[0] = Atomics.load(job, speedWord);
  return asFloat[0];
}
