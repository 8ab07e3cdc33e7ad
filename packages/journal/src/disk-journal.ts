/**
 * The journal of an attached disk, on the main thread: opened or made, its bitmaps recovered, their layers in memory, and what
 * goes on in the background (settling, threads that died, a journal that fails). Everything that blocks is done by helpers.
 */
import type { SharedBitmap } from "@heirloom/bitmap";
import { EAGAIN, EIO, type Errno, errnoName, type NodeHandle } from "@heirloom/block";
import { type Engine, type Layer, Recorder } from "@heirloom/engine";
import type { BitmapEntry, Directory, LayerRole, RecoveryEntry, StopKind } from "./directory.ts";
import type { DiskRow, LayerRow } from "./guard.ts";
import { Journal, type KeptBitmap, type KeptLayer } from "./journal.ts";
import { JournalError } from "./journal-error.ts";
import { firstLock, layerMemoryWords } from "./block-bits.ts";
import { KeptJobs, type RecoveredJob } from "./kept-jobs.ts";
import { failedWord, marksLayout, settledWord, syncsWord } from "./marks-layout.ts";
import type { MarkedSidecar } from "./failed-mark.ts";
import { judge, lastWritten, type Judgement, type Sidecar } from "./recover.ts";
import type { RecoveredBits, RecoveryRules } from "./recover-bits.ts";
import { RegionMarks, regionsFor } from "./region-marks.ts";
import type { Storage } from "./storage.ts";
import type * as tasks from "./tasks.ts";

/** File URL of what the engine's threads ask before a write: an option of the engine. */
export const guardModule: string = new URL("./guard.js", import.meta.url).href;
const tasksModule = new URL("./tasks.js", import.meta.url).href;

/** The words of the marks have room for a disk of twice its length and so many bytes: it may grow while guests use them. */
const growthBytes = 64 * 2 ** 30;

/**
 * Between two looks for regions that can be settled: what nobody wrote for one to two of these. Sooner, and a guest that writes the
 * same place every few seconds has it marked anew each time (a sync), and its image flushed before the kernel would write it out by
 * itself, which is what settling then waits for.
 */
const settleMs = 15_000;
/** Bytes that may be unsettled at once, unless said otherwise. */
export const boundDefault: number = 4 * 2 ** 30;

export interface JournalOptions {
  /** Where the sidecar lies; beside the image by default. */
  readonly path?: string;
  /** A directory for the sidecars of many images, each named by the path of its image. */
  readonly directory?: string;
  /** A tmpfs is memory, so it is refused unless this is set. */
  readonly allowTmpfs?: boolean;
  /**
   * After a power loss at most so many bytes more than were written since count as dirty; 4 GiB by default. A sidecar that is there
   * takes another one over after a clean stop.
   */
  readonly bound?: number;
  /** How often quiet regions are looked for, milliseconds; 15,000 by default. */
  readonly settleMs?: number;
}

export interface JournalPlace {
  readonly engine: Engine;
  readonly layer: Layer;
  readonly node: NodeHandle;
  /** The image or device. */
  readonly filename: string;
  readonly options: JournalOptions;
  readonly now: () => number;
  /** Told once, when it has failed: whatever it kept is inconsistent. */
  readonly onFailure: (error: JournalError) => void;
}

/** A bitmap as it comes back. */
export interface RecoveredBitmap {
  readonly name: string;
  readonly granularity: number;
  readonly recording: boolean;
  readonly inconsistent: string | undefined;
  /** undefined where it is inconsistent. */
  readonly recorder: Recorder | undefined;
  /** What happened to it, for its history. */
  readonly story: string;
  /** It comes back frozen, with its heir, by a job that can go on. */
  readonly frozen: { readonly successor: Recorder; readonly job: RecoveredJob } | undefined;
}

interface LayerMemory {
  readonly kept: KeptLayer;
  readonly reference: tasks.LayerReference;
}

