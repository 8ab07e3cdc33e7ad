/**
 * The coordinator: one mailbox for every command that changes state. A command is one draft, carried out in one transition
 * of the engine; a transaction is a command of several actions. Nothing is awaited between deciding and committing.
 */
import { type Engine, NoThread, type Recorder, TransitionTimeout } from "@heirloom/engine";
import type { JournalError } from "@heirloom/journal";
import { type BitmapState, nextOrder } from "./bitmap-memory.ts";
import { BrokenViews } from "./broken-views.ts";
import type { DiskExport } from "./disk-export.ts";
import type { DiskState, GivenDisk } from "./disk-state.ts";
import { Draft, type DraftFold } from "./draft.ts";
import { type Intent, Keeping, type Staged } from "./keeping.ts";
import { HeirloomError, invariant, type Refusal, refusal, RefusalError, unwrap } from "./errors.ts";
import type { EventStream } from "./event-stream.ts";
import { JobControl } from "./job-control.ts";
import type { JobState } from "./job-state.ts";
import { bitmapMachine } from "./machines/bitmap-machine.ts";
import type { DiskUser } from "./machines/disk-machine.ts";
import type { BitmapReference } from "./machines/bitmap-types.ts";
import { type Inspection, MachineActor } from "./machines/machine-actor.ts";
import { refuseAction, type TransactionActionKind } from "./machines/transaction-action.ts";
import {
  type TransactionContext,
  type TransactionEffect,
  type TransactionEvent,
  type TransactionInput,
  transactionMachine,
} from "./machines/transaction-machine.ts";
import { checkBitmapAdd, checkMerge, defaultGranularity, findBitmap } from "./validation/bitmap-request.ts";
import { factsOf, type World } from "./world.ts";
import type { FreezeObservation } from "./options.ts";
import type { PreparedBackup } from "./prepared-backup.ts";
import { Snapshots } from "./snapshots.ts";
import type { Resumable } from "./resumable.ts";
import { takeOverWhatIsFree } from "./taking-over.ts";
import type { View } from "./view.ts";

/** An action with its disks looked up and its targets open. */
export type Action =
  | { readonly kind: "abort"; readonly because: Error | undefined }
  | {
      readonly kind: "add";
      readonly disk: string;
      readonly name: string;
      readonly granularity: number | undefined;
      readonly disabled: boolean;
      readonly persistent: boolean;
    }
  | { readonly kind: "remove" | "clear" | "enable" | "disable"; readonly disk: string; readonly name: string }
  | {
      readonly kind: "merge";
      readonly disk: string;
      readonly target: string;
      readonly sources: readonly BitmapReference[];
    }
  | { readonly kind: "backup"; readonly backup: PreparedBackup };

const qmpKind: Readonly<Record<Action["kind"], TransactionActionKind>> = {
  abort: "abort",
  add: "block-dirty-bitmap-add",
  remove: "block-dirty-bitmap-remove",
  clear: "block-dirty-bitmap-clear",
  enable: "block-dirty-bitmap-enable",
  disable: "block-dirty-bitmap-disable",
  merge: "block-dirty-bitmap-merge",
  backup: "blockdev-backup",
};

/** Words for messages: what a person asked for. */
const operationName: Readonly<Record<Action["kind"], string>> = {
  abort: "transaction",
  add: "bitmap add",
  remove: "bitmap remove",
  clear: "bitmap clear",
  enable: "bitmap enable",
  disable: "bitmap disable",
  merge: "bitmap merge",
  backup: "backup",
};

function nameOfAll(actions: readonly Action[]): string {
  return actions.length === 1 ? operationName[actions[0].kind] : "transaction";
}

/** What must hold until the instant at which the actions are carried out. */
export interface TransactionConditions {
  /** Disks that were given as objects: each is meant, and no other that has its name by then. */
  readonly given: readonly DiskState[];
  /** None is aborted. */
  readonly signals?: readonly AbortSignal[];
}

type TransactionActor = MachineActor<TransactionInput, TransactionContext, TransactionEvent, TransactionEffect>;

const transactionsKept = 32;

export class Coordinator {
  readonly engine: Engine;
  readonly world: World;
  readonly jobs: JobControl;
  readonly keeping: Keeping;
  readonly snapshots: Snapshots = new Snapshots();
  readonly brokenViews: BrokenViews;
  readonly #events: EventStream;
  /** Points in time that users read. */
  readonly views: Map<string, View> = new Map();
  /** Exports of all servers, by id. */
  readonly exports: Map<string, DiskExport> = new Map();
  readonly now: () => number;
  /** A freeze is refused after trying for so long. */
  readonly freezeDeadlineMs: number;
  readonly #observeFreeze: ((freeze: FreezeObservation) => void) | undefined;
  #commands = 0;
  /** The last transactions, for inspection: those under way as actors, those that have ended as what inspection says of them. */
  readonly #transactions: (TransactionActor | Inspection<unknown>)[] = [];

