/**
 * A point-in-time view and the threads that work for it, on the main thread. Made before the freeze, so that the gate closes
 * over stores only; it ends in a transition; its memory, buffers and descriptors stay in use until every thread of it has
 * let go.
 */
import assert from "node:assert";
import type { BitmapHandle } from "@heirloom/bitmap";
import type { NodeHandle } from "@heirloom/block";
import type { Arenas, Region } from "./arena.ts";
import type { DiskAddress } from "./disk-io.ts";
import * as jobLayout from "./job-layout.ts";
import type { MoverEnd } from "./mover.ts";
import type { MoverAnswer, MoverTask } from "./mover-task.ts";
import type { ErrorPolicy, MoverError } from "./mover-types.ts";
import { setSpeed } from "./pacing.ts";
import type { LongTask, Pool } from "./pool.ts";
import type { Recorder } from "./recorder.ts";
import type { Listening } from "./reports.ts";
import { restoreView } from "./restore-view.ts";
import { SpillKeeper, type SpillFileOptions } from "./spill-keeper.ts";
import type { Layer } from "./stack.ts";
import type { EngineAddress } from "./thread-context.ts";
import { breakReasons, type BreakReason, brokenErrnoWord, stoppedWord } from "./view-layout.ts";
import { ViewMemory, type ViewOptions } from "./view-memory.ts";
import { nextMissing } from "./view-scan.ts";

export interface MoverOptions {
  readonly target: { readonly node: NodeHandle } | { readonly disk: DiskAddress };
  readonly targetIsZero: boolean;
  /** Threads of the job. */
  readonly threads: number;
  readonly runBytesMax: number;
  readonly detectZeroes: boolean;
  /** What has been copied is discarded at the source. */
  readonly discardSource: boolean;
  /** False: keeps what guests overwrite, copies nothing by itself (`sync: none`). */
  readonly copies: boolean;
  readonly scan: "allocated" | BitmapHandle | undefined;
  /** Of a resumable job: where it writes down what is on the target, for the guards' module. */
  readonly record?: readonly number[] | undefined;
  /** Milliseconds left to guests between two runs while they write; 0: the job does not yield. */
  readonly yieldMs: number;
  readonly onSourceError: ErrorPolicy;
  readonly onTargetError: ErrorPolicy;
  /** Bytes/s; 0 is unlimited. */
  readonly speed: number;
}

/** What an engine's parts need of it. */
export interface EngineParts {
  readonly arenas: Arenas;
  readonly pool: Pool;
  address(): EngineAddress;
  /** Nobody works outside the gate with memory that the layer's stack has given up. */
  noneAside(layer: Layer): Promise<void>;
}

export interface EngineViewOptions extends Omit<ViewOptions, "gate"> {
  /** Where the view's movers carry what guests overwrite, if it has readers as well. */
  readonly target?: NodeHandle;
}

/** How the threads of a view ended: the worst of them. */
export type ThreadsEnd = MoverEnd | "died";

export class EngineView {
  readonly layer: Layer;
  readonly memory: ViewMemory;
  /** For readers. */
  readonly target: NodeHandle | undefined;
  readonly #parts: EngineParts;
  readonly #jobRegion: Region;
  readonly #jobWords: Int32Array;
  readonly #keeper: SpillKeeper;
  readonly #movers: LongTask<MoverEnd>[] = [];
  #released: Promise<void> | undefined;

  /** @param set what is to be kept; undefined for all of the disk */
  constructor(
    parts: EngineParts,
    layer: Layer,
    options: EngineViewOptions,
    set: Recorder | undefined,
    spill: SpillFileOptions,
    onSpillRefused: (error: Error) => void,
  ) {
    this.#parts = parts;
    this.layer = layer;
    this.target = options.target;
    this.memory = new ViewMemory(parts.arenas, { gate: layer.stack.gateRegion, ...options }, set);
    this.#jobRegion = parts.arenas.allocate(jobLayout.jobWords * 4);
    this.#jobWords = new Int32Array(this.#jobRegion.buffer, this.#jobRegion.byteOffset, jobLayout.jobWords);
    this.#keeper = new SpillKeeper(parts.pool, this.memory, spill, onSpillRefused);
  }

