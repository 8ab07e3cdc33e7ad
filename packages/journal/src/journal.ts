/**
 * A journal's directory in memory, and the one way to change it: `update` changes what is said and makes it durable, one after
 * the other. Layers are made before they are named, and their room is used again after they are no longer.
 *
 * What is said when, and why no crash between two records loses anything, is in the order of the calls:
 *
 * | command | before its transition | after it, when folds are over |
 * |---|---|---|
 * | add | - | the bitmap, its layer |
 * | clear, merge (a source), resize | old layers and the new one | the new one |
 * | freeze | the bitmap and an empty successor | - |
 * | freeze of a resumable job | the same | the job, its set, what it has copied |
 * | end of a resumable job without success | no job | as below |
 * | abdicate | - | between the two transitions of a success: the successor alone, as the bitmap |
 * | reclaim | - | the bitmap alone |
 * | disable | does not record; what is not settled counts | nothing counts any more |
 * | enable | - | records |
 * | remove | gone | - |
 */
import { ENOSPC, type Errno, errnoText } from "@heirloom/block";
import type { BitmapEntry, Directory, LayerEntry, LayerRole, PendingAbdicate, RecoveryEntry } from "./directory.ts";
import { encodeDirectory } from "./directory.ts";
import type { JobEntry, JobLayers } from "./job-entry.ts";
import { JournalError } from "./journal-error.ts";
import { layerBytes } from "./layout.ts";
import type { Sidecar } from "./recover.ts";
import { Space } from "./space.ts";
import type { NewLayer } from "./steps.ts";

/** What blocks, wherever it is done. Answers errnos. */
export interface JournalIo {
  createLayer(layer: NewLayer): Promise<Errno>;
  writeDirectory(record: Uint8Array, sequence: number): Promise<Errno>;
}

export interface KeptLayer extends NewLayer {
  role: LayerRole;
}

export interface KeptBitmap {
  name: string;
  readonly granularity: number;
  recording: boolean;
  unsettled: boolean;
  inconsistent: string | null;
  layers: KeptLayer[];
  pending: PendingAbdicate | null;
  job: KeptJob | null;
}

/** A resumable job in the record of the bitmap that it has frozen. */
export type KeptJob = Omit<JobEntry, keyof JobLayers<unknown>> & JobLayers<KeptLayer>;

/** Of the decisions and recoveries so many are kept; the oldest go. */
const decisionsMax = 64;
const recoveriesMax = 16;

type Head = Omit<Directory, "bitmaps" | "decisions" | "recoveries" | "nextLayer">;

export class Journal {
  readonly tag: number;
  readonly bitmaps: Map<string, KeptBitmap> = new Map();
  readonly #io: JournalIo;
  readonly #space = new Space();
  #head: Head;
  #decisions: readonly string[];
  #recoveries: readonly RecoveryEntry[];
  #nextLayer: number;
  #sequence: number;
  #queue: Promise<unknown> = Promise.resolve();
  #failed: JournalError | undefined;

