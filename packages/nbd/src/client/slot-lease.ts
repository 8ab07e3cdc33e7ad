/**
 * Which connection a verb uses: its own last one, else a free one that stands, else one that can be made, else the first
 * that is let go. A holder whose beat stands still while a waiter slept `TURNS_MAX` turns is taken for dead.
 *
 * Turns are counted and not time: after the whole process was stopped for a minute (a debugger, a suspended machine) every
 * thread wakes at once, and a clock would find everybody dead.
 */
import type { Errno } from "@heirloom/block";
import { constants } from "node:os";
import {
  BEAT,
  CLOSED,
  DESCRIPTOR,
  HOLDER,
  INTERRUPTS,
  RELEASES,
  slotAt,
  slotCount,
  stealSlot,
  tryTakeSlot,
} from "./driver-memory.ts";

const TURN_MS = 100;
/** Turns without a beat: ten seconds. A holder moves its beat at every turn of its own. */
const TURNS_MAX = 100;

const { ECANCELED } = constants.errno;

/**
 * @param last the slot to begin with; with `only` no other one will do
 * @returns the slot, now held by `ticket`, or a negative errno
 */
export function leaseSlot(words: Int32Array, ticket: number, last: number, only: boolean, interrupts: number): number {
  const count = slotCount(words);
  let watched: { holder: number; beat: number; turns: number } | undefined;
  for (;;) {
    // Read before the look around: what is let go after it moves this word, and the sleep ends at once.
    const releases = Atomics.load(words, RELEASES);
    const stop = stopped(words, interrupts);
    if (stop !== 0) return -stop;
    const taken = tryAny(words, only ? 0 : count, ticket, last);
    if (taken >= 0) return taken;
    const waited = Atomics.wait(words, RELEASES, releases, TURN_MS) === "timed-out";
    const holder = Atomics.load(words, slotAt(last) + HOLDER);
    const beat = Atomics.load(words, slotAt(last) + BEAT);
    if (watched === undefined || watched.holder !== holder || watched.beat !== beat || holder === 0) {
      watched = { holder, beat, turns: 0 };
    } else if (waited && ++watched.turns >= TURNS_MAX) {
      if (stealSlot(words, last, holder, ticket)) return last;
      watched = undefined;
    }
  }
}

function tryAny(words: Int32Array, count: number, ticket: number, last: number): number {
  if (tryTakeSlot(words, last, ticket)) return last;
  // Standing connections first: the second round makes new ones.
  for (const standing of [true, false]) {
    for (let slot = 0; slot < count; slot++) {
      const stands = Atomics.load(words, slotAt(slot) + DESCRIPTOR) !== 0;
      if (stands === standing && tryTakeSlot(words, slot, ticket)) return slot;
    }
  }
  return -1;
}

function stopped(words: Int32Array, interrupts: number): Errno {
  return Atomics.load(words, INTERRUPTS) !== interrupts || Atomics.load(words, CLOSED) === 1 ? ECANCELED : 0;
}
