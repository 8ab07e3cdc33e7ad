/**
 * Locks in shared memory that name their holder, so that one whose holder died is found and released (after the thread's exit,
 * never before: until then it may be in the middle of a write).
 *
 * A holder is a thread: `worker_threads.threadId` plus one, which is never used again in a process. 0 is free.
 */

/** One sleep at most; then it looks again, so that nobody waits for a wake-up that a dead thread owed. */
const sleepMs = 50;

export function tryTake(words: Int32Array, index: number, holder: number): boolean {
  return Atomics.compareExchange(words, index, 0, holder) === 0;
}

/** Not for a thread that serves several. */
export function take(words: Int32Array, index: number, holder: number): void {
  for (;;) {
    const found = Atomics.compareExchange(words, index, 0, holder);
    if (found === 0) return;
    Atomics.wait(words, index, found, sleepMs);
  }
}

export function waitWhileTaken(words: Int32Array, index: number): void {
  const found = Atomics.load(words, index);
  if (found !== 0) Atomics.wait(words, index, found, sleepMs);
}

export function release(words: Int32Array, index: number): void {
  Atomics.store(words, index, 0);
  Atomics.notify(words, index);
}

/** After the holder's exit. @returns whether it held the lock */
export function releaseOfDead(words: Int32Array, index: number, holder: number): boolean {
  if (Atomics.compareExchange(words, index, holder, 0) !== holder) return false;
  Atomics.notify(words, index);
  return true;
}
