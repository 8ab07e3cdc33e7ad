/**
 * One command of the coordinator, planned: events of several actors, what their effects mean for memory and for the
 * recorder tables, and what is left to do with the gates open. Nothing is true before `commit`; a draft that is thrown
 * away has changed nothing but memory of its own, which `abandon` gives back.
 */
import type { EngineView, Layer, LayerTable, Recorder } from "@heirloom/engine";
import type { BitmapMemory, BitmapState } from "./bitmap-memory.ts";
import { nextOrder, recorderOf } from "./bitmap-memory.ts";
import type { DiskState } from "./disk-state.ts";
import type { Staged } from "./keeping.ts";
import { invariant, RefusalError } from "./errors.ts";
import type {
  BitmapContext,
  BitmapEffect,
  BitmapEvent,
  BitmapReference,
  CommandId,
  FoldSource,
} from "./machines/bitmap-types.ts";
import type { Plan } from "./machines/machine-actor.ts";

type BitmapPlan = Plan<BitmapContext, BitmapEvent, BitmapEffect>;

/**
 * Bits to join after the instant, in the order of the draft: a later one may read what an earlier one joins. `uncopied` is
 * the coordinator's to carry out: it knows the view.
 */
export interface DraftFold {
  /** The layer that the bitmap had when the fold was planned; it may have been set aside since. */
  readonly into: Recorder;
  readonly from: Recorder | "uncopied";
  /** Given up when the fold is over. */
  readonly dropFrom: boolean;
  /** Is told `folded`; undefined once its bits were swapped or dropped (another fold may still read them). */
  bitmap: BitmapState | undefined;
}

interface Drafted {
  readonly plans: BitmapPlan[];
  memory: BitmapMemory;
  /** The bits as they were at the instant, where a merge reads them. */
  oldLayer: Recorder | undefined;
}

interface LayerDraft {
  readonly viewsAdded: EngineView[];
  readonly viewsRemoved: Set<EngineView>;
  length: number | undefined;
}

export class Draft {
  readonly command: CommandId;
  readonly #operation: string;
  readonly #disks: ReadonlyMap<string, DiskState>;
  readonly #makeRecorder: (length: number, granularity: number) => Recorder;
  readonly #drafted = new Map<BitmapState, Drafted>();
  readonly #added = new Map<DiskState, BitmapState[]>();
  readonly #removed = new Set<BitmapState>();
  readonly #removing: BitmapState[] = [];
  readonly #layers = new Map<DiskState, LayerDraft>();
  readonly #created: Recorder[] = [];
  /** Layers of persistent bitmaps, made before. */
  readonly #staged: Staged | undefined;
  readonly #taken: { readonly disk: string; readonly name: string; readonly recorder: Recorder }[] = [];
  readonly #dropped: Recorder[] = [];
  readonly #folds: DraftFold[] = [];

  constructor(
    command: CommandId,
    operation: string,
    disks: ReadonlyMap<string, DiskState>,
    makeRecorder: (length: number, granularity: number) => Recorder,
    staged?: Staged,
  ) {
    this.#staged = staged;
    this.command = command;
    this.#operation = operation;
    this.#disks = disks;
    this.#makeRecorder = makeRecorder;
  }

  get folds(): readonly DraftFold[] {
    return this.#folds;
  }

  /** A bitmap as this draft has it: one that it added included, one that it removed not. */
  bitmap(disk: DiskState, name: string): BitmapState | undefined {
    const added = this.#added.get(disk)?.find((bitmap) => bitmap.name === name);
    return added ?? disk.bitmaps.get(name);
  }

  snapshotOf(bitmap: BitmapState): { readonly state: string; readonly context: BitmapContext } {
    return this.#drafted.get(bitmap)?.plans.at(-1)?.next ?? bitmap.actor.snapshot;
  }

  memoryOf(bitmap: BitmapState): BitmapMemory {
    return this.#drafted.get(bitmap)?.memory ?? bitmap.memory;
  }

  recorder(length: number, granularity: number): Recorder {
    const recorder = this.#makeRecorder(length, granularity);
    this.#created.push(recorder);
    return recorder;
  }

  /** The layer that was made for a persistent bitmap. */
  stagedRecorder(disk: string, name: string): Recorder {
    const recorder = this.#staged?.take(disk, name);
    invariant(recorder !== undefined, "a layer of a persistent bitmap is made before its command");
    this.#taken.push({ disk, name, recorder });
    return recorder;
  }

