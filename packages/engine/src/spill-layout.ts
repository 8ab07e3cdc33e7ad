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
 * | `syncs` | 1 where the file is synced before a guest overwrites (spill-sync.ts) | main, before the view starts |
 * | `stored`, `synced` | entries written so far; how many of them a sync has covered | by add; holder of `syncLock` |
 * | `syncLock` | the thread that syncs | by compare-exchange |
 * | `held` | slots that were drained and wait for a flush of the target | drainers by add, main |
 * | `givenUp` | 1 once it is durable that the view was given up | whoever has synced that |
 * | `hint*` | where the next search begins; any value is right | whoever found a slot |
 * | slot `state` | free, filling, full, draining (still readable), freeing, held | by compare-exchange; draining to freeing or held by its owner |
 * | slot `cluster` | cluster number | owner of a filling slot |
 * | slot `readers` | readers that pin it | by add |
 * | slot `failure` | errno of the target for it, where a guest waits for that; 0: to be tried | drainer; a guest that asks anew |
 *
 * For readers there is an index behind the slots: a hash of clusters with linear probing, twice as large as there are slots,
 * so that a look costs a few loads and not all slots. An entry is a slot's number plus 1, set by compare-exchange before the
 * cluster is `preserved`. A view that is read and has no target keeps what it has until it ends. Where there is a target, a
 * drained slot's entry becomes a tombstone before the slot is free, and the next entry that comes by takes its place: an entry
 * is never emptied, since somebody may have passed it on the way to a later one. A look for a cluster that is there ends at its
 * entry; one for a cluster that has just been drained may see all of the index, and finds the cluster on the target next.
 *
 * Slots of the zero kind carry no data: what they preserve is a cluster of zeroes.
 */
export const memorySlotsWord = 0;
export const fileSlotsMaxWord = 1;
export const zeroSlotsWord = 2;
/** Entries of the index, a power of two; 0 without readers. */
export const indexSizeWord = 3;
export const entryTagWord = 4;
export const syncsWord = 5;
export const fileSlotsWord = 16;
export const fileDescriptorWord = 17;
export const fileWantedWord = 32;
export const freeMemoryWord = 48;
export const freeFileWord = 49;
export const freeZeroWord = 50;
export const fullWord = 64;
export const storedWord = 65;
export const syncedWord = 66;
export const syncLockWord = 67;
export const heldWord = 68;
export const givenUpWord = 69;
export const hintMemoryWord = 80;
export const hintFileWord = 81;
export const hintZeroWord = 82;
export const hintDrainWord = 83;
export const slotsStart = 96;
export const slotFields = 4;
export const stateField = 0;
export const clusterField = 1;
export const readersField = 2;
export const failureField = 3;

export const slotFree = 0;
export const slotFilling = 1;
export const slotFull = 2;
export const slotDraining = 3;
export const slotFreeing = 4;
/** Drained: its place is free once a flush of the target covers its cluster. */
export const slotHeld = 5;

/** An entry of the index that is given up. */
export const tombstone = -1;

export function spillWords(memorySlots: number, fileSlots: number, zeroSlots: number, indexSize: number): number {
  return slotsStart + (memorySlots + fileSlots + zeroSlots) * slotFields + indexSize;
}

/** Entries of an index for this many slots. */
export function indexSizeFor(slots: number): number {
  return 2 ** Math.ceil(Math.log2(slots * 2));
}

/**
 * Where something may have been written: not in file slots that never had room on disk, of which there are many more than of
 * anything else. Pairs of a first word and a count of words.
 */
export function usedWords(words: Int32Array): readonly (readonly [first: number, count: number])[] {
  const { [memorySlotsWord]: memorySlots, [fileSlotsMaxWord]: fileSlotsMax, [fileSlotsWord]: fileSlots } = words;
  const others = slotsStart + (memorySlots + fileSlotsMax) * slotFields; // zero slots, and the index
  return [
    [0, slotsStart + (memorySlots + fileSlots) * slotFields],
    [others, words.length - others],
  ];
}
