/**
 * A mover: one thread of a job. It drains the spill first, since guests may be waiting for room, and copies a run in
 * between; paused or held back by a speed limit it goes on draining. It returns when everything is copied and flushed, or
 * when the view is over, or when the job failed.
 */
import { copyThroughBuffer, type Failure } from "./buffer-copier.ts";
import { type KnownExtent, readRun } from "./copier.ts";
import { copyRunThenClaim } from "./copy-then-claim.ts";
import { discardRetired } from "./discarder.ts";
import { drain, type DrainResult } from "./drainer.ts";
import { meetError } from "./error-policy.ts";
import type { GuestActivity } from "./guest-activity.ts";
import { failedWord, flushedAll, flushingWord, pausedByTarget, pausedWord } from "./job-layout.ts";
import { copyRunInKernel, type KernelCopy, kernelCopyOf } from "./kernel-copier.ts";
import type { MoverJob } from "./mover-types.ts";
import { chargeRun, startWait } from "./pacing.ts";
import { passAgain, type Run, takeRun } from "./runs.ts";
import { scanStep } from "./scanner.ts";
import { type HeldRun, kindAbsent, writeHeld } from "./target-writer.ts";
import { nextMissing } from "./view-scan.ts";

/** How a mover ended; what it means for the job is the coordinator's to say. */
export type MoverEnd = "copied" | "over" | "failed";

/** Sleeps of a mover with nothing to do: it is woken when the spill is half full, and looks by itself this often. */
const idleMs = 10;
/** After an error that is ignored, the next try comes after this, doubled up to the maximum: a permanent one must not spin. */
const retryMsMin = 1;
const retryMsMax = 200;
const failedTryMs = 100;
/** A look over all of a view costs up to milliseconds; discards come in thousands. */
const discardEveryMs = 50;

export class Mover {
  readonly #job: MoverJob;
  #held: HeldRun;
  readonly #bounce: Uint8Array;
  readonly #run: Run = { first: 0, count: 0 };
  readonly #known: KnownExtent = { offset: 0, extent: { length: 0, zero: false, allocated: false } };
  readonly #drained: DrainResult = { drained: 0, errno: 0, offset: 0 };
  readonly #runClusters: number;
  readonly #activity: GuestActivity | undefined;
  readonly #copies: boolean;
  #kernel: KernelCopy | undefined;
  #holding = false;
  #retryMs = retryMsMin;
  #nextTryMs = 0;
  #nextDiscardMs = 0;
  #discards = 0;

  /**
   * @param copies false for a job that only keeps what guests overwrite (`sync: none`): it never ends by itself
   * @param activity set for a job that yields to guests
   */
  constructor(job: MoverJob, copies: boolean, activity: GuestActivity | undefined) {
    this.#job = job;
    this.#copies = copies;
    this.#activity = activity;
    const runBytes = activity === undefined ? job.runBytesMax : Math.min(job.runBytesMax, yieldingRunBytes);
    this.#runClusters = Math.max(1, Math.floor(runBytes / job.view.clusterSize));
    this.#kernel = copies ? kernelCopyOf(job) : undefined;
    this.#held = {
      first: 0,
      count: 0,
      buffer: new Uint8Array(0), // made at the first use: a kernel copy needs none
      kinds: new Uint8Array(this.#runClusters),
      failedAt: 0,
    };
    const { clusterSize, spill } = job.view;
    this.#bounce = threadBounce(spill.isIndexed ? Math.max(clusterSize, drainBytesMax) : clusterSize);
  }