  add(disk: DiskState, bitmap: BitmapState): void {
    const added = this.#added.get(disk);
    if (added === undefined) this.#added.set(disk, [bitmap]);
    else added.push(bitmap);
    this.#layer(disk);
  }

  /** A bitmap is another disk's from now on, under the same name: its bits, and what it says, as they are. */
  move(bitmap: BitmapState, from: DiskState, to: DiskState, moved: BitmapState): void {
    this.#removed.add(bitmap);
    this.#layer(from);
    this.add(to, moved);
  }

  addView(disk: DiskState, view: EngineView): void {
    this.#layer(disk).viewsAdded.push(view);
  }
  removeView(disk: DiskState, view: EngineView): void {
    this.#layer(disk).viewsRemoved.add(view);
  }
  /** Bytes that the disk's table covers from the instant on; its bitmaps are given layers of that length. */
  setLength(disk: DiskState, length: number): void {
    this.#layer(disk).length = length;
  }

  /** The disk is cut off, and was this long: see `cutFrom`. The bitmap's part in it is planned. */
  noteCut(bitmap: BitmapState, length: number): void {
    const drafted = this.#drafted.get(bitmap);
    invariant(drafted !== undefined, "the resize of a bitmap is planned before");
    drafted.memory = { ...drafted.memory, cutFrom: Math.max(drafted.memory.cutFrom, length) };
  }

