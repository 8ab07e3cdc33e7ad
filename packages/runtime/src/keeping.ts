/**
 * What of persistent bitmaps has to be durable, and when: before a command's transition, after it, and between the two
 * transitions of a success. The order is the journal's (`@heirloom/journal`, journal.ts): before a transition its record names the
 * layers of before and those of after, so that a crash at any instant finds a join that misses nothing.
 *
 * Commands that touch a disk with a journal are carried out one after the other, from what they prepare to what follows them.
 */
import { randomBytes } from "node:crypto";
import type { Recorder } from "@heirloom/engine";
import { DiskJournal, JournalError, type JournalOptions, type JournalPlace, type KeptBitmap } from "@heirloom/journal";
import type { BitmapState } from "./bitmap-memory.ts";
import type { Coordinator } from "./coordinator.ts";
import type { DiskState } from "./disk-state.ts";
import { HeirloomError, refusal, RefusalError } from "./errors.ts";
import type { BitmapEvent } from "./machines/bitmap-types.ts";
import type { JobState } from "./job-state.ts";
import { keptJobOf, type Resumable } from "./resumable.ts";
import { defaultGranularity } from "./validation/bitmap-request.ts";

/** What a command is about to do to a bitmap. */
export interface Intent {
  readonly disk: DiskState;
  readonly name: string;
  /** `fresh`: its bits change places with an empty layer (clear, the source of a merge, resize). `fold`: it is added to. */
  readonly change: "add" | "fresh" | "freeze" | "remove" | "enable" | "disable" | "fold";
  /** Of one that is added, and asked to be persistent. */
  readonly granularity?: number | undefined;
  /** Of a freeze, by a job that goes on after a restart. */
  readonly resumable?: Resumable | undefined;
  /** Bytes, where the layer is for another length. */
  readonly length?: number;
}

/** Recorders made beforehand, in the order in which a bitmap will need them. */
export class Staged {
  readonly #recorders = new Map<string, Recorder[]>();

  put(disk: string, name: string, recorder: Recorder): void {
    const key = `${disk}\0${name}`;
    const list = this.#recorders.get(key);
    if (list === undefined) this.#recorders.set(key, [recorder]);
    else list.push(recorder);
  }
  take(disk: string, name: string): Recorder | undefined {
    return this.#recorders.get(`${disk}\0${name}`)?.shift();
  }
  /** Taken by a draft that was given up. */
  putBack(disk: string, name: string, recorder: Recorder): void {
    this.#recorders.get(`${disk}\0${name}`)?.unshift(recorder);
  }
  /** Nobody needed them. */
  dropRest(): void {
    for (const list of this.#recorders.values()) for (const recorder of list.splice(0)) recorder.drop();
  }
}

/** Events by which a bitmap says whether it would let the change happen. */
const asks: Readonly<Partial<Record<Intent["change"], BitmapEvent>>> = {
  remove: { type: "removing" },
  disable: { type: "disable" },
};

export class Keeping {
  readonly #coordinator: Coordinator;
  readonly #queues = new Map<DiskState, Promise<void>>();

  constructor(coordinator: Coordinator) {
    this.#coordinator = coordinator;
  }

  /**
   * Carries a command out between what has to be durable before it and after it. One that touches nothing persistent runs at once.
   * @throws RefusalError ERR_BITMAP_NOT_STORABLE, HeirloomError ERR_JOURNAL, and what the command throws
   */
  async during<Value>(
    operation: string,
    intents: readonly Intent[],
    command: (staged: Staged) => Promise<Value>,
  ): Promise<Value> {
    const kept = intents.filter((intent) => isKept(intent));
    const staged = new Staged();
    if (kept.length === 0) return command(staged);
    const unlock = await this.#lock(new Set(kept.map((intent) => intent.disk)));
    try {
      await this.#prepare(operation, kept, staged);
      return await this.#followed(operation, kept, staged, command);
    } finally {
      unlock();
    }
  }

