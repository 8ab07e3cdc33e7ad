/**
 * Layout of a point-in-time view: one region. A header of words, a descriptor of 64-bit numbers (written before the
 * view starts, immutable), then five bit arrays with a bit a cluster, or six where the spill is synced.
 *
 * | word | holds | written by | read by |
 * |---|---|---|---|
 * | `stopped` | 1 after the transition that ended the view | main, gate closed | all |
 * | `broken` | 0, or why the view cannot be kept | whoever breaks it, by compare-exchange, once | all |
 * | `work` | counted up when there may be something to do; movers sleep on it | guests, main | movers |
 * | `sleeping` | how many sleep on `work` | movers, readers | whoever wakes them |
 * | `claimWaiters` | how many sleep, or are about to, for somebody's claim | they | whoever releases one |
 * | `brokenErrno` | errno of the read that broke it | before `broken` | main |
 * | `targetErrno` | errno of the last write to the target, 0 if it went well; where guests wait for the target | drainers | guests |
 * | `discards` | counted up when readers have given up a part | readers | movers |
 *
 * | bits | say | set by | cleared by |
 * |---|---|---|---|
 * | `busy` | claimed | who claims, with or | the same |
 * | `copying` | a copier or the scan works on it | who copies, with or | the same |
 * | `preserved` | the old data is safe somewhere | the claim's holder | nobody |
 * | `copied` | it is on the target | the owner of `copying`, or a drainer | a mover, once it is retired and discarded there |
 * | `safe` | the old data outlives a power loss: a guest may overwrite it (spill-sync.ts) | who has synced it; main, after a flush | nobody |
 * | `retired` | a scan found that it is not in the set, or readers have given it up | the scan, holding `copying`; a reader, holding the claim | nobody |
 */
export const stoppedWord = 0;
export const brokenWord = 16;
export const brokenErrnoWord = 17;
export const targetErrnoWord = 18;
export const discardsWord = 19;
export const workWord = 32;
export const sleepingWord = 33;
export const claimWaitersWord = 48;
/** Words of the header; the descriptor follows. */
export const headerWords = 64;

/** Why a view broke. */
export const brokenSpillFull = 1;
export const brokenUnreadable = 2;
export const brokenThreadDied = 3;
export const brokenSpillFailed = 4;
/** A guest waited so long for another thread's claim that the thread must be hanging in the device. */
export const brokenClaimHeld = 5;

export type BreakReason = "spill-full" | "source-unreadable" | "thread-died" | "spill-failed" | "claim-held";
export const breakReasons: readonly (BreakReason | undefined)[] = [
  undefined,
  "spill-full",
  "source-unreadable",
  "thread-died",
  "spill-failed",
  "claim-held",
];

const bitArrays = 5;

export function bitWords(clusters: number): number {
  return Math.ceil(clusters / 32);
}

export function viewBytes(descriptorLength: number, clusters: number, syncs: boolean): number {
  return headerWords * 4 + descriptorLength * 8 + (bitArrays + (syncs ? 1 : 0)) * bitWords(clusters) * 4;
}

/** A claim is held for one device read of at most this many bytes. */
export const claimBytesMax: number = 256 * 1024;
/** Clusters are numbered in 31 bits: 128 TiB at 64 KiB. */
export const clustersMax: number = 2 ** 31 - 1;
