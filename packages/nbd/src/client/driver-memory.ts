/**
 * What all threads share of one nbd node, in the shared memory of its handle: the connections (descriptors belong to the
 * process), who has which one, and what must not be forgotten when one breaks.
 *
 *   word  0 CLOSED       1: the node is closed; no request begins
 *         1 INTERRUPTS   counts `interruptNbd`; a request ends when it moves
 *         2 RELEASES     counts connections that were let go; who wants one sleeps on it
 *         3 TICKETS      last ticket given out: each connected node has one, from 1 on
 *         4 LOST         counts breaks that took acknowledged changes with them which no flush had covered
 *         5 BROKEN_SINCE milliseconds (monotonic, 31 bits) of the first break since a connection stood; 0: none
 *         6 GRAVES       how many descriptors lie in the graves
 *         8 ..           graves: descriptors (plus 1) that were shut down and must stay open until the node is closed
 *
 *   slot  0 HOLDER       ticket of the node that uses the connection; 0: free
 *         1 BEAT         moves while its holder is alive
 *         2 DESCRIPTOR   of the connection, plus 1; 0: none
 *         3 MODE         bits: structured, extended, has base:allocation
 *         4 ALLOCATION   number of base:allocation on it
 *         5 COOKIE       last cookie sent
 *         6 CHANGES      changes acknowledged without being stable, modulo 2^32
 *         7 COVERED      the value of CHANGES that the last flush covered
 *         8 GENERATION   counts connections made in this slot
 *
 * All but HOLDER and BEAT of a slot is written by its holder only. A holder that died is found by its beat: whoever waits
 * takes the slot away from it, see `stealSlot`.
 */
import { shutdownSocket } from "@heirloom/block";

export const CLOSED = 0;
export const INTERRUPTS = 1;
export const RELEASES = 2;
const TICKETS = 3;
export const LOST = 4;
export const BROKEN_SINCE = 5;
const GRAVES = 6;
const FIRST_GRAVE = 8;
const GRAVES_MAX = 56;

const FIRST_SLOT: number = FIRST_GRAVE + GRAVES_MAX;
/** A cache line each. */
const SLOT_WORDS = 16;

export const HOLDER = 0;
export const BEAT = 1;
export const DESCRIPTOR = 2;
export const MODE = 3;
export const ALLOCATION = 4;
export const COOKIE = 5;
export const CHANGES = 6;
export const COVERED = 7;
export const GENERATION = 8;

export const MODE_STRUCTURED = 1;
export const MODE_EXTENDED = 2;
export const MODE_ALLOCATION = 4;

export function makeDriverMemory(slots: number): SharedArrayBuffer {
  return new SharedArrayBuffer((FIRST_SLOT + slots * SLOT_WORDS) * 4);
}

export function slotCount(words: Int32Array): number {
  return (words.length - FIRST_SLOT) / SLOT_WORDS;
}

/** Index of a slot's first word. */
export function slotAt(slot: number): number {
  return FIRST_SLOT + slot * SLOT_WORDS;
}

/** Tickets are not used again: there are 2^31 of them. */
export function takeTicket(words: Int32Array): number {
  return Atomics.add(words, TICKETS, 1) + 1;
}

export function tryTakeSlot(words: Int32Array, slot: number, ticket: number): boolean {
  return Atomics.compareExchange(words, slotAt(slot) + HOLDER, 0, ticket) === 0;
}

/** Lets a slot go; nothing, where it was taken away meanwhile. */
export function releaseSlot(words: Int32Array, slot: number, ticket: number): void {
  if (Atomics.compareExchange(words, slotAt(slot) + HOLDER, ticket, 0) !== ticket) return;
  Atomics.add(words, RELEASES, 1);
  Atomics.notify(words, RELEASES);
}

/**
 * Takes a slot from a holder whose beat has stopped.
 *
 * If it is alive after all it wakes up with a descriptor that is shut down: what it sends and receives from there on fails,
 * and it finds that it is not the holder. So the connection of the next holder is never written by two; that is why the
 * descriptor stays open in a grave, as its number could otherwise be another file by then.
 *
 * @returns false where somebody was quicker
 */
export function stealSlot(words: Int32Array, slot: number, from: number, ticket: number): boolean {
  if (Atomics.compareExchange(words, slotAt(slot) + HOLDER, from, ticket) !== from) return false;
  buryDescriptor(words, slot);
  return true;
}

/** The slot's connection is of no more use, and its former holder may still have it. */
function buryDescriptor(words: Int32Array, slot: number): void {
  const kept = Atomics.exchange(words, slotAt(slot) + DESCRIPTOR, 0);
  if (kept === 0) return;
  shutdownSocket(kept - 1);
  noteLoss(words, slot);
  const grave = Atomics.add(words, GRAVES, 1);
  // One too many is left open rather than closed under somebody.
  if (grave < GRAVES_MAX) Atomics.store(words, FIRST_GRAVE + grave, kept);
}

/** The slot's connection broke: what it had acknowledged since the last flush may be gone. LOST moves before it is forgotten. */
export function noteLoss(words: Int32Array, slot: number): void {
  const at = slotAt(slot);
  const changes = Atomics.load(words, at + CHANGES);
  if (changes === Atomics.load(words, at + COVERED)) return;
  Atomics.add(words, LOST, 1);
  Atomics.store(words, at + COVERED, changes);
}

/** Descriptors of connections and what mode each is in, once no thread uses the node; those in graves come without. */
export function takeDescriptors(words: Int32Array): { readonly fd: number; readonly mode: number | undefined }[] {
  const found: { fd: number; mode: number | undefined }[] = [];
  for (let slot = 0; slot < slotCount(words); slot++) {
    const at = slotAt(slot);
    const kept = Atomics.exchange(words, at + DESCRIPTOR, 0);
    // A request that was cut off leaves nothing behind that a goodbye could follow.
    const clean = Atomics.load(words, at + HOLDER) === 0;
    if (kept !== 0) found.push({ fd: kept - 1, mode: clean ? Atomics.load(words, at + MODE) : undefined });
  }
  for (let grave = 0; grave < GRAVES_MAX; grave++) {
    const kept = Atomics.exchange(words, FIRST_GRAVE + grave, 0);
    if (kept !== 0) found.push({ fd: kept - 1, mode: undefined });
  }
  return found;
}