  /** Plans an event on top of what is planned. @throws RefusalError, with nothing changed */
  plan(bitmap: BitmapState, event: BitmapEvent): void {
    const drafted = this.#drafted.get(bitmap);
    const plan = bitmap.actor.plan(event, drafted?.plans.at(-1));
    if (!plan.ok) throw new RefusalError(this.#operation, plan.refusal);
    const entry = drafted ?? { plans: [], memory: bitmap.memory, oldLayer: undefined };
    this.#drafted.set(bitmap, entry);
    entry.plans.push(plan);
    this.#layer(this.#diskOf(bitmap.disk));
    for (const effect of plan.effects) this.#apply(bitmap, entry, effect);
  }

  /** Removed when the whole command is planned; until then its name is taken and it takes no other action. */
  remove(bitmap: BitmapState): void {
    this.plan(bitmap, { type: "removing", command: this.command });
    this.#removing.push(bitmap);
  }
  /** All actions are planned. */
  finishRemovals(): void {
    for (const bitmap of this.#removing.splice(0)) this.plan(bitmap, { type: "remove", command: this.command });
  }

  /** What the layers' parts of the table say after the commit. */
  tables(): Map<Layer, LayerTable> {
    const tables = new Map<Layer, LayerTable>();
    for (const [disk, draft] of this.#layers) {
      const { layer } = disk;
      const bitmaps = [...disk.bitmaps.values(), ...(this.#added.get(disk) ?? [])].filter(
        (one) => !this.#removed.has(one),
      );
      const recorders = bitmaps.map((one) => recorderOf(this.memoryOf(one))).filter((one) => one !== undefined);
      const removed = new Set([...draft.viewsRemoved].map((view) => view.memory));
      const views = layer.table.views.filter((view) => !removed.has(view));
      tables.set(layer, {
        length: draft.length ?? layer.table.length,
        recorders,
        views: [...views, ...draft.viewsAdded.map((view) => view.memory)],
      });
    }
    return tables;
  }

  /** The transition is done: makes all of it true. */
  commit(): void {
    for (const [disk, bitmaps] of this.#added) for (const bitmap of bitmaps) disk.bitmaps.set(bitmap.name, bitmap);
    for (const [bitmap, { plans, memory }] of this.#drafted) {
      bitmap.memory = memory;
      for (const plan of plans) bitmap.actor.commit(plan);
    }
    for (const bitmap of this.#removed) {
      const { bitmaps } = this.#diskOf(bitmap.disk);
      if (bitmaps.get(bitmap.name) === bitmap) bitmaps.delete(bitmap.name); // one that was moved here may have its name
    }
    for (const fold of this.#folds) {
      fold.into.hold();
      if (fold.from !== "uncopied") fold.from.hold();
    }
    for (const recorder of this.#dropped) recorder.drop();
  }

  /** The transition was refused or given up. May be called again. */
  abandon(): void {
    for (const recorder of this.#created.splice(0)) recorder.drop();
    for (const { disk, name, recorder } of this.#taken.splice(0).reverse()) this.#staged?.putBack(disk, name, recorder);
  }

  #apply(bitmap: BitmapState, entry: Drafted, effect: BitmapEffect): void {
    const { memory } = entry;
    switch (effect.type) {
      case "record":
        entry.memory = { ...memory, records: effect.recording };
        return;
      case "swap-empty":
        this.#voidFolds(bitmap);
        this.#dropped.push(memory.bits);
        entry.memory = { ...memory, bits: this.#like(bitmap, memory.bits), cutFrom: 0 };
        return;
      case "fresh-layer":
        entry.oldLayer = memory.bits;
        this.#dropped.push(memory.bits);
        entry.memory = { ...memory, bits: this.#like(bitmap, memory.bits) };
        return;
      case "freeze":
        entry.memory = {
          ...memory,
          successor: this.#like(bitmap, memory.bits),
          successorOrder: nextOrder(),
          records: effect.successorRecording,
        };
        return;
      case "abdicate":
        invariant(memory.successor !== undefined, "only a frozen bitmap abdicates");
        this.#dropped.push(memory.bits);
        entry.memory = {
          ...memory,
          bits: memory.successor,
          order: memory.successorOrder,
          successor: undefined,
          cutFrom: 0,
        };
        return;
      case "reclaim":
        invariant(memory.successor !== undefined, "only a frozen bitmap is reclaimed");
        this.#folds.push({ bitmap, into: memory.bits, from: memory.successor, dropFrom: true });
        entry.memory = { ...memory, successor: undefined, records: effect.recording };
        return;
      case "fold":
        this.#fold(bitmap, entry, effect.from);
        return;
      case "drop":
        this.#dropped.push(memory.bits);
        if (memory.successor !== undefined) this.#dropped.push(memory.successor);
        this.#voidFolds(bitmap);
        this.#removed.add(bitmap);
        return;
      case "discard-bits":
        this.#dropped.push(memory.bits);
        if (memory.successor !== undefined) this.#dropped.push(memory.successor);
        entry.memory = { ...memory, bits: this.#plain(bitmap, memory.bits), successor: undefined, records: false };
        return;
      case "hold":
      case "unhold":
      case "flags":
      case "skip-store":
        return; // of the actor's context alone: nothing in memory follows
    }
  }

  #voidFolds(bitmap: BitmapState): void {
    for (const fold of this.#folds) if (fold.bitmap === bitmap) fold.bitmap = undefined;
  }

  #fold(bitmap: BitmapState, entry: Drafted, from: FoldSource): void {
    if (from.kind === "successor") return; // the reclaim before it has said so
    if (from.kind === "uncopied") {
      this.#folds.push({ bitmap, into: entry.memory.bits, from: "uncopied", dropFrom: false });
      return;
    }
    // What a merged bitmap does not say because it was cut off, its target does not say either.
    if (from.kind !== "old-layer") {
      const cutFrom = this.#cutFromOf(from);
      entry.memory = { ...entry.memory, cutFrom: Math.max(entry.memory.cutFrom, cutFrom) };
    }
    const source = from.kind === "old-layer" ? entry.oldLayer : this.#oldLayerOf(from);
    invariant(source !== undefined, "bits that are folded stand still in an old layer");
    this.#folds.push({ bitmap, into: entry.memory.bits, from: source, dropFrom: false });
  }

  #cutFromOf(reference: BitmapReference): number {
    const bitmap = this.bitmap(this.#diskOf(reference.node), reference.name);
    return bitmap === undefined ? 0 : this.memoryOf(bitmap).cutFrom;
  }

  #oldLayerOf(reference: BitmapReference): Recorder | undefined {
    const bitmap = this.bitmap(this.#diskOf(reference.node), reference.name);
    return bitmap === undefined ? undefined : this.#drafted.get(bitmap)?.oldLayer;
  }

  #like(bitmap: BitmapState, bits: Recorder): Recorder {
    const { persistent, broken } = this.snapshotOf(bitmap).context;
    if (persistent && broken === null) return this.stagedRecorder(bitmap.disk, bitmap.name);
    return this.#plain(bitmap, bits);
  }

  #plain(bitmap: BitmapState, bits: Recorder): Recorder {
    const length = this.#layers.get(this.#diskOf(bitmap.disk))?.length ?? bits.bitmap.length;
    return this.recorder(length, bits.bitmap.granularity);
  }

  #diskOf(name: string): DiskState {
    const disk = this.#disks.get(name);
    invariant(disk !== undefined, "a bitmap is on an attached disk");
    return disk;
  }

  #layer(disk: DiskState): LayerDraft {
    let draft = this.#layers.get(disk);
    if (draft === undefined) {
      draft = { viewsAdded: [], viewsRemoved: new Set(), length: undefined };
      this.#layers.set(disk, draft);
    }
    return draft;
  }
}