export class DiskJournal {
  readonly path: string;
  #place: JournalPlace;
  readonly #uuid: Uint8Array;
  readonly #fd: number;
  readonly #journal: Journal;
  readonly #words: Int32Array;
  readonly #marksRegion: ReturnType<Engine["arenas"]["allocate"]>;
  readonly #marks: RegionMarks;
  readonly #row: DiskRow;
  /** Bytes of the disk: its table says nothing any more when the journal is closed. */
  #length: number;
  readonly #memory = new Map<Recorder, LayerMemory>();
  /** Resumable jobs. */
  readonly jobs: KeptJobs;
  /** Layers that no memory stands for any more, and whose room is free once no record names them. */
  readonly #leaving = new Set<KeptLayer>();
  readonly #lettingGo = new Set<Promise<void>>();
  #settling: Promise<unknown> = Promise.resolve();
  #settlingNow = false;
  #timer: NodeJS.Timeout | undefined;
  readonly #stopExits: () => void;
  #closed = false;
  #failing: Promise<void> | undefined;

  private constructor(place: JournalPlace, path: string, { fd, sidecar }: tasks.Opened) {
    this.#place = place;
    this.path = path;
    this.#fd = fd;
    this.#uuid = sidecar.superblock.uuid;
    const { engine, layer } = place;
    this.#journal = new Journal(sidecar, {
      createLayer: (created) => this.#help<Errno>("createLayerTask", { fd, tag: sidecar.tag, layer: created }),
      writeDirectory: (record, sequence) => this.#help<Errno>("writeDirectoryTask", { fd, record, sequence }),
    });
    this.jobs = new KeptJobs({
      engine,
      fd,
      journal: this.#journal,
      help: (name, task) => this.#help(name, task),
      leave: (left) => {
        this.#leaving.add(left);
        this.#collect();
      },
    });
    const { regionBytes, bound } = sidecar.directory;
    this.#length = layer.table.length;
    const regions = Math.ceil((2 * this.#length + growthBytes) / regionBytes);
    const { bytes, words } = marksLayout(regions);
    this.#marksRegion = engine.arenas.allocate(bytes);
    const { buffer, byteOffset, arena } = this.#marksRegion;
    this.#words = new Int32Array(buffer, byteOffset, words);
    const markedMax = Math.floor(bound / regionBytes);
    this.#row = [fd, sidecar.tag, regionBytes, regions, markedMax, arena, byteOffset];
    this.#marks = new RegionMarks({
      words: this.#words,
      storage: noStorage,
      tag: sidecar.tag,
      regionBytes,
      regions,
      markedMax,
      holder: 1,
      waitOutside: () => false,
      syncImage: () => EAGAIN,
    });
    this.#marks.adopt(sidecar.marks ?? [], sidecar.marksSequence);
    this.#stopExits = engine.onExit((threadId) => void this.#released(threadId + 1));
  }

  /** Whether the image has a sidecar. @throws JournalError */
  static async look(place: JournalPlace, length: number = place.layer.table.length): Promise<tasks.Look> {
    const { engine, filename, options } = place;
    const { path, directory } = options;
    const task: tasks.LookTask = { filename, path, directory, length };
    return unwrap(await engine.helpWith<tasks.Answer<tasks.Look>>(tasksModule, "lookTask", task));
  }

  /** The sidecar that an image has where sidecars lie by default: for those who keep none. @throws JournalError */
  static async find(engine: Engine, filename: string): Promise<string | undefined> {
    return unwrap(await engine.helpWith<tasks.Answer<string | undefined>>(tasksModule, "findTask", { filename }));
  }

  /** A new sidecar, without bitmaps. @param replace takes the place of one that has failed @throws JournalError */
  static async create(place: JournalPlace, replace = false): Promise<DiskJournal> {
    const look = await DiskJournal.look(place);
    const bound = place.options.bound ?? boundDefault;
    const directory: Directory = {
      generation: 1,
      inUse: true,
      bootId: look.bootId,
      openedAt: place.now(),
      closedAt: 0,
      image: look.image,
      nextLength: null,
      regionBytes: regionBytesFor(bound),
      bound,
      nextLayer: 1,
      bitmaps: [],
      decisions: [],
      recoveries: [],
    };
    const opened = await DiskJournal.#open(place, look.path, directory, replace);
    const journal = new DiskJournal(place, look.path, opened);
    journal.#begin();
    return journal;
  }

  /** The sidecar that is there: its bitmaps, recording again from now on. Nobody writes the disk yet. @throws JournalError */
  static async recover(
    place: JournalPlace,
    look: tasks.Look,
  ): Promise<{ readonly journal: DiskJournal; readonly bitmaps: readonly RecoveredBitmap[] }> {
    const { bound } = place.options;
    if (bound !== undefined) regionBytesFor(bound); // refused before anything is open
    const opened = withBound(await DiskJournal.#open(place, look.path, undefined), bound);
    const journal = new DiskJournal(place, look.path, opened);
    try {
      const bitmaps = await journal.#recover(opened, look);
      journal.#begin();
      return { journal, bitmaps };
    } catch (error) {
      journal.#stop();
      await journal.#help("closeTask", { fd: opened.fd });
      throw error;
    }
  }

  static async #open(
    { engine, filename, options }: JournalPlace,
    path: string,
    create: Directory | undefined,
    replace = false,
  ): Promise<tasks.Opened> {
    const task: tasks.OpenTask = { path, filename, allowTmpfs: options.allowTmpfs === true, create, replace };
    return unwrap(await engine.helpWith<tasks.Answer<tasks.Opened>>(tasksModule, "openTask", task));
  }

  get directory(): Directory {
    return this.#journal.directory;
  }
  get failed(): JournalError | undefined {
    return this.#journal.failed;
  }
  /** Figures for whoever looks. */
  get figures(): { bytes: number; bound: number; unsettled: number; syncs: number; settled: number } {
    const count = (word: number): number => Atomics.load(this.#words, word) >>> 0;
    return {
      bytes: this.#journal.bytes,
      bound: this.#journal.directory.bound,
      unsettled: Math.min(this.#marks.onDisk.length * this.#row[2], this.#length), // neighbours may lie beyond its end
      syncs: count(syncsWord),
      settled: count(settledWord),
    };
  }

  /** What the record says of a bitmap; to be changed within `update` only. */
  bitmap(name: string): KeptBitmap | undefined {
    return this.#journal.bitmaps.get(name);
  }

  /** From here on the image may have either length. @throws JournalError: also where it would outgrow what was set aside for it */
  async resizing(length: number): Promise<void> {
    const [, , regionBytes, regions] = this.#row;
    if (length > regions * regionBytes) {
      const message = `journal: expected at most ${regions * regionBytes} bytes while the disk is attached; detach it and attach it again to let it grow further`;
      throw new JournalError("ERR_JOURNAL_FULL", message);
    }
    await this.update((journal) => journal.setHead({ nextLength: length }));
  }
  /** It has this one. @throws JournalError */
  async resized(length: number): Promise<void> {
    this.#length = length;
    await this.update((journal) =>
      journal.setHead({ nextLength: null, image: { ...journal.directory.image, length } }),
    );
  }

  /**
   * Its bitmaps are those of another layer of the same stack from now on, that covers the same bytes: called where the next table is
   * prepared, and once more with the old place if that is given up.
   */
  moveTo(place: Pick<JournalPlace, "layer" | "onFailure">): void {
    this.#place.layer.guard = undefined;
    this.#place = { ...this.#place, ...place };
    if (!this.#closed) this.#place.layer.guard = this.#row;
  }

  /** Within an update: what a bitmap is from now on. */
  describe(bitmap: KeptBitmap): void {
    const known = this.#journal.bitmaps.get(bitmap.name);
    if (known === undefined) this.#journal.bitmaps.set(bitmap.name, bitmap);
    else Object.assign(known, bitmap);
  }
  /** Within an update: there is no such bitmap. */
  forget(name: string): void {
    this.#journal.bitmaps.delete(name);
  }

  /** An empty recorder whose layer is in the file, and which no bitmap names yet. @throws JournalError */
  async newRecorder(length: number, granularity: number): Promise<Recorder> {
    return this.#recorder(await this.#journal.newLayer(length, granularity));
  }

  /** Changes the record, durably when this resolves. @throws JournalError: the journal has failed */
  async update(change: (journal: Journal) => void): Promise<void> {
    try {
      await this.#journal.update(() => change(this.#journal));
    } catch (error) {
      if (this.failed !== undefined) await this.#fail(this.failed);
      throw error;
    }
    this.#collect();
  }

  /** The layers of recorders, for the record. */
  layersOf(recorders: ReadonlyArray<readonly [Recorder, LayerRole]>): KeptLayer[] {
    return recorders.map(([recorder, role]) => {
      const memory = this.#memory.get(recorder);
      if (memory === undefined) throw new Error("journal: a recorder of another journal");
      return Object.assign(memory.kept, { role });
    });
  }

  /** Whether the recorder is one of this journal's. */
  keeps(recorder: Recorder): boolean {
    return this.#memory.has(recorder);
  }

  /** Joins bits into a kept bitmap, through the journal. A failure is the journal's: it is told, and nothing is thrown. */
  async fold(into: Recorder, from: SharedBitmap): Promise<void> {
    const memory = this.#memory.get(into);
    if (memory === undefined) throw new Error("journal: a recorder of another journal");
    const task: tasks.FoldTask = {
      fd: this.#fd,
      tag: this.#journal.tag,
      layer: memory.reference,
      into: into.bitmap.handle,
      from: from.handle,
    };
    // A helper that dies holding a lock is found by its exit; the fold is done again, as bits are only ever set.
    const errno = await this.#help<Errno>("foldTask", task).catch(() => this.#help<Errno>("foldTask", task));
    if (errno !== 0) this.#marks.fail(errno);
  }

  /** What was written before is on stable storage: of the image. @throws JournalError */
  async syncImage(): Promise<void> {
    const errno = await this.#help<Errno>("syncNodeTask", { node: this.#place.node });
    if (errno !== 0) throw new JournalError("ERR_JOURNAL_IO", `flush of the image: ${errnoName(errno)}`);
  }

  /** Settles what is quiet, or all; one after the other. @returns errno */
  settle(all = false): Promise<Errno> {
    const done = this.#settling.then(() => this.#settle(all));
    this.#settling = done.catch(() => {});
    return done;
  }

  /** The disk's writers are gone. Clean: the next run finds all settled and the image as it was. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    clearInterval(this.#timer);
    await this.#settling;
    if (this.failed === undefined) await this.#closeClean().catch(() => {}); // what is not said to be clean is recovered
    this.#stop();
    await Promise.all(this.#lettingGo);
    await this.#help("closeTask", { fd: this.#fd });
    this.#words.fill(0);
    Atomics.notify(this.#words, failedWord);
    this.#place.engine.arenas.free(this.#marksRegion);
  }

  async #closeClean(): Promise<void> {
    if ((await this.#settle(true)) !== 0) return;
    const { image } = await DiskJournal.look(this.#place, this.#length);
    await this.update((journal) => {
      for (const bitmap of journal.bitmaps.values()) bitmap.unsettled = bitmap.recording;
      journal.setHead({ inUse: false, closedAt: this.#place.now(), image, nextLength: null });
    });
  }

  #stop(): void {
    this.#stopExits();
    clearInterval(this.#timer);
    this.#place.layer.guard = undefined;
  }

  /** From here on guests ask it. */
  #begin(): void {
    this.#place.layer.guard = this.#row;
    const { settleMs: often = settleMs } = this.#place.options;
    this.#timer = setInterval(() => {
      if (this.#settlingNow || this.#marks.onDisk.length === 0) return;
      this.#settlingNow = true;
      void this.settle().finally(() => (this.#settlingNow = false));
    }, often).unref();
    void this.#watch();
  }

  /** A guest's write found that the journal fails. */
  async #watch(): Promise<void> {
    if (Atomics.load(this.#words, failedWord) === 0) {
      const wait = Atomics.waitAsync(this.#words, failedWord, 0);
      if (wait.async) await wait.value;
    }
    const errno = Atomics.load(this.#words, failedWord);
    if (errno === 0 || this.#closed) return;
    await this.#fail(new JournalError("ERR_JOURNAL_IO", `journal '${this.path}': ${errnoName(errno)}`));
  }

  /**
   * Whatever it kept is inconsistent from now on, here and for the next run: by a record if one can still be written, else by taking
   * the sidecar away.
   */
  #fail(cause: JournalError): Promise<void> {
    this.#failing ??= this.#condemn(cause);
    return this.#failing;
  }
  async #condemn(cause: JournalError): Promise<void> {
    this.#marks.fail(EIO); // guests go on without it
    this.#place.onFailure(cause);
    const said = await this.#journal.condemn(cause).then(
      () => true,
      () => false,
    );
    if (!said) await this.#help("takeAwayTask", { sidecar: this.#marked, reason: cause.message }).catch(() => false);
  }

  async #settle(all: boolean): Promise<Errno> {
    const { engine, layer, node } = this.#place;
    const [fd, tag, regionBytes, regions, markedMax] = this.#row;
    const { words: gate } = layer.stack;
    const { participantMax } = engine.registry;
    const marks = { fd, tag, regionBytes, regions, markedMax, words: this.#words, gate, participantMax, node };
    const errno = await this.#help<Errno>("settleTask", { ...marks, all }).catch(() => EAGAIN);
    if (errno !== 0 && errno !== EAGAIN) this.#marks.fail(errno);
    return errno;
  }

  /** For what says elsewhere that it has failed. */
  get #marked(): MarkedSidecar {
    return { path: this.path, uuid: this.#uuid, filename: this.#place.filename };
  }

  async #recover({ sidecar, failed }: tasks.Opened, { image, bootId }: tasks.Look): Promise<RecoveredBitmap[]> {
    const judged = judge(sidecar, image, bootId);
    const judgement = { ...judged, distrust: judged.distrust ?? failed };
    // After a crash they decide nothing, since the guest wrote until the end; a person may know better.
    const times = judged.kind === "clean" ? "" : lastWritten(image);
    const recovered: RecoveredBitmap[] = [];
    let regions = 0;
    for (const bitmap of this.#journal.bitmaps.values()) {
      const { back, unsettled } = await this.#recoverBitmap(sidecar, bitmap, judgement, times);
      recovered.push(back);
      regions = Math.max(regions, unsettled);
    }
    if (sidecar.marks === undefined) await this.syncImage(); // what the last run had not settled is settled now
    const entry: RecoveryEntry = { at: this.#place.now(), kind: judgement.kind, regions };
    await this.update((journal) => {
      for (const { name, recorder, inconsistent, frozen } of recovered) {
        const bitmap = journal.bitmaps.get(name);
        if (bitmap === undefined) continue;
        bitmap.pending = null;
        bitmap.inconsistent = inconsistent ?? null;
        bitmap.layers = recorder === undefined ? [] : this.layersOf([[recorder, "bits"]]);
        bitmap.job = null;
        if (recorder === undefined || frozen === undefined) continue;
        bitmap.layers = this.layersOf([
          [recorder, "bits"],
          [frozen.successor, "successor"],
        ]);
        bitmap.job = { ...frozen.job.entry, waitingSince: frozen.job.entry.waitingSince || entry.at };
      }
      const { directory } = sidecar;
      const generation = directory.generation + 1;
      journal.setHead({ inUse: true, bootId, openedAt: entry.at, generation, image, nextLength: null });
      if (judgement.kind !== "clean") journal.noteRecovery(entry);
    });
    if (failed !== undefined) await this.#help("clearFailedTask", { sidecar: this.#marked });
    const kept = recovered.flatMap(({ frozen }) => (frozen === undefined ? [] : [frozen.job.entry.spill]));
    await this.#help("removeOrphansTask", { path: this.path, kept });
    return recovered;
  }

  async #recoverBitmap(
    sidecar: Sidecar,
    bitmap: KeptBitmap,
    judgement: Judgement,
    times: string,
  ): Promise<{ readonly back: RecoveredBitmap; readonly unsettled: number }> {
    const { kind, distrust } = judgement;
    const { name, granularity, recording } = bitmap;
    const entry = sidecar.directory.bitmaps.find((one) => one.name === name);
    const reason = bitmap.inconsistent ?? distrust;
    const lost = (inconsistent: string): { back: RecoveredBitmap; unsettled: number } => {
      for (const layer of allLayers(bitmap)) this.#leaving.add(layer);
      const back = {
        name,
        granularity,
        recording,
        inconsistent,
        recorder: undefined,
        story: inconsistent,
        frozen: undefined,
      };
      return { back, unsettled: 0 };
    };
    if (reason !== undefined || entry === undefined) return lost(reason ?? "it has no entry");
    const resumed = bitmap.job === null ? "" : await this.#resume(sidecar, entry, bitmap, judgement);
    if (typeof resumed !== "string") return resumed;
    const { decided, note } = await this.#decision(bitmap);
    const { length } = this.#place.layer.table;
    // It goes on with a layer that it has: the heir's where an abdicate is true.
    const own = bitmap.layers.find((layer) => layer.length === length && (!decided || layer.role === "successor"));
    const layer = own ?? (await this.#journal.newLayer(length, granularity));
    const { recorder, result } = await this.#load(sidecar, entry, layer, { decided, lost: kind === "power-loss" });
    for (const other of allLayers(bitmap)) if (other !== layer) this.#leaving.add(other);
    const story = [storyOf(kind, result, this.#place.now()), times, storyOfLayers(bitmap, decided), resumed, note];
    return {
      back: {
        name,
        granularity,
        recording,
        inconsistent: undefined,
        recorder,
        story: story.filter(Boolean).join("; "),
        frozen: undefined,
      },
      unsettled: result.regions,
    };
  }

  /** Joins layers of an entry into one, in the file and in memory. @throws JournalError */
  async #load(
    sidecar: Sidecar,
    entry: BitmapEntry,
    layer: KeptLayer,
    rules: RecoveryRules,
  ): Promise<{ readonly recorder: Recorder; readonly result: RecoveredBits }> {
    const recorder = this.#recorder(layer);
    const task: tasks.RecoverTask = {
      fd: this.#fd,
      sidecar,
      entry,
      rules,
      layer: this.#referenceOf(recorder),
      marks: recorder.bitmap.handle,
    };
    const result = await this.#help<RecoveredBits>("recoverTask", task);
    if (result.errno === 0) return { recorder, result };
    throw new JournalError("ERR_JOURNAL_IO", `recover bitmap '${entry.name}': ${errnoName(result.errno)}`);
  }

  #referenceOf(recorder: Recorder): tasks.LayerReference {
    const reference = this.#memory.get(recorder)?.reference;
    if (reference === undefined) throw new Error("journal: a recorder has memory");
    return reference;
  }

  /** A bitmap that a resumable job has frozen, as it was. @returns why not, where the job cannot go on */
  async #resume(
    sidecar: Sidecar,
    entry: BitmapEntry,
    bitmap: KeptBitmap,
    { kind, rebooted }: Judgement,
  ): Promise<{ readonly back: RecoveredBitmap; readonly unsettled: number } | string> {
    const { name, granularity, recording } = bitmap;
    const bits = bitmap.layers.find(({ role }) => role === "bits");
    const heir = bitmap.layers.find(({ role }) => role === "successor");
    const { length } = this.#place.layer.table;
    if (bits === undefined || heir === undefined || bitmap.layers.length !== 2 || bits.length !== length)
      return "its backup could not go on: its record is not whole";
    const heirEntry = { ...entry, layers: entry.layers.filter(({ role }) => role === "successor") };
    const { recorder: successor, result } = await this.#load(sidecar, heirEntry, heir, {
      decided: false,
      lost: kind === "power-loss",
    });
    const recorder = this.#recorder(bits);
    const frozen = { recorder, reference: this.#referenceOf(recorder) };
    const job = await this.jobs.recover(sidecar, bitmap, rebooted, frozen, successor);
    if (typeof job === "string") {
      // Both layers are read again, and joined: their memory begins anew.
      for (const one of [recorder, successor]) this.#forgetMemory(one);
      return `its backup could not go on: ${job}`;
    }
    const story = `${storyOf(kind, result, this.#place.now())}; its backup '${job.entry.id}' waits for its target`;
    const back = {
      name,
      granularity,
      recording,
      inconsistent: undefined,
      recorder,
      story,
      frozen: { successor, job },
    };
    return { back, unsettled: result.regions };
  }

  /** Whether the group of a pending abdicate succeeded. One that cannot be asked has not: the bitmap is reclaimed. */
  async #decision({ pending }: KeptBitmap): Promise<{ readonly decided: boolean; readonly note: string }> {
    if (pending === null) return { decided: false, note: "" };
    const { group, sidecar: path } = pending;
    if (path === this.path) return { decided: this.#journal.directory.decisions.includes(group), note: "" };
    const answer = await this.#help<tasks.Answer<boolean>>("decidedTask", { path, group });
    if ("value" in answer) return { decided: answer.value, note: "" };
    return {
      decided: false,
      note: `its group's decision could not be read, so it was reclaimed (${answer.error.message})`,
    };
  }

  #recorder(kept: KeptLayer): Recorder {
    const { arenas } = this.#place.engine;
    const words = layerMemoryWords(kept.length, kept.granularity);
    const region = arenas.allocate(words * 4);
    const row: LayerRow = [kept.id, kept.offset, kept.length, kept.granularity, region.arena, region.byteOffset];
    const dropped = (): void => {
      const forgotten = !this.#memory.delete(recorder);
      const gone = this.#place.engine.noneAside(this.#place.layer).then(() => {
        new Int32Array(region.buffer, region.byteOffset, words).fill(0);
        arenas.free(region);
        if (forgotten) return; // its layer is another recorder's by now
        this.#leaving.add(kept);
        this.#collect();
      });
      this.#lettingGo.add(gone);
      void gone.finally(() => this.#lettingGo.delete(gone));
    };
    const recorder = Recorder.create(arenas, kept.length, kept.granularity, { row, dropped });
    const { buffer, byteOffset } = region;
    this.#memory.set(recorder, { kept, reference: { ...kept, buffer, byteOffset, words } });
    return recorder;
  }

  /** A recorder whose layer stays where it is. */
  #forgetMemory(recorder: Recorder): void {
    this.#memory.delete(recorder);
    recorder.drop();
  }

  /** Gives back the room of layers that no record names. */
  #collect(): void {
    const named = new Set([...this.#journal.bitmaps.values()].flatMap(allLayers));
    for (const layer of this.#leaving) {
      if (named.has(layer)) continue;
      this.#leaving.delete(layer);
      this.#journal.freeLayer(layer);
    }
  }

  /** A thread has ended: its locks are released, after what they stood for is whole again. */
  async #released(holder: number): Promise<void> {
    if (this.#closed) return;
    this.#marks.releaseOfDead(holder);
    const references = [...[...this.#memory.values()].map(({ reference }) => reference), ...this.jobs.references];
    const layers = references.filter((one) => holdsLock(one, holder));
    if (layers.length === 0) return;
    const task: tasks.ReleaseTask = { fd: this.#fd, tag: this.#journal.tag, layers, holder };
    const errno = await this.#help<Errno>("releaseTask", task).catch(() => EIO);
    if (errno !== 0) this.#marks.fail(errno);
  }

  #help<Result>(name: keyof typeof tasks, task: unknown): Promise<Result> {
    return this.#place.engine.helpWith<Result>(tasksModule, name, task);
  }
}

/** Those of the job that has it frozen included. */
function allLayers({ layers, job }: KeptBitmap): KeptLayer[] {
  return job === null ? layers : [...layers, job.set, job.copied, job.flushed];
}

/** Whether a thread holds the lock of a block. */
function holdsLock({ buffer, byteOffset, words }: tasks.LayerReference, holder: number): boolean {
  const all = new Int32Array(buffer, byteOffset, words);
  for (let lock = firstLock(words); lock < words; lock++) if (Atomics.load(all, lock) === holder) return true;
  return false;
}

function storyOf(kind: StopKind, { damaged, regions }: RecoveredBits, at: number): string {
  if (kind === "clean") return "found as it was left";
  const stop = kind === "killed" ? "an unclean stop" : "a power loss";
  const extra = kind === "killed" ? "" : `, ${regions} regions not settled`;
  const torn = damaged === 0 ? "" : `, ${damaged} damaged blocks count as dirty`;
  return `recovered after ${stop} at ${new Date(at).toISOString()}${extra}${torn}`;
}

function storyOfLayers({ layers }: KeptBitmap, decided: boolean): string {
  if (!layers.some((layer) => layer.role === "successor")) return "";
  return decided ? "its group had succeeded: it abdicated" : "a backup was under way: it was reclaimed";
}

/** Regions can only change their size while none is marked. */
function withBound(opened: tasks.Opened, bound: number | undefined): tasks.Opened {
  const { sidecar } = opened;
  const { directory, marks } = sidecar;
  if (bound === undefined || bound === directory.bound || directory.inUse || marks?.length !== 0) return opened;
  return { ...opened, sidecar: { ...sidecar, directory: { ...directory, bound, regionBytes: regionBytesFor(bound) } } };
}

function regionBytesFor(bound: number): number {
  try {
    return regionsFor(bound).regionBytes;
  } catch (error) {
    throw new JournalError("ERR_JOURNAL_PLACE", `journal bound: ${(error as Error).message}`);
  }
}

function unwrap<Value>(answer: tasks.Answer<Value>): Value {
  if ("value" in answer) return answer.value;
  throw new JournalError(answer.error.code, answer.error.message);
}

/** The main thread writes nothing itself. */
const noStorage: Storage = {
  read: () => EAGAIN,
  write: () => EAGAIN,
  sync: () => EAGAIN,
};
