/**
 * The ring between the main thread and an I/O server: requests one way, errnos back, and a ring of bytes for their data.
 * One producer (main), one consumer (the server), so each index has one writer.
 *
 * | word | holds | written by |
 * |---|---|---|
 * | `submitted` | requests put in so far, wrapping | main |
 * | `completed` | requests answered so far, wrapping | server |
 * | entry numbers (64-bit) | operation, disk, offset, length, place of the data, flag | main, before `submitted` moves |
 * | entry errno | answer | server, before `completed` moves |
 */
export const ringEntries = 256;
export const dataBytes: number = 8 * 1024 * 1024;

export const submittedWord = 0;
export const completedWord = 16;
export const errnoStart = 32;
const numbersStart = (errnoStart + ringEntries) * 4;
export const entryNumbers = 6;

export const ringBytes: number = numbersStart + ringEntries * entryNumbers * 8;

export const operationAdopt = 0;
export const operationRead = 1;
export const operationWrite = 2;
export const operationDiscard = 3;
export const operationWriteZeroes = 4;
export const operationFlush = 5;
export const operationReadView = 6;
export const operationForget = 7;
export const operationClose = 8;

export class IoRing {
  readonly buffer: SharedArrayBuffer;
  readonly words: Int32Array;
  readonly numbers: Float64Array;
  readonly data: Uint8Array;

  constructor(buffer: SharedArrayBuffer = new SharedArrayBuffer(ringBytes + dataBytes)) {
    this.buffer = buffer;
    this.words = new Int32Array(buffer, 0, errnoStart + ringEntries);
    this.numbers = new Float64Array(buffer, numbersStart, ringEntries * entryNumbers);
    this.data = new Uint8Array(buffer, ringBytes, dataBytes);
  }
}
