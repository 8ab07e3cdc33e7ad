/**
 * What the main thread and the guests share: when to stop, what is measured, and each guest's figures.
 *
 * | block | what | writer |
 * |---|---|---|
 * | control (Int32) | stop, phase, number of observations | main |
 * | observations (Float64) | begin and end of each shadow copy, milliseconds of the machine's monotonic clock | main, gates closed |
 * | figures (Float64), per guest, phase and kind | bytes, longest request | that guest |
 * | histogram (Int32), per guest, phase and kind | requests by latency: 16 buckets to each doubling, from 1 ns | that guest |
 *
 * A shadow copy is made with the gate closed, so a request that met it was longer by it: a guest takes the time that its
 * request shares with an observation out of its latency. The gate's own time stays in.
 */
const controlWords = 16;
const observationsMax = 256;
/** Phases: a request counts in the phase in which it began, if it also ended in it. */
export const uncounted = 0;
export const idle = 1;
export const duringBackup = 2;
export type Phase = typeof uncounted | typeof idle | typeof duringBackup;
const phases = 3;
const perDoubling = 16;
const buckets = 40 * perDoubling; // up to 2^40 ns, 18 minutes
/** Kinds of requests: a write, a discard, a write of zeroes. */
export const kinds = 3;

const stopWord = 0;
const phaseWord = 1;
const observedWord = 2;

const figuresOffset = controlWords * 4 + observationsMax * 2 * 8;
const figuresEach = 2;

export interface Figures {
  readonly requests: number;
  readonly bytes: number;
  /** Milliseconds. */
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
}

export class GuestMemory {
  readonly buffer: SharedArrayBuffer;
  readonly guests: number;
  readonly #control: Int32Array;
  readonly #observations: Float64Array;
  readonly #figures: Float64Array;
  readonly #histograms: Int32Array;

  constructor(guests: number, buffer?: SharedArrayBuffer) {
    const cells = guests * phases * kinds;
    const histogramsOffset = figuresOffset + cells * figuresEach * 8;
    this.guests = guests;
    this.buffer = buffer ?? new SharedArrayBuffer(histogramsOffset + cells * buckets * 4);
    this.#control = new Int32Array(this.buffer, 0, controlWords);
    this.#observations = new Float64Array(this.buffer, controlWords * 4, observationsMax * 2);
    this.#figures = new Float64Array(this.buffer, figuresOffset, cells * figuresEach);
    this.#histograms = new Int32Array(this.buffer, histogramsOffset, cells * buckets);
  }

  stop(): void {
    Atomics.store(this.#control, stopWord, 1);
    Atomics.notify(this.#control, stopWord);
  }
  get stopped(): boolean {
    return Atomics.load(this.#control, stopWord) !== 0;
  }
  /** A guest thinks: ends early when it is to stop. */
  think(milliseconds: number): void {
    Atomics.wait(this.#control, stopWord, 0, milliseconds);
  }

  get phase(): Phase {
    return Atomics.load(this.#control, phaseWord) as Phase;
  }
  set phase(phase: Phase) {
    Atomics.store(this.#control, phaseWord, phase);
  }

  /** Main thread, with the gate closed: this was a shadow copy's time. Beyond the last place it is not taken out. */
  observed(begin: number, end: number): void {
    const count = Atomics.load(this.#control, observedWord);
    if (count === observationsMax) return;
    this.#observations.set([begin, end], count * 2);
    Atomics.store(this.#control, observedWord, count + 1);
  }

  /** Milliseconds of `[begin, end]` that were a shadow copy's. Those that can overlap are the last ones. */
  observedWithin(begin: number, end: number): number {
    let shared = 0;
    for (let index = Atomics.load(this.#control, observedWord) - 1; index >= 0; index--) {
      const until = this.#observations[index * 2 + 1];
      if (until <= begin) break;
      shared += Math.max(0, Math.min(end, until) - Math.max(begin, this.#observations[index * 2]));
    }
    return shared;
  }

  /** The guest's own thread: one request is done. */
  count(guest: number, phase: number, kind: number, milliseconds: number, bytes: number): void {
    const cell = (guest * phases + phase) * kinds + kind;
    this.#figures[cell * figuresEach] += bytes;
    if (milliseconds > this.#figures[cell * figuresEach + 1]) this.#figures[cell * figuresEach + 1] = milliseconds;
    const bucket = Math.min(buckets - 1, Math.max(0, Math.floor(Math.log2(milliseconds * 1e6) * perDoubling)));
    Atomics.add(this.#histograms, cell * buckets + bucket, 1);
  }

  /** Of all guests. @param ofPhases, ofKinds what counts; all where not given */
  figures(ofPhases: readonly number[] = [0, 1, 2], ofKinds: readonly number[] = [0, 1, 2]): Figures {
    const histogram = new Float64Array(buckets);
    let bytes = 0;
    let max = 0;
    for (let cell = 0; cell < this.guests * phases * kinds; cell++) {
      const kind = cell % kinds;
      const phase = ((cell - kind) / kinds) % phases;
      if (!ofPhases.includes(phase) || !ofKinds.includes(kind)) continue;
      bytes += this.#figures[cell * figuresEach];
      max = Math.max(max, this.#figures[cell * figuresEach + 1]);
      for (let bucket = 0; bucket < buckets; bucket++)
        histogram[bucket] += Atomics.load(this.#histograms, cell * buckets + bucket);
    }
    const requests = histogram.reduce((sum, inBucket) => sum + inBucket, 0);
    return {
      requests,
      bytes,
      p50: percentile(histogram, requests, 0.5),
      p99: percentile(histogram, requests, 0.99),
      max,
    };
  }
}

/** Upper end of the bucket, in milliseconds: says too much by 4 % at most, never too little. */
function percentile(histogram: Float64Array, requests: number, share: number): number {
  let seen = 0;
  for (let bucket = 0; bucket < buckets; bucket++) {
    seen += histogram[bucket];
    if (seen > 0 && seen >= requests * share) return 2 ** ((bucket + 1) / perDoubling) / 1e6;
  }
  return 0;
}
