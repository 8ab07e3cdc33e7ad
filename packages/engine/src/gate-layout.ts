/**
 * Layout of a gate: shared words, one region per stack of nodes.
 *
 * | word | holds | written by | read by |
 * |---|---|---|---|
 * | `closed` | 1 while a transition is under way | main | every thread, after its slot |
 * | `generation` | number of the table in force | main, gate closed and empty | every thread, inside |
 * | `tableArena`, `tableOffset`, `tableLength` | where that table lies (offset in 8 bytes, length in numbers) | main, as above | as above |
 * | `progress` | counted up when a spill of the stack's views got room; guests sleep on it | drainers, guests, main | parked guests |
 * | `parked` | how many guests sleep on `progress` | guests | whoever makes progress |
 * | slot `operation` | what the participant is inside for, 0 if outside | its thread; main after its exit | main |
 * | slot `served` | 1 once it may have touched the disk or one of its views | its thread | main, after its exit |
 * | slot `aside` | 1 while it works outside with memory that its table named | its thread; main after its exit | main, before such memory is used again |
 * | slot `requests`, `bytes` (KiB) | guest requests so far, wrapping; no atomics: one writer | its thread | copiers, main |
 *
 * `closed`, `generation`, `progress` and each slot have a cache line of their own. What a guest sleeps on outside of the gate
 * lies here and not in the view: a view's memory may be given to somebody else while the guest sleeps.
 */
import { participantCapacity } from "./registry.ts";

export const closedWord = 0;
export const generationWord = 16;
export const tableArenaWord = 17;
export const tableOffsetWord = 18;
export const tableLengthWord = 19;
export const progressWord = 32;
export const parkedWord = 33;
/** Always 0: to sleep on for a moment, where nobody is going to wake anybody. */
export const pauseWord = 34;
export const slotsWord = 48;
export const slotWords = 16;
export const operationField = 0;
export const servedField = 1;
export const requestsField = 2;
export const kibibytesField = 3;
export const asideField = 4;

export const gateBytes: number = (slotsWord + participantCapacity * slotWords) * 4;

/** What a slot says that its thread is doing; 0 is outside. */
export const operationNames = ["", "write", "discard", "write-zeroes", "copy"] as const;
export const operationWrite = 1;
export const operationDiscard = 2;
export const operationWriteZeroes = 3;

export function slotWord(participant: number, field: number): number {
  return slotsWord + participant * slotWords + field;
}
