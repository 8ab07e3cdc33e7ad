/**
 * Shared words of a journal's marks, one piece of memory a disk.
 *
 * | word | holds | written by | read by |
 * |---|---|---|---|
 * | `lock` | who writes the marks in the file (lock.ts) | whoever needs a mark, the settler | all of those |
 * | `settler` | who settles | settlers | settlers |
 * | `sequence` | of the marks record that was last made durable | holder of `lock` | holder of `lock` |
 * | `hand` | where the search for a region to settle goes on | holder of `lock` | holder of `lock` |
 * | `failed` | errno of the write or sync that failed, 0 while all is well; it stays | any thread, once | every guest, main |
 * | `syncs`, `settled` | counters | any thread | main |
 * | `marked` | a bit a region: writes may go there | holder of `lock` | every guest, inside the gate |
 * | `onDisk` | a bit a region: the durable record has it | holder of `lock` | holder of `lock` |
 * | `wanted` | a bit a region: somebody waits for it | whoever needs a mark | holder of `lock` |
 * | `touched` | a bit a region: written since the last look of the settler | every guest, inside the gate | holder of `lock` |
 *
 * `marked` is within `onDisk` at every instant: it is set after the record with it was synced, and cleared before the record
 * without it is written. All loads and stores are Atomics. The hot words, `marked` and `touched`, share no line with others.
 */

export const lockWord = 0;
export const settlerWord = 1;
export const sequenceWord = 2;
export const handWord = 3;
export const failedWord = 16;
export const syncsWord = 32;
export const settledWord = 33;
export const arraysWord = 48;

const lineWords = 16;

export interface MarksLayout {
  readonly regions: number;
  readonly markedWord: number;
  readonly onDiskWord: number;
  readonly wantedWord: number;
  readonly touchedWord: number;
  readonly words: number;
  readonly bytes: number;
}

export function marksLayout(regions: number): MarksLayout {
  const each = Math.ceil(Math.ceil(regions / 32) / lineWords) * lineWords;
  const words = arraysWord + 4 * each;
  return {
    regions,
    markedWord: arraysWord,
    onDiskWord: arraysWord + each,
    wantedWord: arraysWord + 2 * each,
    touchedWord: arraysWord + 3 * each,
    words,
    bytes: words * 4,
  };
}
