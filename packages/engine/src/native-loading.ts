/**
 * Threads that load code, in a process that exits. Whatever ends a thread while it loads koffi takes the process with it, and so it
 * does while Node instantiates a module for `require`; `process.exit` ends all threads. So it waits for those that are in the middle.
 *
 * A pool's thread is waited for from its start until it says that it has loaded. An embedder's thread, of which nobody knows when
 * it opens a disk, says that it loads, then looks whether the process exits; the process says that it exits, then looks at the
 * threads. All four are sequentially consistent: either the thread sees it and does not load, or the process waits for it.
 * One that is ended in the middle all the same, and did not take the process with it, is waited for no more.
 */
import { threadId } from "node:worker_threads";

const exitingWord = 0;
/** A slot for each thread, by its number: the number once it has loaded, the negative number while an embedder's loads. */
const slotsWord = 1;
const slots = 1024;

/** Loading takes some 50 ms, and seconds where every core is taken many times over. */
const exitMsMax = 10_000;

let shared: SharedArrayBuffer | undefined;
/** Weak: a pool that has threads is held by them. */
const pools = new Set<WeakRef<() => readonly number[]>>();

/** For whoever starts threads: it goes with what they are told. */
export function nativeLoading(): SharedArrayBuffer {
  if (shared === undefined) {
    const words = new Int32Array((shared = new SharedArrayBuffer((slotsWord + slots) * 4)));
    process.once("exit", () => waitForLoading(words, performance.now() + exitMsMax));
  }
  return shared;
}

/** @param starting numbers of a pool's threads that have not said that they are ready; the pool holds it */
export function watchStarting(starting: () => readonly number[]): void {
  for (const pool of pools) if (pool.deref() === undefined) pools.delete(pool);
  pools.add(new WeakRef(starting));
}

function waitForLoading(words: Int32Array, deadline: number): void {
  Atomics.store(words, exitingWord, 1);
  for (let slot = slotsWord; slot < words.length; slot++) waitUntil(words, slot, (thread) => thread >= 0, deadline);
  for (const pool of pools)
    for (const thread of pool.deref()?.() ?? [])
      waitUntil(words, slotOf(thread), (loaded) => loaded === thread, deadline);
}

function waitUntil(words: Int32Array, word: number, done: (value: number) => boolean, deadline: number): void {
  for (;;) {
    const value = Atomics.load(words, word);
    const left = deadline - performance.now();
    if (done(value) || left <= 0) return;
    Atomics.wait(words, word, value, left);
  }
}

function slotOf(thread: number): number {
  return slotsWord + (thread % slots);
}

/** On the main thread: it loads no more. */
export function tellEnded(thread: number): void {
  if (shared !== undefined) Atomics.compareExchange(new Int32Array(shared), slotOf(thread), -thread, 0);
}

/** On a pool's thread, when it has loaded all that it is going to. */
export function tellLoaded(loading: SharedArrayBuffer): void {
  const words = new Int32Array(loading);
  Atomics.store(words, slotOf(threadId), threadId);
  Atomics.notify(words, slotOf(threadId));
}

/** On an embedder's thread. Does not return where the process exits: the thread is ended. */
export function loadNative(loading: SharedArrayBuffer, load: () => void): void {
  const words = new Int32Array(loading);
  Atomics.store(words, slotOf(threadId), -threadId);
  const exiting = Atomics.load(words, exitingWord) !== 0;
  try {
    if (!exiting) load();
  } finally {
    tellLoaded(loading);
  }
  if (exiting) Atomics.wait(words, exitingWord, 1);
}