  /** @throws JournalError where the directory cannot be right */
  constructor(sidecar: Pick<Sidecar, "tag" | "directory" | "directorySequence">, io: JournalIo) {
    const { bitmaps, decisions, recoveries, nextLayer, ...head } = sidecar.directory;
    this.tag = sidecar.tag;
    this.#io = io;
    this.#head = head;
    this.#decisions = decisions;
    this.#recoveries = recoveries;
    this.#nextLayer = nextLayer;
    this.#sequence = sidecar.directorySequence;
    for (const entry of bitmaps) this.bitmaps.set(entry.name, this.#adopt(entry));
  }

  get directory(): Directory {
    return {
      ...this.#head,
      nextLayer: this.#nextLayer,
      bitmaps: [...this.bitmaps.values()].map((bitmap) => ({
        ...bitmap,
        layers: bitmap.layers.map(entryOf),
        job: bitmap.job === null ? null : mapLayers(bitmap.job, entryOf),
      })),
      decisions: this.#decisions,
      recoveries: this.#recoveries,
    };
  }

  get failed(): JournalError | undefined {
    return this.#failed;
  }

  /** Bytes of the file. */
  get bytes(): number {
    return this.#space.end;
  }

  /** An empty layer, durable, that no bitmap names yet. @throws JournalError */
  async newLayer(length: number, granularity: number, role: LayerRole = "bits"): Promise<KeptLayer> {
    this.#refuseFailed();
    const offset = this.#space.allocate(layerBytes(length, granularity));
    const layer = { id: this.#nextLayer++, offset, length, granularity };
    const errno = await this.#io.createLayer(layer);
    if (errno === 0) return { ...layer, role };
    this.#space.free(offset); // nothing names it: not a failure of the journal
    const code = errno === ENOSPC ? "ERR_JOURNAL_FULL" : "ERR_JOURNAL_IO";
    throw new JournalError(code, `journal: make room for a bitmap's bits: ${errnoText(errno)}`);
  }

  /** A layer that no bitmap names, and that no thread writes any more. */
  freeLayer(layer: NewLayer): void {
    this.#space.free(layer.offset);
  }

  /**
   * Changes what is said, durably when this resolves. Changes are made in the order of the calls, each in a record of its own.
   * @throws JournalError; from then on the journal has failed, as nobody knows what it says
   */
  update(change: () => void): Promise<void> {
    const done = this.#queue.then(async () => {
      this.#refuseFailed();
      const undo = this.#remember();
      try {
        change();
        await this.#write();
      } catch (error) {
        if (this.#failed === undefined) undo(); // it was never written: too large for its place
        throw error;
      }
    });
    this.#queue = done.catch(() => {});
    return done;
  }

  /** Within a change. */
  setHead(change: Partial<Head>): void {
    this.#head = { ...this.#head, ...change };
  }
  /** Within a change: a group's success is decided. */
  decide(group: string): void {
    this.#decisions = [...this.#decisions, group].slice(-decisionsMax);
  }
  /** Within a change: every member has made its own record. */
  forget(group: string): void {
    this.#decisions = this.#decisions.filter((one) => one !== group);
  }
  /** Within a change. */
  noteRecovery(entry: RecoveryEntry): void {
    this.#recoveries = [...this.#recoveries, entry].slice(-recoveriesMax);
  }

  /**
   * Something could not be written: nothing is any more but, once, that nothing here can be believed.
   * @throws JournalError where that could not be written either
   */
  async condemn(error: JournalError): Promise<void> {
    this.#failed ??= error;
    await this.#queue;
    for (const bitmap of this.bitmaps.values()) bitmap.inconsistent ??= error.message;
    await this.#write();
  }

  async #write(): Promise<void> {
    const sequence = this.#sequence + 1;
    const record = encodeDirectory(this.directory, this.tag, sequence);
    const errno = await this.#io.writeDirectory(record, sequence);
    if (errno !== 0) {
      this.#failed ??= new JournalError("ERR_JOURNAL_IO", `journal: write the directory: ${errnoText(errno)}`);
      throw this.#failed;
    }
    this.#sequence = sequence;
  }

  /** What takes a change back. */
  #remember(): () => void {
    const bitmaps = [...this.bitmaps].map(([name, bitmap]) => ({ name, bitmap, fields: { ...bitmap } }));
    const { head, decisions, recoveries } = {
      head: this.#head,
      decisions: this.#decisions,
      recoveries: this.#recoveries,
    };
    return () => {
      this.bitmaps.clear();
      for (const { name, bitmap, fields } of bitmaps) this.bitmaps.set(name, Object.assign(bitmap, fields));
      this.#head = head;
      this.#decisions = decisions;
      this.#recoveries = recoveries;
    };
  }

  #refuseFailed(): void {
    if (this.#failed !== undefined) throw this.#failed;
  }

  #adopt(entry: BitmapEntry): KeptBitmap {
    const { granularity } = entry;
    const adopt = (layer: LayerEntry, grain: number): KeptLayer => {
      try {
        this.#space.take(layer.offset, layerBytes(layer.length, grain));
      } catch (cause) {
        throw new JournalError("ERR_JOURNAL_DAMAGED", `journal: ${(cause as Error).message}`, { cause });
      }
      return { ...layer, granularity: grain };
    };
    const layers = entry.layers.map((layer) => adopt(layer, granularity));
    const { job } = entry;
    if (job === null) return { ...entry, layers, job };
    return {
      ...entry,
      layers,
      job: {
        ...job,
        set: adopt(job.set, granularity),
        copied: adopt(job.copied, job.clusterSize),
        flushed: adopt(job.flushed, job.clusterSize),
      },
    };
  }
}

/** A job with other layers. */
function mapLayers(job: KeptJob, map: (layer: KeptLayer) => LayerEntry): JobEntry {
  return { ...job, set: map(job.set), copied: map(job.copied), flushed: map(job.flushed) };
}

function entryOf({ id, role, length, offset }: KeptLayer): LayerEntry {
  return { id, role, length, offset };
}