  run(): MoverEnd {
    const { view, words } = this.#job;
    for (;;) {
      view.standAside();
      const seen = view.workSeen();
      if (view.over()) return "over";
      if (Atomics.load(words, failedWord) !== 0) return "failed";
      const paused = Atomics.load(words, pausedWord);
      this.#discardGivenUp();
      if (view.synchronous || (paused & pausedByTarget) === 0) {
        this.#drain();
        if (this.#drained.errno !== 0) continue; // what it means was decided; look at the words again
        if (this.#drained.drained > 0 && view.spill.full > 0) continue;
      }
      const waitMs = paused !== 0 ? idleMs : this.#copy();
      if (waitMs === 0) continue;
      if (waitMs === done) {
        const end = this.#finish();
        if (end !== undefined) return end;
        continue;
      }
      view.waitForWork(seen, waitMs);
    }
  }

  #drain(): void {
    const job = this.#job;
    drain(job, drainBatch, this.#bounce, this.#drained, this.#triesFailed());
    if (this.#drained.drained > 0) chargeRun(job.words, this.#drained.drained * job.view.clusterSize);
    if (this.#drained.errno !== 0 && !job.view.over()) this.#meet("write", this.#drained.errno, this.#drained.offset);
  }

  /** A target that guests wait for is asked now and then whether it takes what it did not. */
  #triesFailed(): boolean {
    const { view } = this.#job;
    if (!view.synchronous || view.targetErrno() === 0) return false;
    const now = performance.now();
    if (now < this.#nextTryMs) return false;
    this.#nextTryMs = now + failedTryMs;
    return true;
  }

  /** What readers have given up takes no room on the target any longer. One that cannot discard keeps it. */
  #discardGivenUp(): void {
    const { view } = this.#job;
    const seen = view.discardsSeen();
    if (seen === this.#discards) return;
    const now = performance.now();
    if (now < this.#nextDiscardMs) return;
    this.#nextDiscardMs = now + discardEveryMs;
    this.#discards = seen;
    discardRetired(this.#job);
  }

  /** One step of the background copy. @returns milliseconds to wait for work, 0 to go on, or `done` */
  #copy(): number {
    const job = this.#job;
    if (this.#holding) return this.#writeHeld();
    if (!this.#copies) return idleMs;
    if (job.scan !== undefined) {
      const scanned = scanStep(job, job.scan);
      if (scanned !== true) return scanned === undefined ? 1 : 0;
    }
    const yieldMs = this.#activity?.yieldMs() ?? 0;
    if (yieldMs > 0) return yieldMs;
    const wait = startWait(job.words);
    // What is paid for was copied: nobody waits for a run that will not be.
    if (wait > 0) return this.#allCopied() ? done : Math.min(wait, idleMs);
    if (!takeRun(job.view, job.words, this.#runClusters, this.#run)) return this.#passEnded();
    chargeRun(job.words, this.#run.count * job.view.clusterSize);
    if (this.#kernel !== undefined) return this.#copyInKernel(this.#kernel);
    if (job.record !== undefined) return this.#copyAndRecord();
    const errno = readRun(job, this.#run, this.#room(), this.#known);
    this.#holding = this.#held.kinds.some((kind, at) => at < this.#held.count && kind !== kindAbsent);
    if (errno !== 0 && !job.view.over()) this.#meet("read", errno, this.#held.failedAt);
    return this.#holding ? this.#writeHeld() : 0;
  }

  /** Writes what the buffer holds. The data stays there until it has arrived, whatever the policy says meanwhile. */
  #writeHeld(): number {
    const job = this.#job;
    if (job.view.over()) return 0;
    const errno = writeHeld(job, this.#held);
    if (errno !== 0) {
      const at = this.#held.kinds.findIndex((kind) => kind !== kindAbsent);
      this.#meet("write", errno, (this.#held.first + at) * job.view.clusterSize);
      return 0;
    }
    this.#holding = false;
    this.#retryMs = retryMsMin;
    return 0;
  }

  #copyInKernel(kernel: KernelCopy): number {
    // Whatever the kernel could not do, the copy through a buffer can, or says properly why not.
    if (copyRunInKernel(this.#job, this.#run, kernel) !== 0) this.#kernel = undefined;
    return 0;
  }

  /** Copied clusters stay so: a look goes on where the one before it ended. */
  #allCopied(): boolean {
    const { view } = this.#job;
    const missing = nextMissing(view, this.#missing);
    this.#missing = Math.max(missing, 0);
    return missing === -1 && nextMissing(view, 0) === -1;
  }
  #missing = 0;

  /** Of a resumable job: what is in a buffer counts for nothing, so nothing stays there. */
  #copyAndRecord(): number {
    const job = this.#job;
    const { buffer } = this.#room();
    const failure: Failure = { operation: "read", offset: 0 };
    const errno = copyRunThenClaim(job, this.#run, (first, end) =>
      copyThroughBuffer(job, first, end, buffer, this.#known, failure),
    );
    if (errno === 0) this.#retryMs = retryMsMin;
    else if (!job.view.over()) this.#meet(failure.operation, errno, failure.offset);
    return 0;
  }

  #passEnded(): number {
    const job = this.#job;
    if (nextMissing(job.view, 0) === -1) return done;
    passAgain(job.view, job.words);
    // What is missing is in the spill, with another thread, or was left out: the sleep is short, a slot wakes it.
    return 1;
  }

  /** Everything is on the target: one thread flushes it. */
  #finish(): MoverEnd | undefined {
    const job = this.#job;
    const before = Atomics.compareExchange(job.words, flushingWord, 0, 1);
    if (before === flushedAll) return "copied";
    if (before === 1) {
      job.view.waitForWork(job.view.workSeen(), idleMs);
      return undefined;
    }
    const errno = job.target.flush();
    if (errno === 0) {
      Atomics.store(job.words, flushingWord, flushedAll);
      job.view.wakeMovers();
      return "copied";
    }
    // A failed flush is never repeated as success: the kernel may have dropped what it could not write.
    Atomics.store(job.words, failedWord, 1);
    job.report({ operation: "flush", errno, offset: 0, action: "report" });
    job.view.wakeMovers();
    return "failed";
  }

  #meet(operation: "read" | "write", errno: number, offset: number): void {
    if (meetError(this.#job, operation, errno, offset)) {
      this.#job.view.waitForWork(this.#job.view.workSeen(), this.#retryMs);
      this.#retryMs = Math.min(retryMsMax, this.#retryMs * 2);
    } else this.#job.view.wakeMovers();
  }

  #room(): HeldRun {
    if (this.#held.buffer.length === 0) {
      this.#held = { ...this.#held, buffer: threadBuffer(this.#runClusters * this.#job.view.clusterSize) };
    }
    return this.#held;
  }
}

let buffer: Uint8Array = new Uint8Array(0);

/**
 * This thread's, the next job's as well: a thread runs one mover at a time, and to make and zero a mebibyte takes longer than
 * a job that has one cluster to copy.
 */
function threadBuffer(bytes: number): Uint8Array {
  if (buffer.length < bytes) buffer = new Uint8Array(bytes);
  return buffer.subarray(0, bytes);
}

let bounce: Uint8Array = new Uint8Array(0);

/** The same, for slots of a spill's file. */
function threadBounce(bytes: number): Uint8Array {
  if (bounce.length < bytes) bounce = new Uint8Array(bytes);
  return bounce;
}

/** Runs of a job that yields to guests are short, so that it does not take a core from them for long. */
const yieldingRunBytes = 256 * 1024;
/** Slots drained before the next look at everything else. */
const drainBatch = 64;
/** Neighbours that go to the target in one request. */
const drainBytesMax = 256 * 1024;
/** Told by a step that found everything copied. */
const done = -1;
