/**
 * The resumable jobs of a disk, on the main thread: their layers (job-entry.ts), made before the freeze and given back when no thread of
 * the job is left, and what of a job there is to go on with after a stop.
 */
import type { Errno } from "@heirloom/block";
import { errnoName } from "@heirloom/block";
import type { Engine, FoundSpill, Recorder } from "@heirloom/engine";
import { layerMemoryWords } from "./block-bits.ts";
import type { CopiedRow } from "./guard.ts";
import type { JobLayers } from "./job-entry.ts";
import type { Journal, KeptBitmap, KeptJob, KeptLayer } from "./journal.ts";
import { JournalError } from "./journal-error.ts";
import type { Sidecar } from "./recover.ts";
import type { JobState } from "./recover-job.ts";
import type * as tasks from "./tasks.ts";

/** What a job has in the journal while its process lives. */
export interface JobRecords {
  readonly kept: JobLayers<KeptLayer>;
  /** For the job's threads. */
  readonly row: CopiedRow;
}

/** A job that was cut off, and can go on. */
export interface RecoveredJob {
  readonly entry: KeptJob;
  readonly records: JobRecords;
  readonly spill: FoundSpill;
  /** What is on the target, and what of it a flush covers; a bit a cluster. */
  readonly copied: Int32Array;
  readonly flushed: Int32Array;
}

interface LayerMemory {
  readonly reference: tasks.LayerReference;
  readonly arena: number;
  free(): void;
}

export interface KeptJobsPlace {
  readonly engine: Engine;
  readonly fd: number;
  readonly journal: Journal;
  readonly help: <Result>(name: keyof typeof tasks, task: unknown) => Promise<Result>;
  /** Layers that no memory stands for any more: their room is free once no record names them. */
  readonly leave: (layer: KeptLayer) => void;
}

export class KeptJobs {
  readonly #place: KeptJobsPlace;
  readonly #memory = new Map<JobRecords, { readonly copied: LayerMemory; readonly flushed: LayerMemory }>();

  constructor(place: KeptJobsPlace) {
    this.#place = place;
  }

  /** Empty ones, in the file, that no record names yet. @throws JournalError */
  async create(length: number, granularity: number, clusterSize: number): Promise<JobRecords> {
    const { journal, leave } = this.#place;
    const made: KeptLayer[] = [];
    try {
      for (const grain of [granularity, clusterSize, clusterSize]) made.push(await journal.newLayer(length, grain));
    } catch (error) {
      for (const layer of made) leave(layer);
      throw error;
    }
    const [set, copied, flushed] = made;
    return this.#adopt({ set, copied, flushed });
  }

  /** What the bitmap said at the freeze. @throws JournalError */
  async storeSet({ kept: { set } }: JobRecords, frozen: Recorder): Promise<void> {
    const { fd, journal, help } = this.#place;
    const task: tasks.StoreSetTask = { fd, tag: journal.tag, layer: set, set: frozen.bitmap.handle };
    expectDone("store what a job copies", await help<Errno>("storeSetTask", task));
  }

  /** What is on the target with a flush since: durable when this resolves. @returns false where the job has ended @throws JournalError */
  async storeFlushed(records: JobRecords, clusters: Int32Array): Promise<boolean> {
    const { fd, journal, help } = this.#place;
    const memory = this.#memory.get(records);
    if (memory === undefined) return false; // it has ended
    const task: tasks.AddWordsTask = { fd, tag: journal.tag, layer: memory.flushed.reference, words: clusters };
    expectDone("store what a job has copied", await help<Errno>("addWordsTask", task));
    return true;
  }

  /** No thread of the job is left, and no record names its layers, or will from now on. */
  drop(records: JobRecords): void {
    const memory = this.#memory.get(records);
    if (memory === undefined) return;
    this.#memory.delete(records);
    memory.copied.free();
    memory.flushed.free();
    const { set, copied, flushed } = records.kept;
    for (const layer of [set, copied, flushed]) this.#place.leave(layer);
  }