  constructor(
    engine: Engine,
    events: EventStream,
    options: {
      now: () => number;
      freezeDeadlineMs: number;
      targetsAreNoSources: boolean;
      observeFreeze?: (freeze: FreezeObservation) => void;
    },
  ) {
    this.engine = engine;
    this.world = {
      disks: new Map(),
      jobs: new Map(),
      starting: new Map(),
      groups: new Map(),
      lettingGo: new Map(),
      targetsAreNoSources: options.targetsAreNoSources,
    };
    this.now = options.now;
    this.freezeDeadlineMs = options.freezeDeadlineMs;
    this.#observeFreeze = options.observeFreeze;
    this.#events = events;
    this.keeping = new Keeping(this);
    this.jobs = new JobControl(this, events);
    this.brokenViews = new BrokenViews(this, events);
  }

  inspectTransactions(): readonly Inspection<unknown>[] {
    return this.#transactions.map((kept) => (kept instanceof MachineActor ? kept.inspect() : kept));
  }

  /** An event for whoever follows the runtime. */
  tell(name: string, data: Readonly<Record<string, unknown>>): void {
    this.#events.emit({ at: this.now(), name, data });
  }

  /** A number for a new command; events of one command carry it. */
  nextCommand(): number {
    return ++this.#commands;
  }

  draft(command: number, operation: string, staged?: Staged): Draft {
    const make = (length: number, granularity: number): Recorder => this.engine.recorder(length, granularity);
    return new Draft(command, operation, this.world.disks, make, staged);
  }

  /**
   * Carries actions out, all or none. @returns the jobs that it started
   * @param conditions besides what the actions say
   * @throws RefusalError; then nothing has changed
   */
  async transaction(
    actions: readonly Action[],
    completionMode: "individual" | "grouped",
    conditions: TransactionConditions,
  ): Promise<JobState[]> {
    const operation = nameOfAll(actions);
    this.#checkConditions(conditions, operation);
    return this.keeping.during(operation, this.#intents(actions), (staged) =>
      this.#transaction(actions, completionMode, conditions, staged),
    );
  }

