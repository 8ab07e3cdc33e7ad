/**
 * What session threads and helper threads share: slots for requests that would make a session wait. One buffer a server.
 *
 * | word | holds | written by |
 * |---|---|---|
 * | `work` | counted up when there is something to do; helpers sleep on it | sessions, main |
 * | `news` | counted up when main has posted to helpers' ports | main |
 * | `idle` | helpers that sleep, or are about to | helpers |
 * | `stop` | 1: helpers end | main |
 * | `busy` | slots that are not free | sessions; main for one that died |
 * | `ready` bits | a slot may be ready: a hint, never missing for one that is | set by its session; cleared by who took it |
 *
 * | slot's field | holds | written by |
 * |---|---|---|
 * | `state` | free, ready, done, or `taken` + the participant's number of the helper that has it | session: free to ready, ready to free (compare-exchange), done to free; helper: ready to taken (compare-exchange), taken to done; main: for a helper that died |
 * | the others | the request; then its errno | session while free; helper, before done |
 *
 * Every slot belongs to one session thread for good, which alone fills and frees it, so there is no queue that a dying
 * thread could leave half changed: what a dead helper had taken is found by its number.
 */
export const workWord = 0;
export const newsWord = 16;
export const idleWord = 32;
export const stopWord = 48;
export const busyWord = 64;
export const readyStart = 80;

export const slotFree = 0;
export const slotReady = 1;
export const slotDone = 2;
export const slotTaken = 16;

/** Requests of one thread that helpers can have at once. */
export const SLOTS_A_THREAD = 64;

/** Of those, requests of one export at most; fewer where a thread serves many, so that one that hangs leaves room. */
export const SLOTS_AN_EXPORT = 16;
/**
 * Whatever hangs, each export may have so many on each of its threads, and there is a helper for each: the others are for
 * whoever comes first.
 */
export const SLOTS_FOR_ITSELF = 2;

export const stateField = 0;
export const operationField = 1;
export const exportField = 2;
export const flagsField = 3;
export const errnoField = 4;
export const bellField = 5;
/** A cache line each. */
export const slotWords = 16;

/** 64-bit numbers of a slot, in an array of their own. */
export const offsetNumber = 0;
export const lengthNumber = 1;
/** Where its data lie in payload memory. */
export const dataNumber = 2;
export const arrivedNumber = 3;
/** As `DiskIo.whole`. */
export const wholeNumber = 4;
export const slotNumbers = 5;

export const workRead = 1;
export const workWrite = 2;
export const workFlush = 3;
export const workDiscard = 4;
export const workWriteZeroes = 5;
export const workCache = 6;
export const workStatus = 7;

/** Flush afterwards. */
export const flagFua = 1;
/** Zeroes: room may be given back. */
export const flagUnmap = 2;
/** Zeroes: fail rather than write them. */
export const flagFast = 4;
/** Block status: a single extent for each context. */
export const flagOne = 16;
/** Throttles have let it pass. */
export const flagAdmitted = 8;

export function readyWords(slots: number): number {
  return Math.ceil(slots / 32);
}
export function slotsStart(slots: number): number {
  return readyStart + Math.ceil(readyWords(slots) / 16) * 16;
}
/** Words, then numbers: 4 x (80 header + ready bits + 16 a slot) + 8 x 5 a slot. */
export function numbersStart(slots: number): number {
  return (slotsStart(slots) + slots * slotWords) * 4;
}
export function workBytes(slots: number): number {
  return numbersStart(slots) + slots * slotNumbers * 8;
}