  /** Layers that threads may hold locks of. */
  get references(): readonly tasks.LayerReference[] {
    return [...this.#memory.values()].flatMap(({ copied, flushed }) => [copied.reference, flushed.reference]);
  }

  /**
   * Takes a job up: the frozen bitmap gets what it said at the freeze. The successor is recovered already.
   * @returns why not, in words, where it cannot go on
   */
  async recover(
    sidecar: Sidecar,
    bitmap: KeptBitmap,
    lost: boolean,
    bits: { readonly recorder: Recorder; readonly reference: tasks.LayerReference },
    successor: Recorder,
  ): Promise<RecoveredJob | string> {
    const { engine, fd, journal, help } = this.#place;
    const { job } = bitmap;
    const entry = sidecar.directory.bitmaps.find(({ name }) => name === bitmap.name)?.job;
    if (job === null || entry === null || entry === undefined) return "it has no record";
    const { spill: path, tag, clusterSize } = job;
    let spill: FoundSpill;
    try {
      spill = await engine.openSpill({ path, tag, clusterSize });
    } catch (error) {
      return (error as Error).message;
    }
    // What is in the file of `copied` may be more than a flush covers: after a power loss it begins anew.
    const copiedLayer = lost ? await journal.newLayer(job.copied.length, clusterSize) : job.copied;
    const records = this.#adopt({ set: job.set, copied: copiedLayer, flushed: job.flushed });
    const memory = this.#memory.get(records);
    if (memory === undefined) throw new Error("journal: a job's layers have memory");
    const task: tasks.RecoverJobTask = {
      fd,
      sidecar,
      job: entry,
      lost,
      bits: bits.reference,
      marks: bits.recorder.bitmap.handle,
      successor: successor.bitmap.handle,
      flushed: memory.flushed.reference,
      entries: spill.entries,
    };
    const state = await help<JobState>("recoverJobTask", task);
    const copied: tasks.AddWordsTask = { fd, tag: journal.tag, layer: memory.copied.reference, words: state.copied };
    const errno = state.errno || (state.refused === undefined ? await help<Errno>("addWordsTask", copied) : 0);
    if (errno === 0 && state.refused === undefined) {
      if (lost) this.#place.leave(job.copied);
      return { entry: { ...job, ...records.kept }, records, spill, copied: state.copied, flushed: state.flushed };
    }
    this.drop(records);
    if (lost) this.#place.leave(job.copied);
    await engine.removeSpill({ path, fd: spill.spill.fd });
    return state.refused ?? `its record could not be read: ${errnoName(errno)}`;
  }

  #adopt(kept: JobLayers<KeptLayer>): JobRecords {
    const copied = this.#memoryFor(kept.copied);
    const flushed = this.#memoryFor(kept.flushed);
    const { id, offset, length, granularity } = kept.copied;
    const { fd, journal } = this.#place;
    const row: CopiedRow = [
      fd,
      journal.tag,
      id,
      offset,
      length,
      granularity,
      copied.arena,
      copied.reference.byteOffset,
    ];
    const records: JobRecords = { kept, row };
    this.#memory.set(records, { copied, flushed });
    return records;
  }

  #memoryFor(kept: KeptLayer): LayerMemory {
    const { arenas } = this.#place.engine;
    const words = layerMemoryWords(kept.length, kept.granularity);
    const region = arenas.allocate(words * 4);
    const { buffer, byteOffset, arena } = region;
    return {
      reference: { ...kept, buffer, byteOffset, words },
      arena,
      free() {
        new Int32Array(buffer, byteOffset, words).fill(0);
        arenas.free(region);
      },
    };
  }
}

function expectDone(operation: string, errno: Errno): void {
  if (errno !== 0) throw new JournalError("ERR_JOURNAL_IO", `journal: ${operation}: ${errnoName(errno)}`);
}