  async #followed<Value>(
    operation: string,
    kept: readonly Intent[],
    staged: Staged,
    command: (staged: Staged) => Promise<Value>,
  ): Promise<Value> {
    let value: Value;
    try {
      value = await command(staged);
    } catch (error) {
      staged.dropRest();
      dropRecords(kept);
      await this.#follow(kept, false).catch(() => {}); // the journal has failed then, and has said so
      throw error;
    }
    staged.dropRest();
    try {
      await this.#follow(kept, true);
    } catch (error) {
      throw asHeirloomError(error, operation);
    }
    return value;
  }

  /** Layers are made, and the records name them beside the old ones. */
  async #prepare(operation: string, kept: readonly Intent[], staged: Staged): Promise<void> {
    try {
      const makes = kept.filter(({ change }) => change === "add" || change === "fresh" || change === "freeze");
      const made: { readonly intent: Intent; readonly recorder: Recorder }[] = [];
      for (const intent of makes) {
        const { disk, name } = intent;
        disk.journal = await this.#journalFor(intent);
        const bits = disk.bitmaps.get(name)?.memory.bits.bitmap;
        const length = intent.length ?? disk.layer.table.length;
        const granularity = bits?.granularity ?? intent.granularity ?? defaultGranularity(disk.node.clusterSize);
        const recorder = await disk.journal.newRecorder(length, granularity);
        staged.put(disk.name, name, recorder);
        made.push({ intent, recorder });
        const { resumable } = intent;
        if (resumable !== undefined)
          resumable.records = await disk.journal.jobs.create(length, granularity, resumable.clusterSize);
      }
      for (const disk of new Set(kept.map((intent) => intent.disk))) {
        const own = kept.filter((intent) => intent.disk === disk);
        if (isOver(disk, own)) continue;
        if (own.every(({ change }) => change === "fold" || change === "enable" || change === "add")) continue;
        await disk.journal?.update((journal) => {
          for (const intent of own)
            announce(intent, made.find((one) => one.intent === intent)?.recorder, journal.bitmaps);
        });
      }
    } catch (error) {
      staged.dropRest();
      dropRecords(kept);
      throw asHeirloomError(
        error,
        operation,
        kept.find(({ change }) => change === "add"),
      );
    }
  }

  /** The records say what memory says. */
  async #follow(kept: readonly Intent[], done: boolean): Promise<void> {
    for (const disk of new Set(kept.map((intent) => intent.disk))) {
      const { journal } = disk;
      if (journal === undefined) continue;
      const own = kept.filter((intent) => intent.disk === disk);
      if (isOver(disk, own)) continue;
      if (journal.failed !== undefined) throw journal.failed;
      // What was written before it began to record, or while its regions counted, must not fall back by a power loss: nothing
      // would say so from here on.
      // Nor what a job that is to survive every power loss is to copy.
      const counts = own.some(({ change, resumable }) =>
        change === "freeze" ? resumable?.settings.syncSpill === true : change !== "fold" && change !== "remove",
      );
      if (done && counts) await journal.syncImage();
      // A job is in the record once what it copies is: until then a crash reclaims, and nobody was told of it.
      for (const { resumable, name } of own) {
        const frozen = disk.bitmaps.get(name)?.memory.bits;
        if (done && resumable?.records !== undefined && frozen !== undefined)
          await journal.jobs.storeSet(resumable.records, frozen);
      }
      await journal.update(() => {
        for (const { name } of own) this.say(disk, name);
      });
    }
  }

  /** Within an update: a bitmap's record becomes what it is. */
  say(disk: DiskState, name: string): void {
    const { journal } = disk;
    if (journal === undefined) return;
    const bitmap = disk.bitmaps.get(name);
    if (bitmap === undefined || !bitmap.actor.context.persistent) {
      journal.forget(name);
      return;
    }
    const { context } = bitmap.actor;
    const { bits, successor } = bitmap.memory;
    const layers = journal.layersOf([
      ...(journal.keeps(bits) ? [[bits, "bits"] as const] : []),
      ...(successor !== undefined && journal.keeps(successor) ? [[successor, "successor"] as const] : []),
    ]);
    journal.describe({
      name,
      granularity: bits.bitmap.granularity,
      recording: context.recording,
      unsettled: context.recording,
      inconsistent: context.broken,
      layers,
      pending: null,
      job: successor === undefined ? null : keptJobOf(this.#jobOf(bitmap)),
    });
  }

  /** The job that has a bitmap frozen. */
  #jobOf({ actor }: BitmapState): JobState | undefined {
    const { user } = actor.context;
    return user?.kind === "job" ? this.#coordinator.world.jobs.get(user.id) : undefined;
  }

  /**
   * Before the view of a resumable job is given up: from here on a restart reclaims its bitmap. Guests may overwrite what is stored
   * nowhere only after this.
   */
  async notResumed(jobs: readonly JobState[]): Promise<void> {
    for (const { disk, bitmap, resumable } of jobs) {
      if (resumable === undefined || bitmap === undefined) continue;
      await disk.journal
        ?.update((journal) => {
          const entry = journal.bitmaps.get(bitmap.name);
          if (entry !== undefined) entry.job = null;
        })
        .catch(() => {}); // the journal has failed, and its bitmaps say nothing any more
    }
  }

  /** After a job's folds: the record of what it was reclaimed to. A failure is the journal's own. */
  async settled(bitmaps: readonly BitmapState[]): Promise<void> {
    for (const [disk, names] of this.#byDisk(bitmaps)) {
      await disk.journal
        ?.update(() => {
          for (const { name } of names) this.say(disk, name);
        })
        .catch(() => {});
    }
  }

  /**
   * Between the two transitions of a success: each bitmap is its successor from now on, for all or for none. The decision of a group
   * stands once, in the first one's sidecar; the others point to it until they have said so themselves.
   */
  async abdicated(bitmaps: readonly BitmapState[]): Promise<void> {
    const [first, ...others] = this.#byDisk(bitmaps);
    if (first === undefined) return;
    const [firstDisk, firstBitmaps] = first;
    const group = randomBytes(16).toString("hex");
    const sidecar = firstDisk.journal?.path ?? "";
    // What fails makes its own bitmaps inconsistent; the success of the others stands.
    for (const [disk, members] of others) {
      await disk.journal
        ?.update((journal) => {
          for (const { name } of members) {
            const entry = journal.bitmaps.get(name);
            if (entry !== undefined) entry.pending = { group, sidecar };
          }
        })
        .catch(() => {});
    }
    await firstDisk.journal
      ?.update((journal) => {
        for (const bitmap of firstBitmaps) inherit(firstDisk, bitmap);
        if (others.length > 0) journal.decide(group);
      })
      .catch(() => {});
    for (const [disk, members] of others) {
      await disk.journal
        ?.update(() => {
          for (const bitmap of members) inherit(disk, bitmap);
        })
        .catch(() => {});
    }
    const allSaid = others.every(([disk]) => disk.journal?.failed === undefined);
    if (others.length > 0 && allSaid)
      await firstDisk.journal?.update((journal) => journal.forget(group)).catch(() => {});
  }

  /** Runs with no command at work on these disks. */
  async alone<Value>(disks: ReadonlySet<DiskState>, work: () => Promise<Value>): Promise<Value> {
    const unlock = await this.#lock(disks);
    try {
      return await work();
    } finally {
      unlock();
    }
  }

  async #journalFor({ disk, change }: Intent): Promise<DiskJournal> {
    const { journal } = disk;
    if (journal !== undefined && (journal.failed === undefined || change !== "add")) return journal;
    if (disk.image === undefined) throw new JournalError("ERR_JOURNAL_PLACE", "it has no image file");
    if (journal === undefined) return DiskJournal.create(this.place(disk, disk.image));
    await journal.close();
    const next = await DiskJournal.create(this.place(disk, disk.image), true);
    disk.journal = next;
    // Those that were lost with the old one stay inconsistent, also for the next start.
    await next.update(() => {
      for (const { name, actor } of disk.bitmaps.values()) if (actor.context.persistent) this.say(disk, name);
    });
    return next;
  }

  place(disk: DiskState, image: DiskImage): JournalPlace {
    return {
      engine: this.#coordinator.engine,
      layer: disk.layer,
      node: disk.node,
      filename: image.filename,
      options: image.journal,
      now: this.#coordinator.now,
      onFailure: this.onFailure(disk),
    };
  }

  onFailure(disk: DiskState): (error: JournalError) => void {
    return (error) => this.#coordinator.journalFailed(disk, error);
  }

  #byDisk(bitmaps: readonly BitmapState[]): [DiskState, BitmapState[]][] {
    const found = new Map<DiskState, BitmapState[]>();
    for (const bitmap of bitmaps) {
      const disk = this.#coordinator.world.disks.get(bitmap.disk);
      if (disk?.journal === undefined || !bitmap.actor.context.persistent) continue;
      const list = found.get(disk);
      if (list === undefined) found.set(disk, [bitmap]);
      else list.push(bitmap);
    }
    return [...found];
  }

  /** In the order of their names, so that two never wait for each other. */
  async #lock(disks: ReadonlySet<DiskState>): Promise<() => void> {
    const releases: (() => void)[] = [];
    for (const disk of [...disks].sort((one, other) => (one.name < other.name ? -1 : 1))) {
      const before = this.#queues.get(disk);
      let release = (): void => {};
      const held = new Promise<void>((resolve) => (release = resolve));
      this.#queues.set(disk, before === undefined ? held : before.then(() => held));
      await before;
      releases.push(release);
    }
    return () => {
      for (const release of releases) release();
    };
  }
}

