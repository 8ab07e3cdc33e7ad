/**
 * What a test does to a fault node while it runs, from any thread: all of it over the shared words of the handle.
 */
import assert from "node:assert/strict";
import type { Errno, NodeHandle } from "../node.ts";
import { ARMED, type FaultState, FIRED, MATCHED, RELEASE_ERRNO, RELEASES, ruleWord } from "./fault-rule.ts";

/** Arms a rule and counts from 0 again. From any thread. */
export function armFault(handle: NodeHandle, ruleIndex: number): void {
  const words = ruleWords(handle, ruleIndex);
  Atomics.store(words, ruleWord(ruleIndex, MATCHED), 0);
  Atomics.store(words, ruleWord(ruleIndex, FIRED), 0);
  Atomics.store(words, ruleWord(ruleIndex, ARMED), 1);
}

/** The rule matches nothing until it is armed again. Requests that hang already go on hanging. */
export function disarmFault(handle: NodeHandle, ruleIndex: number): void {
  Atomics.store(ruleWords(handle, ruleIndex), ruleWord(ruleIndex, ARMED), 0);
}

/** How often the rule fired since it was armed. */
export function faultCount(handle: NodeHandle, ruleIndex: number): number {
  return Atomics.load(ruleWords(handle, ruleIndex), ruleWord(ruleIndex, FIRED));
}

/** Resolves when the rule has fired `count` times since it was armed: a test waits for a hang without sleeping. */
export async function faultReached(handle: NodeHandle, ruleIndex: number, count = 1): Promise<void> {
  const words = ruleWords(handle, ruleIndex);
  const word = ruleWord(ruleIndex, FIRED);
  // waitAsync alone does not keep the event loop alive.
  const alive = setInterval(() => undefined, 1000);
  try {
    for (;;) {
      const fired = Atomics.load(words, word);
      if (fired >= count) return;
      await Atomics.waitAsync(words, word, fired).value;
    }
  } finally {
    clearInterval(alive);
  }
}

/**
 * Lets go of every request that hangs now: it goes on to the node below, or answers `errno` where one is given.
 * Requests that come later hang again, unless the rule is disarmed.
 */
export function releaseHang(handle: NodeHandle, errno: Errno = 0): void {
  const words = new Int32Array(faultState(handle).shared);
  Atomics.store(words, RELEASE_ERRNO, errno);
  Atomics.add(words, RELEASES, 1);
  Atomics.notify(words, RELEASES);
}

function faultState(handle: NodeHandle): FaultState {
  assert.equal(handle.driver, "fault", "expected the handle of a fault node");
  return handle.state as FaultState;
}

function ruleWords(handle: NodeHandle, ruleIndex: number): Int32Array {
  const { rules, shared } = faultState(handle);
  assert(ruleIndex in rules, `expected a rule index from 0 to ${rules.length - 1}, not ${ruleIndex}`);
  return new Int32Array(shared);
}
