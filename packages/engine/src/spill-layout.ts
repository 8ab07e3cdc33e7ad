/**
 * Layout of a spill: where guests put the old data of clusters that they are about to overwrite. One region of words,
 * one region of memory slots; file slots are numbered after the memory slots.
 *
 * | word | holds | written by |
 * |---|---|---|
 * | `memorySlots`, `fileSlotsMax`, `zeroSlots`, `indexSize` | how many there can be | main, before the view starts |
 * | `entryTag` | of a resumable job: slots are entries of a file that is kept (spill-entry.ts); else 0 | main, before the view starts |
 * | `fileSlots` | file slots that have room on disk | main, after a helper's fallocate |
 * | `fileDescriptor` | of the spill file, -1 while there is none | main, before `fileSlots` |
 * | `fileWanted` | 1 once memory is half full, counted up at each further need; main sleeps on it | whoever takes a slot |
 * | `free*` | free slots of a kind, never more than there are; lost ones stay lost until the view ends | by add |
 * | `full` | slots that wait for a drainer | by add |
 * | `hint*` | where the next search begins; any value is right | whoever found a slot |
 * | slot `state` | free, filling, full, draining | by compare-exchange |
 * | slot `cluster` | cluster number | owner of a filling slot |
 * | slot `readers` | readers that pin it | by add |
 *
 * For readers there is an index behind the slots: a hash of clusters with linear probing, twice as large as there are slots,
 * so that a look costs a few loads and not all slots. An entry is a slot's number plus 1, set once by compare-exchange
 * before the cluster is `preserved`, and never taken away: a view that is read keeps what it has until it ends.
 *
 * Slots of the zero kind carry no data: what they preserve is a cluster of zeroes.
 */
export const memorySlotsWord = 0;
export const fileSlotsMaxWord = 1;
export const zeroSlotsWord = 2;
/** Entries of the index, a power of two; 0 without readers. */
export const indexSizeWord = 3;
export const entryTagWord = 4;
export const fileSlotsWord = 16;
export const fileDescriptorWord = 17;
export const fileWantedWord = 32;
export const freeMemoryWord = 48;
export const freeFileWord = 49;
export const freeZeroWord = 50;
export const fullWord = 64;
export const hintMemoryWord = 80;
export const hintFileWord = 81;
export const hintZeroWord = 82;
export const hintDrainWord = 83;
export const slotsStart = 96;
export const slotFields = 4;
export const stateField = 0;
export const clusterField = 1;
export const readersField = 2;

export const slotFree = 0;
export const slotFilling = 1;
export const slotFull = 2;
export const slotDraining = 3;

export function spillWords(memorySlots: number, fileSlots: number, zeroSlots: number, indexSize: number): number {
  return slotsStart + (memorySlots + fileSlots + zeroSlots) * slotFields + indexSize;
}

/** Entries of an index for this many slots. */
export function indexSizeFor(slots: number): number {
  return 2 ** Math.ceil(Math.log2(slots * 2));
}
