/**
 * Threads that load code, in a process that exits. Whatever ends a thread while it loads koffi takes the process with it, and so it
 * does while Node instantiates a module for `require`; `process.exit` ends all threads. So it waits for those that are in the middle.
 *
 * A pool's thread is waited for from its start until it says that it has loaded. An embedder's thread, of which nobody knows when
 * it opens a disk, counts itself in, then looks whether the process exits; the process says that it exits, then looks at the
 * count. All four are sequentially consistent: either the thread sees it and does not load, or the process waits for it.
 */
import { threadId } from "node:worker_threads";

const loadingWord = 0;
const exitingWord = 1;
/** Numbers of the threads that have loaded, each in the slot that its number says. */
const loadedWords = 2;
const loadedSlots = 1024;

/** Loading takes some 50 ms, and seconds where every core is taken many times over. */
const exitMsMax = 10_000;

let shared: SharedArrayBuffer | undefined;
/** Weak: a pool that has threads is held by them. */
const pools = new Set<WeakRef<() => readonly number[]>>();

/** For whoever starts threads: it goes with what they are told. */
export function nativeLoading(): SharedArrayBuffer {
  if (shared === undefined) {
    const words = new Int32Array((shared = new SharedArrayBuffer((loadedWords + loadedSlots) * 4)));
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
  waitUntil(words, loadingWord, (loading) => loading === 0, deadline);
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
  return loadedWords + (thread % loadedSlots);
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
  Atomics.add(words, loadingWord, 1);
  const exiting = Atomics.load(words, exitingWord) !== 0;
  try {
    if (!exiting) load();
  } finally {
    Atomics.sub(words, loadingWord, 1);
    Atomics.notify(words, loadingWord);
  }
  if (exiting) Atomics.wait(words, exitingWord, 1);
}
