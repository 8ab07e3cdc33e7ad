/**
 * Layout of a job's shared words, between the coordinator and the job's own threads.
 *
 * | word | holds | written by |
 * |---|---|---|
 * | `paused` | bits: paused by the user, by an error of the source, by one of the target | main; a mover at an error |
 * | `cursor` | cluster from which the next run is looked for in this pass | movers, by compare-exchange |
 * | `copiedClusters` | clusters on the target so far | movers, by add |
 * | `failed` | 1 once a mover's error failed the job: the others stop | movers |
 * | `flushing` | 0 nobody, 1 somebody flushes the target at the end, 2 flushed | movers, by compare-exchange |
 * | `nextStartMs` | when the next run may start, by the shared clock, under a speed limit | movers |
 * | `speed` | bytes/s, the bits of a 32-bit float; 0 is unlimited | main |
 * | `scanned` | 0, 1 while a mover scans the set, 2 when it is known | movers, by compare-exchange |
 * | `scanCursor` | cluster that the scan has come to | the scanning mover |
 * | `retiredClusters` | clusters that the scan took out of the set | the scanning mover |
 */
export const pausedWord = 0;
export const cursorWord = 16;
export const copiedClustersWord = 32;
export const failedWord = 33;
export const flushingWord = 34;
export const nextStartMsWord = 48;
export const speedWord = 49;
export const scannedWord = 50;
export const scanCursorWord = 51;
export const retiredClustersWord = 52;
export const jobWords = 64;

export const pausedByUser = 1;
export const pausedBySource = 2;
export const pausedByTarget = 4;

export const flushedAll = 2;
