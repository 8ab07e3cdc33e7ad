/**
 * What the threads of the stress share: a sequence that orders requests and commands, the flag that parks writers, the log of
 * each writer's requests, and for each disk what its private bytes must hold and when its shared sectors were written.
 *
 * A request takes a number when it begins and one when it has ended, a command one before and one after (a freeze one, with
 * the gates closed). So of a request and a command it is known which came first, or that nobody can know.
 */

/** Words of the control block. */
export const sequenceWord = 0;
/** Moves when a writer should look at what it was told. */
export const controlWord = 1;
/** 1: writers park at the next request's end. */
export const pausedWord = 2;
/** Moves when a writer has parked. */
export const parkedWord = 3;
export const stoppedWord = 4;
/** Microseconds that the gates were held for the stress's own look at the instant, wrapping. */
export const observedWord = 5;
/** Milliseconds that a guest's request may take beyond what is promised: the image's own device and the machine. */
export const slackWord = 6;
/** Worst oversleep in the last seconds, microseconds: what the machine itself does to a thread (metronome.mjs). */
export const noiseStart = 64;
export const noiseBuckets = 256;
export const noiseBucketMs = 32;
const writersStart = noiseStart + noiseBuckets;
/** A word a writer: 1 while it is parked. */
export const writersMax = 16;
const disksStart = writersStart + writersMax;
/** Words a disk: what its guests have to expect at the moment. */
const diskWords = 4;
export const disksMax = 8;
const controlWords = disksStart + disksMax * diskWords;

/** @param {number} writer */
export const parkedFlag = (writer) => writersStart + writer;
/** Errors that a planted fault may give: 1 EIO and the like, 2 the request's delay proves nothing, 4 ETIMEDOUT. */
export const expectFlag = (/** @type {number} */ disk) => disksStart + disk * diskWords;
/** Milliseconds that a guest may have to wait for room in the spill. */
export const delayFlag = (/** @type {number} */ disk) => disksStart + disk * diskWords + 1;
/** Bytes of the disk now. */
export const lengthFlag = (/** @type {number} */ disk) => disksStart + disk * diskWords + 2;
export const expectErrors = 1;
export const expectDelays = 2;
export const expectTimeouts = 4;

/** Requests of a writer that are remembered. */
export const logEntries = 1 << 15;
export const entryWords = 8;
/** Fields of an entry. `end` is 0 while the request runs; `what` is operation and disk. */
export const field = { begin: 0, end: 1, what: 2, offset: 3, length: 4, errno: 5, microseconds: 6 };
export const operations = /** @type {const} */ (["write", "discard", "zero"]);

/** Bytes of a sector of a shared stripe, and of a unit that carries a whole tag. */
export const sectorBytes = 512;

/**
 * @typedef {object} WriterBoard
 * @property {SharedArrayBuffer} log a count, then the entries in a ring
 *
 * @typedef {object} DiskBoard
 * @property {SharedArrayBuffer} expected what the private stripes hold, by byte
 * @property {SharedArrayBuffer} acked a word a sector: the latest beginning of a write that has ended
 * @property {SharedArrayBuffer} zeroed two words a sector: requests that make it zero and run now, the last end of one
 * @property {SharedArrayBuffer} cut lengths to which the disk was shrunk in the middle of an 8-byte unit: how many, then each one, bytes
 * @property {number} lengthMax
 *
 * @typedef {object} Board
 * @property {SharedArrayBuffer} control
 * @property {WriterBoard[]} writers
 * @property {DiskBoard[]} disks
 */

/** Of one disk, over an epoch. */
const cutsMax = 1000;

/** @param {number} writers @param {readonly number[]} lengthsMax of the disks, bytes @returns {Board} */
export function makeBoard(writers, lengthsMax) {
  const make = (/** @type {number} */ bytes) => new SharedArrayBuffer(bytes);
  return {
    control: make(controlWords * 4),
    writers: Array.from({ length: writers }, () => ({ log: make((1 + logEntries * entryWords) * 4) })),
    disks: lengthsMax.map((lengthMax) => {
      const sectors = Math.ceil(lengthMax / sectorBytes);
      return {
        expected: make(lengthMax),
        acked: make(sectors * 4),
        zeroed: make(sectors * 8),
        cut: make((1 + cutsMax) * 4),
        lengthMax,
      };
    }),
  };
}

/** The next number. @param {Int32Array} control */
export function tick(control) {
  return Atomics.add(control, sequenceWord, 1) + 1;
}

/** Milliseconds on a clock that all threads share. */
export function clock() {
  return performance.timeOrigin + performance.now();
}

/** The worst oversleep around the last `milliseconds`, in milliseconds. @param {Int32Array} control @param {number} milliseconds */
export function noise(control, milliseconds) {
  const now = Math.floor(clock() / noiseBucketMs);
  const buckets = Math.min(noiseBuckets - 1, Math.ceil(milliseconds / noiseBucketMs) + 2);
  let worst = 0;
  for (let back = 0; back <= buckets; back++) {
    worst = Math.max(worst, Atomics.load(control, noiseStart + ((now - back) % noiseBuckets)));
  }
  return worst / 1000;
}