  /**
   * Takes over what a job had when its process ended. Not in the table yet: nobody else looks at it.
   * @param copied a bit a cluster @param flushed the same of what a flush of the target covers
   * @param entries of the spill file: slot and cluster, one after the other
   */
  restore(copied: Int32Array, flushed: Int32Array, entries: Int32Array): void {
    const clusters = restoreView(this.memory, copied, flushed, entries);
    Atomics.store(this.#jobWords, jobLayout.copiedClustersWord, clusters);
  }

  /** Resolves when its threads have ended, if any were started. */
  async moversEnded(): Promise<void> {
    await Promise.allSettled(this.#movers.map((mover) => mover.ended));
  }

  /** Whether its threads have been started. */
  get isMoving(): boolean {
    return this.#movers.length > 0;
  }

  /**
   * Starts the job's threads. The view is in the table by now.
   * @param report errors as they are met
   * @returns how they end, all of them: "copied" if everything is on the target and flushed
   * @throws NoThread if not all can start; those that did are told to stop
   */
  startMovers(options: MoverOptions, report: (error: MoverError) => void): Promise<ThreadsEnd> {
    assert(this.#movers.length === 0, "a view's movers start once");
    setSpeed(this.#jobWords, options.speed);
    try {
      for (let count = 0; count < options.threads; count++) this.#movers.push(this.#startMover(options, report));
    } catch (error) {
      Atomics.store(this.#jobWords, jobLayout.failedWord, 1);
      this.memory.view.wakeMovers();
      throw error;
    }
    return this.#worst();
  }

  /** Stores of the transition that ends the view. */
  stop(): void {
    Atomics.store(this.memory.view.words, stoppedWord, 1);
  }

  /** After `stop`, gates open: everybody who sleeps for it looks. */
  wake(): void {
    this.memory.view.wakeAll();
  }

  /** A job that failed with the view still standing: its threads end. */
  fail(): void {
    Atomics.store(this.#jobWords, jobLayout.failedWord, 1);
    this.memory.view.wakeMovers();
  }

  pause(): void {
    Atomics.or(this.#jobWords, jobLayout.pausedWord, jobLayout.pausedByUser);
  }

  /** Ends a pause, whoever began it. */
  resume(): void {
    Atomics.store(this.#jobWords, jobLayout.pausedWord, 0);
    this.memory.view.wakeMovers();
  }

  setSpeed(bytesPerSecond: number): void {
    setSpeed(this.#jobWords, bytesPerSecond);
    this.memory.view.wakeMovers();
  }

  /** Clusters of the view on the target so far. */
  get copiedClusters(): number {
    return Atomics.load(this.#jobWords, jobLayout.copiedClustersWord);
  }

  /** Clusters that a scan took out of the set so far. */
  get retiredClusters(): number {
    return Atomics.load(this.#jobWords, jobLayout.retiredClustersWord);
  }

  /** Whether every cluster of the set is on the target, and the target flushed since. */
  get allFlushed(): boolean {
    return (
      Atomics.load(this.#jobWords, jobLayout.flushingWord) === jobLayout.flushedAll &&
      nextMissing(this.memory.view, 0) === -1
    );
  }

  get broken(): { reason: BreakReason; errno: number } | undefined {
    const reason = breakReasons[this.memory.view.broken()];
    if (reason === undefined) return undefined;
    return { reason, errno: Atomics.load(this.memory.view.words, brokenErrnoWord) };
  }

  /** Bytes that the spill's file holds on disk. */
  get spillFileBytes(): number {
    return this.#keeper.allocated;
  }

  /** Bytes of clusters that stand in the spill now. */
  get spilledBytes(): number {
    return this.memory.view.spill.full * this.memory.clusterSize;
  }

  /** More than half of a synced spill waits for a flush of the target, or will soon. */
  get wantsFlush(): boolean {
    const { spill } = this.memory.view;
    return spill.held > 0 && spill.isPressing();
  }
  /** Slots of a synced spill that wait for a flush of the target. */
  get heldSlots(): number {
    return this.memory.view.spill.held;
  }

  /** A flush of the target covers these clusters, durably recorded: guests may overwrite them, and their entries are not needed. */
  flushed(covered: Int32Array): void {
    const { view } = this.memory;
    if (view.safe === undefined || this.#released !== undefined) return;
    for (let word = 0; word < covered.length; word++) {
      if (covered[word] === 0) continue;
      view.setPreserved(word, covered[word]);
      view.setSafe(word, covered[word]);
    }
    view.spill.freeHeld(covered);
    view.madeProgress();
  }

  /** What is on the target at this moment, a bit a cluster. */
  copiedSnapshot(): Int32Array {
    return this.memory.view.copied.slice();
  }

  /**
   * The view has left the table: waits until each of its threads has let go, and gives back what it used. A thread that
   * hangs keeps it all.
   */
  release(): Promise<void> {
    this.#released ??= this.#release();
    return this.#released;
  }

  async #release(): Promise<void> {
    await Promise.allSettled(this.#movers.map((mover) => mover.ended));
    if (this.memory.view.safe !== undefined) await this.#parts.noneAside(this.layer);
    await this.#keeper.close();
    this.#jobWords.fill(0);
    this.#parts.arenas.free(this.#jobRegion);
    this.memory.free();
  }

  #startMover(options: MoverOptions, report: (error: MoverError) => void): LongTask<MoverEnd> {
    const listening = this.#parts.pool.reports.listen(report);
    try {
      const { participant, ended } = this.#parts.pool.start<MoverAnswer>("move", (seat) => {
        const task: MoverTask = {
          engine: this.#parts.address(),
          seat,
          arenaCount: this.#parts.arenas.buffers.length,
          source: this.layer.stack.address(this.layer),
          target: options.target,
          targetIsZero: options.targetIsZero,
          view: { arena: this.memory.region.arena, byteOffset: this.memory.region.byteOffset },
          job: { arena: this.#jobRegion.arena, byteOffset: this.#jobRegion.byteOffset },
          runBytesMax: options.runBytesMax,
          detectZeroes: options.detectZeroes,
          discardSource: options.discardSource,
          copies: options.copies,
          scan: options.scan,
          record: options.record,
          yieldMs: options.yieldMs,
          onSourceError: options.onSourceError,
          onTargetError: options.onTargetError,
          reporter: listening.reporter,
        };
        return { task };
      });
      return { participant, ended: endOf(ended, listening) };
    } catch (error) {
      listening.close();
      throw error;
    }
  }

  async #worst(): Promise<ThreadsEnd> {
    const ends = await Promise.allSettled(this.#movers.map((mover) => mover.ended));
    let worst: ThreadsEnd = "copied";
    for (const end of ends) {
      if (end.status === "rejected") return "died";
      if (end.value === "failed" || (end.value === "over" && worst === "copied")) worst = end.value;
    }
    return worst;
  }
}

/** What a mover reported comes by another way than its end, which may overtake it. */
async function endOf(ended: Promise<MoverAnswer>, listening: Listening): Promise<MoverEnd> {
  try {
    const { end, reports } = await ended;
    await listening.heard(reports);
    return end;
  } finally {
    listening.close();
  }
}
