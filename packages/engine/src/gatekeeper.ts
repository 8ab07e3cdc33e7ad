/**
 * The gate, from the coordinator's side: one try of a transition over one or several gates, in one uninterrupted call.
 *
 * A try closes all gates, waits a bounded time for their slots to empty, commits, and opens; if a slot is still held it
 * opens again and says who held it. Nothing here awaits, so no gate stays closed across a turn of the event loop.
 */
import {
  asideField,
  closedWord,
  operationField,
  operationNames,
  pauseWord,
  requestsField,
  servedField,
  slotWord,
} from "./gate-layout.ts";

export interface TryResult {
  /** Whether the commit ran. */
  readonly done: boolean;
  /** From the first gate's closing to the last one's opening, milliseconds; without what `observe` took. */
  readonly closedMs: number;
  /** What `observe` threw; the commit stands. */
  readonly observeError?: unknown;
  /** Who held a gate at the end of a try that was not done. */
  readonly holder?: { readonly gate: number; readonly participant: number; readonly operation: string };
}

/** Looks this often before it sleeps: a 4 KiB write is over in less than what a sleep and a wake-up cost. */
const spinCount = 2000;

/** A sleep of this thread gives its core to a guest that stands in line for it; the kernel makes twice as much of it. */
const lookSleepMs = 0.05;

/**
 * Whether everybody who is inside gets on with it, gates open: each was seen outside, or at another request than before.
 * Whoever does not has lost its core inside the gate, or waits for its device; a gate that closes now would stand closed
 * for as long as that takes. Only a look: what it says may be over in the next moment, and a try does not rely on it.
 */
export function guestsMove(gates: readonly Int32Array[], participantMax: number): boolean {
  const still: (() => boolean)[] = [];
  let spinsLeft = spinCount; // for all of them together
  for (const words of gates) {
    for (let participant = 0; participant < participantMax; participant++) {
      const operation = slotWord(participant, operationField);
      if (Atomics.load(words, operation) === 0) continue;
      const requests = slotWord(participant, requestsField);
      const seen = Atomics.load(words, requests);
      let inside = true;
      while (inside && spinsLeft-- > 0) inside = Atomics.load(words, operation) !== 0;
      if (!inside) continue;
      const moved = (): boolean => Atomics.load(words, operation) === 0 || Atomics.load(words, requests) !== seen;
      if (!moved()) still.push(moved);
    }
  }
  if (still.length === 0) return true;
  // On a word that nobody but this thread changes: nothing wakes it early.
  Atomics.wait(gates[0], closedWord, 0, lookSleepMs);
  return still.every((moved) => moved());
}

/**
 * @param gates words of each gate
 * @param participantMax slots to look at in each
 * @param holdMs how long to wait for them together
 * @param commit runs with all gates closed and empty: stores only
 * @param observe runs after it, still closed; its time is not counted (a test's look at the instant)
 */
export function tryTransition(
  gates: readonly Int32Array[],
  participantMax: number,
  holdMs: number,
  commit: () => void,
  observe?: () => void,
): TryResult {
  const begin = performance.now();
  for (const words of gates) Atomics.store(words, closedWord, 1);
  let holder: TryResult["holder"];
  for (let gate = 0; gate < gates.length && holder === undefined; gate++) {
    for (let participant = 0; participant < participantMax; participant++) {
      const operation = waitForSlot(gates[gate], participant, begin + holdMs);
      if (operation === 0) continue;
      holder = { gate, participant, operation: operationNames[operation] ?? "operation" };
      break;
    }
  }
  let observedMs = 0;
  let openedAt = 0;
  let thrown: Pick<TryResult, "observeError"> = {};
  try {
    if (holder === undefined) {
      commit();
      if (observe !== undefined) {
        const from = performance.now();
        try {
          observe();
        } catch (error) {
          thrown = { observeError: error };
        }
        observedMs = performance.now() - from;
      }
    }
  } finally {
    for (const words of gates) Atomics.store(words, closedWord, 0);
    // Before the wake-ups: a guest that is woken may take this thread's core, and write for milliseconds until it is back.
    openedAt = performance.now();
    for (const words of gates) Atomics.notify(words, closedWord);
  }
  const closedMs = openedAt - begin - observedMs;
  return holder === undefined ? { done: true, closedMs, ...thrown } : { done: false, closedMs, holder };
}

/** What the slot holds when it is empty or the time is over. */
function waitForSlot(words: Int32Array, participant: number, deadline: number): number {
  const slot = slotWord(participant, operationField);
  for (let spin = 0; spin < spinCount; spin++) {
    if (Atomics.load(words, slot) === 0) return 0;
  }
  for (;;) {
    const operation = Atomics.load(words, slot);
    if (operation === 0) return 0;
    const left = deadline - performance.now();
    if (left <= 0) return operation;
    Atomics.wait(words, slot, operation, left);
  }
}

/** A participant's thread has exited: whatever it held inside is given up. */
export function vacate(words: Int32Array, participant: number): { served: boolean } {
  const slot = slotWord(participant, operationField);
  const served = Atomics.exchange(words, slotWord(participant, servedField), 0) !== 0;
  Atomics.store(words, slot, 0);
  Atomics.notify(words, slot);
  Atomics.store(words, slotWord(participant, asideField), 0);
  return { served };
}

/** Whether a participant stands aside (see `Gate.leaveAside`). */
export function isAside(words: Int32Array, participant: number): boolean {
  return Atomics.load(words, slotWord(participant, asideField)) !== 0;
}

/**
 * Outside the gate, which stays open: waits until each slot was seen empty once. True if all were: whoever was inside when this
 * was called has left. False when the time is over.
 */
export function waitOutside(words: Int32Array, participantMax: number, timeoutMs: number): boolean {
  const deadline = performance.now() + timeoutMs;
  for (let participant = 0; participant < participantMax; participant++) {
    const slot = slotWord(participant, operationField);
    for (let spin = 0; Atomics.load(words, slot) !== 0; spin++) {
      if (spin < spinCount) continue;
      if (performance.now() >= deadline) return false;
      // Who leaves an open gate wakes nobody.
      Atomics.wait(words, pauseWord, 0, 1);
    }
  }
  return true;
}