  #checkConditions({ given, signals = [] }: TransactionConditions, operation: string): void {
    for (const signal of signals) signal.throwIfAborted();
    for (const disk of given) this.refuseClosing(disk, true, operation);
  }

  async #transaction(
    actions: readonly Action[],
    completionMode: "individual" | "grouped",
    conditions: TransactionConditions,
    staged: Staged,
  ): Promise<JobState[]> {
    const command = this.nextCommand();
    const tx = new MachineActor(
      `transaction-${command}`,
      transactionMachine,
      { id: command, actions: actions.map((action) => qmpKind[action.kind]), completionMode },
      { now: this.now },
    );
    this.#transactions.push(tx);
    if (this.#transactions.length > transactionsKept) this.#transactions.shift();
    const disks = new Set(actions.flatMap((action) => this.#disksOf(action)));
    const stacks = [...new Set([...disks].map((disk) => disk.layer.stack))];
    const group = completionMode === "grouped" ? `group-${command}` : null;
    const freezes = actions.some((action) => action.kind === "backup");
    let started: JobState[] = [];
    let folded: Promise<void> | undefined;
    try {
      await this.engine.transitions.run({
        name: freezes ? "freeze" : nameOfAll(actions),
        stacks,
        deadlineMs: this.freezeDeadlineMs,
        prepare: () => {
          const prepared = this.#prepare(command, actions, disks, group, conditions, staged, (done) => {
            if (done === undefined) tx.send({ type: "prepared" });
            else tx.send({ type: "refused", refusal: done });
          });
          return {
            tables: prepared.draft.tables(),
            observe: this.observer({
              jobs: prepared.jobs.map((job) => ({ job: job.id, disk: job.disk.name })),
              views: [],
            }),
            committed: ({ closedMs }) => {
              tx.send({ type: "carriedOut" });
              prepared.draft.commit();
              started = prepared.jobs;
              folded = this.runFolds(prepared.draft.folds);
              this.jobs.begin(prepared.jobs, closedMs, group, folded);
            },
            abandoned: () => {
              prepared.draft.abandon();
              for (const job of prepared.jobs) this.jobs.discard(job);
            },
          };
        },
      });
    } catch (error) {
      throw this.asRefusal(error, nameOfAll(actions));
    } finally {
      const kept = this.#transactions.indexOf(tx);
      if (kept !== -1) this.#transactions[kept] = tx.inspect();
    }
    await folded; // whoever asked finds the bitmaps free
    return started;
  }

  /** Somebody has let go of a disk; a detach that waits for it goes on. */
  unuse(disk: DiskState, user: DiskUser): void {
    takeOverWhatIsFree(this, disk);
    for (const effect of disk.actor.send({ type: "unuse", user })) {
      if (effect.type === "close") this.#onClose.get(disk)?.();
    }
  }

  /** Detaches: at once if nobody uses the disk; else refused, or, forced, when all who are told to end have ended. */
  detach(disk: DiskState, force: boolean, end: (user: DiskUser) => void): Promise<void> {
    const plan = disk.actor.plan({ type: "detach", force });
    if (!plan.ok) return Promise.reject(new RefusalError("detach", plan.refusal));
    disk.actor.commit(plan);
    if (plan.effects.some((effect) => effect.type === "close")) return Promise.resolve();
    return new Promise((resolve) => {
      this.#onClose.set(disk, resolve);
      for (const effect of plan.effects) if (effect.type === "end") end(effect.user);
    });
  }
  readonly #onClose = new Map<DiskState, () => void>();

  /**
   * Folds that a draft left to do, in their order, then `folded` for each.
   * @param uncopied joins what a job did not copy into a bitmap's bits
   * @returns when the last one is over; undefined if that is now
   */
  runFolds(folds: readonly DraftFold[], uncopied?: (bitmap: BitmapState) => void): Promise<void> | undefined {
    let later: Promise<void> | undefined;
    for (const fold of folds) {
      const run = (): Promise<void> | undefined => this.#runFold(fold, uncopied);
      later = later === undefined ? run() : later.then(run);
    }
    return later;
  }

  #runFold(fold: DraftFold, uncopied: ((bitmap: BitmapState) => void) | undefined): Promise<void> | undefined {
    const { into, from, bitmap } = fold;
    const over = (): void => {
      if (from !== "uncopied") {
        if (fold.dropFrom) from.drop();
        from.letGo();
      }
      into.letGo();
      if (bitmap !== undefined && !bitmap.actor.done) bitmap.actor.send({ type: "folded" });
    };
    let later: Promise<void> | undefined;
    if (from !== "uncopied") {
      const journal = [...this.world.disks.values()].find((disk) => disk.journal?.keeps(into))?.journal;
      later = journal === undefined ? this.engine.fold(into.bitmap, from.bitmap) : journal.fold(into, from.bitmap); // block by block, through the journal
    } else if (bitmap !== undefined) {
      invariant(uncopied !== undefined, "only the end of a job joins what was not copied");
      uncopied(bitmap);
    }
    if (later !== undefined) return later.then(over);
    over();
    return undefined;
  }

  /** What the actions are about to do to persistent bitmaps; what is wrong with them is found when they are planned. */
  #intents(actions: readonly Action[]): Intent[] {
    const intents: Intent[] = [];
    const intend = (
      disk: string,
      name: string,
      change: Intent["change"],
      granularity?: number,
      resumable?: Resumable,
    ): void => {
      const state = this.world.disks.get(disk);
      if (state !== undefined) intents.push({ disk: state, name, change, granularity, resumable });
    };
    for (const action of actions) {
      switch (action.kind) {
        case "abort":
          break;
        case "add":
          if (action.persistent && this.#canAdd(action))
            intend(action.disk, action.name, "add", this.#granularity(action));
          break;
        case "clear":
          intend(action.disk, action.name, "fresh");
          break;
        case "merge":
          intend(action.disk, action.target, "fold");
          for (const source of action.sources)
            if (source.node !== action.disk || source.name !== action.target) intend(source.node, source.name, "fresh");
          break;
        case "backup": {
          const { source, bitmap } = action.backup.request;
          if (bitmap !== undefined) intend(source, bitmap, "freeze", undefined, action.backup.resumable);
          break;
        }
        default:
          intend(action.disk, action.name, action.kind);
      }
    }
    return intents;
  }

  /** Nothing is made for one that will be refused. */
  #canAdd(action: Extract<Action, { kind: "add" }>): boolean {
    const { disk: node, name, granularity, disabled, persistent } = action;
    const request = { node, name, disabled, persistent, ...(granularity === undefined ? {} : { granularity }) };
    return checkBitmapAdd(request, factsOf(this.world, this.draft(0, "bitmap add"), [], 0)).ok;
  }
  #granularity({ disk, granularity }: Extract<Action, { kind: "add" }>): number {
    return granularity ?? defaultGranularity(this.world.disks.get(disk)?.node.clusterSize ?? 0);
  }

  /** What a disk's journal kept cannot be kept any more. The guest goes on; its bitmaps say nothing from now on. */
  journalFailed(disk: DiskState, cause: JournalError): void {
    this.#breakKept(disk, cause).catch(() => {}); // it is being detached
  }

  async #breakKept(disk: DiskState, cause: JournalError): Promise<void> {
    const draft = this.draft(this.nextCommand(), "journal");
    const broken: string[] = [];
    await this.engine.transitions.run({
      name: "journal",
      stacks: [disk.layer.stack],
      prepare: () => {
        for (const bitmap of disk.bitmaps.values()) {
          if (!bitmap.actor.context.persistent || bitmap.actor.context.broken !== null) continue;
          draft.plan(bitmap, { type: "break", reason: cause.message });
          broken.push(bitmap.name);
        }
        return { tables: draft.tables(), committed: () => draft.commit() };
      },
    });
    const data = { disk: disk.name, error: cause.message, bitmaps: broken };
    this.#events.emit({ at: this.now(), name: "JOURNAL_FAILED", data });
  }

  #disksOf(action: Action): DiskState[] {
    switch (action.kind) {
      case "abort":
        return [];
      case "backup":
        return [this.disk(action.backup.request.source, "backup")];
      case "merge":
        // Who is not there is told when it is its turn among them.
        return [action.disk, ...action.sources.map((source) => source.node)].flatMap(
          (name) => this.world.disks.get(name) ?? [],
        );
      default:
        return [this.#lookUp(action.disk, action.kind === "add")];
    }
  }

  #lookUp(name: string, add: boolean): DiskState {
    const disk = this.world.disks.get(name);
    if (disk !== undefined) return disk;
    const desc = add ? `Cannot find device='${name}' nor node-name='${name}'` : `Node '${name}' not found`;
    throw new RefusalError("bitmap", refusal("ERR_NODE_NOT_FOUND", desc, { node: name }));
  }

  /** The one that was given, and no other of its name; or the one of this name. @throws RefusalError */
  diskOf(given: GivenDisk, operation: string): DiskState {
    if (typeof given === "string") return this.disk(given, operation);
    if (given.state === undefined) return this.disk(given.name, operation);
    this.refuseClosing(given.state, true, operation);
    return given.state;
  }

  disk(name: string, operation: string): DiskState {
    const disk = this.world.disks.get(name);
    if (disk !== undefined) return disk;
    throw new RefusalError(
      operation,
      refusal("ERR_NODE_NOT_FOUND", `Cannot find device='${name}' nor node-name='${name}'`, { node: name }),
    );
  }

  /** Plans all actions in order. On a refusal everything that was made for the earlier ones is given back. */
  #prepare(
    command: number,
    actions: readonly Action[],
    held: ReadonlySet<DiskState>,
    group: string | null,
    conditions: TransactionConditions,
    staged: Staged,
    tell: (refused: Refusal | undefined) => void,
  ): { draft: Draft; jobs: JobState[] } {
    const jobs: JobState[] = [];
    const draft = this.draft(command, nameOfAll(actions), staged);
    let index = 0;
    try {
      this.#checkConditions(conditions, nameOfAll(actions));
      for (const action of actions) {
        if (action.kind === "abort" && action.because !== undefined) throw action.because;
        const forbidden = refuseAction(qmpKind[action.kind], group === null ? "individual" : "grouped");
        if (forbidden !== undefined) throw new RefusalError("transaction", forbidden);
        for (const disk of this.#disksOf(action)) this.refuseClosing(disk, held.has(disk), operationName[action.kind]);
        this.#plan(draft, action, jobs, group);
        tell(undefined);
        index++;
      }
      draft.finishRemovals();
      if (!this.engine.pool.canStart(jobs.reduce((sum, job) => sum + job.movers.threads, 0))) {
        throw new HeirloomError(
          "ERR_NO_THREAD",
          "backup",
          "there are not enough threads left for the job; wait until another ends",
        );
      }
    } catch (error) {
      if (error instanceof HeirloomError) error.action = index;
      if (error instanceof RefusalError) tell(refusal(error.code, error.desc, error.fields));
      draft.abandon();
      for (const job of jobs) this.jobs.discard(job);
      throw error;
    }
    return { draft, jobs };
  }

  #plan(draft: Draft, action: Action, jobs: JobState[], group: string | null): void {
    const operation = operationName[action.kind];
    const facts = factsOf(this.world, draft, [], draft.command);
    const { command } = draft;
    switch (action.kind) {
      case "abort":
        return;
      case "add":
        this.#planAdd(draft, action);
        return;
      case "merge":
        this.#planMerge(draft, action);
        return;
      case "backup":
        jobs.push(this.jobs.plan(draft, action.backup, group));
        return;
      default: {
        unwrap(operation, findBitmap(facts, action.disk, action.name));
        const bitmap = this.#bitmapIn(draft, action.disk, action.name);
        if (action.kind === "remove") draft.remove(bitmap);
        else draft.plan(bitmap, { type: action.kind, command });
      }
    }
  }

  #planAdd(draft: Draft, action: Extract<Action, { kind: "add" }>): void {
    const facts = factsOf(this.world, draft, [], draft.command);
    const request = {
      node: action.disk,
      name: action.name,
      disabled: action.disabled,
      persistent: action.persistent,
      ...(action.granularity === undefined ? {} : { granularity: action.granularity }),
    };
    const { granularity, size, recording } = unwrap("bitmap add", checkBitmapAdd(request, facts));
    const disk = this.#lookUp(action.disk, true);
    const { persistent } = action;
    const bits = persistent ? draft.stagedRecorder(disk.name, action.name) : draft.recorder(size, granularity);
    const actor = new MachineActor(
      `bitmap ${action.disk}/${action.name}`,
      bitmapMachine,
      { node: action.disk, name: action.name, recording, persistent },
      { now: this.now },
    );
    draft.add(disk, {
      name: action.name,
      disk: action.disk,
      actor,
      memory: { bits, order: nextOrder(), successor: undefined, successorOrder: 0, records: recording, cutFrom: 0 },
    });
  }

  #planMerge(draft: Draft, action: Extract<Action, { kind: "merge" }>): void {
    const { command } = draft;
    const facts = factsOf(this.world, draft, [], command);
    const request = { node: action.disk, target: action.target, sources: action.sources };
    const { sources } = unwrap("bitmap merge", checkMerge(request, facts));
    const target = this.#bitmapIn(draft, action.disk, action.target);
    const into = { node: action.disk, name: action.target };
    // A bitmap merged into itself is what it was.
    const others = sources.filter((source) => source.node !== into.node || source.name !== into.name);
    const distinct = others.filter(
      (source, at) => others.findIndex((one) => one.node === source.node && one.name === source.name) === at,
    );
    for (const source of distinct)
      draft.plan(this.#bitmapIn(draft, source.node, source.name), { type: "mergeSource", into, command });
    draft.plan(target, { type: "mergeTarget", sources: distinct, command });
  }

  #bitmapIn(draft: Draft, disk: string, name: string): BitmapState {
    const bitmap = draft.bitmap(this.#lookUp(disk, false), name);
    invariant(bitmap !== undefined, "the bitmap was looked up before");
    return bitmap;
  }

  /** A test's look at the instant of a freeze. */
  observer(freeze: FreezeObservation): (() => void) | undefined {
    const observe = this.#observeFreeze;
    if (observe === undefined || freeze.jobs.length + freeze.views.length === 0) return undefined;
    return () => observe(freeze);
  }

  /** A disk that is being detached, or that was detached and attached anew while the command waited for its turn. */
  refuseClosing(disk: DiskState, held: boolean, operation: string): void {
    const { name } = disk;
    const here = this.world.disks.get(name) === disk;
    if (held && here && disk.actor.state === "open") return;
    const what = here ? "is being detached" : "is not attached here: it was detached, or is another runtime's";
    throw new RefusalError(operation, refusal("ERR_DISK_STATE", `Disk '${name}' ${what}`, { disk: name }));
  }

  /** What the engine threw, as what users are told. */
  asRefusal(error: unknown, operation: string): unknown {
    if (error instanceof TransitionTimeout) {
      return new RefusalError(operation, refusal("ERR_GATE_HELD", error.message, { operation: error.operation }), {
        cause: error,
      });
    }
    if (error instanceof NoThread)
      return new HeirloomError("ERR_NO_THREAD", operation, error.message, { cause: error });
    return error;
  }
}