/** The image of a disk that can have a journal. */
export interface DiskImage {
  readonly filename: string;
  readonly journal: JournalOptions;
}

function isKept({ disk, name, change, granularity }: Intent): boolean {
  if (change === "add") return granularity !== undefined;
  const bitmap = disk.bitmaps.get(name);
  return (
    bitmap !== undefined &&
    bitmap.actor.context.persistent &&
    (bitmap.actor.context.broken === null || change === "remove")
  );
}

/** The command was given up: no job has them. */
function dropRecords(intents: readonly Intent[]): void {
  for (const { disk, resumable } of intents) {
    if (resumable?.records === undefined) continue;
    disk.journal?.jobs.drop(resumable.records);
    resumable.records = undefined;
  }
}

/** A journal that has failed says nothing any more: what is only removed needs no record. */
function isOver({ journal }: DiskState, intents: readonly Intent[]): boolean {
  return journal?.failed !== undefined && intents.every(({ change }) => change === "remove");
}

/** Within an update, before the transition. */
function announce(
  { disk, name, change }: Intent,
  recorder: Recorder | undefined,
  entries: Map<string, KeptBitmap>,
): void {
  const entry = entries.get(name);
  const bitmap = disk.bitmaps.get(name);
  if (entry === undefined || bitmap === undefined || disk.journal === undefined) return;
  const asked = asks[change];
  if (asked !== undefined && !bitmap.actor.can(asked)) return; // it will be refused
  if (change === "remove") entries.delete(name);
  if (change === "disable") entry.recording = false;
  if (recorder !== undefined)
    entry.layers = [
      ...entry.layers,
      ...disk.journal.layersOf([[recorder, change === "freeze" ? "successor" : "bits"]]),
    ];
}

/** Within an update: the successor is the bitmap. */
function inherit({ journal }: DiskState, { name, memory }: BitmapState): void {
  const entry = journal?.bitmap(name);
  if (journal === undefined || entry === undefined || memory.successor === undefined) return;
  entry.layers = journal.layersOf([[memory.successor, "bits"]]);
  entry.pending = null;
  entry.job = null;
}

function asHeirloomError(error: unknown, operation: string, added?: Intent): unknown {
  if (!(error instanceof JournalError)) return error;
  if (added !== undefined) {
    const { disk, name } = added;
    const desc = `Can't make bitmap '${name}' persistent in '${disk.name}': ${error.message}`;
    return new RefusalError(
      operation,
      refusal("ERR_BITMAP_NOT_STORABLE", desc, { node: disk.name, bitmap: name, reason: error.code }),
      { cause: error },
    );
  }
  return new HeirloomError(error.code, operation, error.message, { cause: error });
}
