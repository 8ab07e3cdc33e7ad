/**
 * The embedding API.
 *
 * @example
 * await using runtime = createRuntime();
 * const disk = await runtime.attach({ driver: "file", filename: "vm.img" });
 * await disk.bitmaps.add("daily");
 * const job = await runtime.backup({
 *   disk,
 *   bitmap: "daily",
 *   target: { driver: "file", filename: "backup.raw", create: { length: disk.length } },
 * });
 * const { status } = await job.done; // "completed": the bitmap has abdicated to what was written since
 */
import { rm } from "node:fs/promises";
import type { Worker } from "node:worker_threads";
import { BlockError, type NodeHandle, type NodeSpec } from "@heirloom/block";
import { Engine, type EngineView, type OpenedNode } from "@heirloom/engine";
import { guardModule } from "@heirloom/journal";
import { type Action, Coordinator } from "./coordinator.ts";
import { detachDisk, refuseDetach } from "./detaching.ts";
import { Disk } from "./disk.ts";
import type { DiskState } from "./disk-state.ts";
import { HeirloomError, type Refusal, refusal, RefusalError } from "./errors.ts";
import { EventStream } from "./event-stream.ts";
import type { RuntimeFigures } from "./figures.ts";
import { Job } from "./job.ts";
import { inspectJob, type JobInspection } from "./job-inspection.ts";
import type { JobTarget } from "./job-state.ts";
import type { DiskExport } from "./disk-export.ts";
import { checkActions, checkFunction, checkNodeSpec, checkSignal } from "./validation/call-arguments.ts";
import { DiskServer, type ServeOptions } from "./disk-server.ts";
import { diskMachine } from "./machines/disk-machine.ts";
import { type Inspection, MachineActor } from "./machines/machine-actor.ts";
import { type PoolContext, type PoolEffect, type PoolEvent, poolMachine } from "./machines/pool-machine.ts";
import type {
  AttachOptions,
  BackupOptions,
  DiskSpec,
  ResumeOptions,
  RuntimeEvent,
  RuntimeOptions,
  TransactionAction,
  TransactionOptions,
} from "./options.ts";
import { directoryOf, filenameOf, imageIdentity, imageOf, madeFile } from "./node-files.ts";
import { withDriverModules } from "./node-specs.ts";
import { prepareBackup } from "./prepare-backup.ts";
import { recoverBitmaps, refuseKept } from "./recovering.ts";
import { dropSpill, prepareResumable, type Resumable } from "./resumable.ts";
import { takeOver } from "./taking-over.ts";
import { betweenResizes } from "./resize.ts";
import { snapshotIn, type SnapshotSource } from "./snapshots.ts";
import { type Window, windowOf } from "./window.ts";
import { refuseNodeName } from "./validation/identifier.ts";
import { checkRuntimeOptions } from "./validation/runtime-options.ts";
import { within } from "./waiting.ts";

export interface RuntimeInspection {
  readonly disks: ReadonlyArray<Inspection<unknown> & { readonly bitmaps: ReadonlyArray<Inspection<unknown>> }>;
  readonly jobs: readonly JobInspection[];
  /** The last ones that were dismissed, oldest first. */
  readonly endedJobs: readonly JobInspection[];
  readonly groups: ReadonlyArray<Inspection<unknown>>;
  readonly exports: ReadonlyArray<Inspection<unknown>>;
  readonly transactions: ReadonlyArray<Inspection<unknown>>;
  /** Jobs that have ended while a thread of theirs still has the target: it stays taken until then. */
  readonly lettingGo: readonly string[];
  /** Bytes of shared memory in use, and threads that exist. */
  readonly memory: { readonly shared: number };
  readonly threads: number;
  /** Long tasks, and threads that died. */
  readonly pool: Inspection<unknown>;
}

/** A runtime: nothing starts before it is used. Close it when done: until then it keeps the process alive. @throws RefusalError that names the option and what was expected */
export function createRuntime(options: RuntimeOptions = {}): Runtime {
  checkRuntimeOptions(options);
  return new Runtime(options);
}

export class Runtime {
  readonly #engine: Engine;
  readonly #coordinator: Coordinator;
  readonly #events = new EventStream();
  readonly #options: RuntimeOptions;
  readonly #pool: MachineActor<undefined, PoolContext, PoolEvent, PoolEffect>;
  readonly #disks = new Map<string, Disk>();
  /** Names of disks that are being opened. */
  readonly #attaching = new Set<string>();
  readonly #servers = new Set<DiskServer>();
  #nextDisk = 0;
  #nextJob = 0;
  #nextTarget = 0;
  #threadsDied = 0;
  readonly #detaching = new Map<Disk, Leaving>();
  /** Calls that open nodes and are not over: closing waits for them, so that nothing stays open behind it. */
  readonly #underWay = new Set<Promise<unknown>>();
  #closing: Promise<void> | undefined;

  /** Use `createRuntime`. */
  constructor(options: RuntimeOptions) {
    this.#options = options;
    const now = options.now ?? Date.now;
    this.#pool = new MachineActor("pool", poolMachine, undefined, { now });
    this.#engine = new Engine({ guardModule, ...options.engine }, (event) => this.#onThread(event));
    const observe = options.observeFreeze;
    this.#coordinator = new Coordinator(this.#engine, this.#events, {
      now,
      freezeDeadlineMs: options.freezeDeadlineMs ?? 5000,
      targetsAreNoSources: options.backupOfTargets === false,
      ...(observe === undefined ? {} : { observeFreeze: observe }),
    });
  }

  /**
   * Opens an image, a device or a driver module as a disk. With `file: otherDisk` (drivers raw, fault, throttle) it is a
   * window of that disk: both share a gate, and what is written through one is tracked in both.
   * @throws BlockError, RefusalError
   */
  attach(spec: DiskSpec, options: AttachOptions = {}): Promise<Disk> {
    return this.#follow(this.#attach(spec, options));
  }

  async #attach(spec: DiskSpec, options: AttachOptions): Promise<Disk> {
    this.#refuseClosed("attach");
    checkNodeSpec("attach", "spec", spec);
    const name = options.name ?? this.#freeDiskName();
    const taken = this.#refuseName(name, options);
    if (taken !== undefined) throw new RefusalError("attach", taken);
    this.#attaching.add(name);
    try {
      return await this.#attachAs(name, spec, options);
    } finally {
      this.#attaching.delete(name);
    }
  }

  async #attachAs(name: string, spec: DiskSpec, options: AttachOptions): Promise<Disk> {
    const snapshot = await snapshotIn(this.#coordinator, spec);
    const window = windowOf(snapshot?.spec ?? spec);
    const attach = (): Promise<Disk> => this.#attachNode(name, spec, options, snapshot, window);
    return window.under === undefined ? attach() : betweenResizes(window.under.state, attach);
  }

  async #attachNode(
    name: string,
    spec: DiskSpec,
    options: AttachOptions,
    snapshot: SnapshotSource | undefined,
    window: Window,
  ): Promise<Disk> {
    if (window.under !== undefined) this.#coordinator.refuseClosing(window.under.state, true, "attach");
    const opened = await this.#open(window.spec, "attach");
    try {
      this.#refuseClosed("attach");
      if (window.under !== undefined) this.#coordinator.refuseClosing(window.under.state, true, "attach");
      snapshot?.refuseEnded();
    } catch (error) {
      await this.#giveUp({ handle: opened.handle, spec: window.spec });
      throw error;
    }
    const under = window.under === undefined ? undefined : { layer: window.under.state.layer, offset: window.offset };
    const layer = this.#engine.addLayer(opened, under, snapshot?.engineView);
    const state: DiskState = {
      name,
      layer,
      node: opened.handle,
      actor: new MachineActor(`disk ${name}`, diskMachine, { name }, { now: this.#coordinator.now }),
      bitmaps: new Map(),
      directory: snapshot === undefined ? directoryOf(spec) : snapshot.disk.directory,
      under: window.under?.state,
      above: new Set(),
      image: imageOf(spec, window.under !== undefined || opened.handle.readOnly, options),
      journal: undefined,
      keepsNone: options.journal === false,
      whenGone: [],
      takesOver: options.journal === "take-over",
      keptBy: undefined,
    };
    try {
      const filename = window.under === undefined && !opened.handle.readOnly ? filenameOf(spec) : undefined;
      if (options.journal === false && filename !== undefined) await refuseKept(this.#coordinator, filename);
      if (options.journal === "take-over") await takeOver(this.#coordinator, state);
      else await recoverBitmaps(this.#coordinator, state);
    } catch (error) {
      await this.#engine.removeLayer(layer);
      await this.#giveUp({ handle: opened.handle, spec: window.spec });
      throw error;
    }
    window.under?.state.above.add(state);
    const disk = new Disk(this.#coordinator, state, this.#options, (force) => this.#detach(disk, force));
    this.#coordinator.world.disks.set(name, state);
    this.#disks.set(name, disk);
    if (snapshot !== undefined) this.#endWith(snapshot.engineView, disk);
    if (under !== undefined) await this.#announceLayer(state);
    return disk;
  }

  /** It goes when the view does; who takes it away before takes it off the list. */
  #endWith(view: EngineView, disk: Disk): void {
    const { snapshots } = this.#coordinator;
    const end = (): Promise<void> => this.#leave(disk).closed; // until then a thread may read the view
    snapshots.add(view, end);
    disk.state.whenGone.push(() => snapshots.gone(view, end));
  }

  /** Attached disks, in the order in which they came. */
  get disks(): readonly Disk[] {
    return [...this.#disks.values()];
  }

  /** @throws RefusalError if there is none of this name */
  disk(name: string): Disk {
    const disk = this.#disks.get(name);
    if (disk !== undefined) return disk;
    throw new RefusalError(
      "disk",
      refusal("ERR_NODE_NOT_FOUND", `Cannot find device='${name}' nor node-name='${name}'`, { node: name }),
    );
  }

  /** Starts a backup; it is frozen when this resolves. @throws RefusalError, BlockError; then nothing has changed */
  async backup(options: BackupOptions): Promise<Job> {
    const [job] = await this.transaction([{ type: "backup", ...options }]);
    return job;
  }

  /** Several commands at one instant, all or none. @returns the jobs of its backups, in order @throws RefusalError, BlockError */
  transaction(actions: readonly TransactionAction[], options: TransactionOptions = {}): Promise<Job[]> {
    return this.#follow(this.#transaction(actions, options));
  }

  async #transaction(actions: readonly TransactionAction[], options: TransactionOptions): Promise<Job[]> {
    checkActions("transaction", actions, actionKinds);
    const operation = actions.length === 1 && actions[0].type === "backup" ? "backup" : "transaction";
    this.#refuseClosed(operation);
    const prepared: Action[] = [];
    const opened: OpenedTarget[] = [];
    const made: Resumable[] = [];
    const conditions = { given: givenDisks(actions), signals: actions.flatMap(signalOf) };
    try {
      for (const action of actions) {
        for (const signal of signalOf(action)) signal.throwIfAborted();
        for (const disk of givenDisks([action])) this.#coordinator.refuseClosing(disk, true, operation);
        prepared.push(await this.#prepare(action, opened, made));
      }
      this.#refuseClosed(operation);
      const states = await this.#coordinator.transaction(prepared, options.completionMode ?? "individual", conditions);
      const jobs = states.map((state) => new Job(this.#coordinator, state));
      actions
        .filter((action) => action.type === "backup")
        .forEach((action, index) => cancelOn(action.signal, jobs[index]));
      return jobs;
    } catch (error) {
      // A job may have begun before it failed that its record was written: then these are its own.
      const jobs = [...this.#coordinator.world.jobs.values()];
      for (const one of opened) if (!jobs.some(({ target }) => target.node === one.handle)) await this.#giveUp(one);
      for (const one of made) if (!jobs.some(({ resumable }) => resumable === one)) await dropSpill(this.#engine, one);
      throw error;
    }
  }

  /**
   * Resumes a job; with a target, one that was cut off and waits for it.
   * @throws RefusalError: its target is not there, or is another one: then the job is given up, and its bitmap reclaimed, unless
   * `onOther` says to refuse
   */
  async resume(job: Job | string, options: ResumeOptions = {}): Promise<void> {
    await this.#follow(this.#resume(typeof job === "string" ? job : job.id, options));
  }

  async #resume(id: string, { target, onOther }: ResumeOptions): Promise<void> {
    this.#refuseClosed("job resume");
    const { jobs } = this.#coordinator;
    const opened: OpenedTarget[] = [];
    if (target !== undefined) {
      try {
        jobs.adoptTarget(id, await this.#openTarget(target, opened), onOther);
      } catch (error) {
        for (const one of opened) await this.#giveUp(one);
        throw error;
      }
    }
    jobs.verb(id, "job resume", { type: "resume", user: true });
  }

  /** Jobs that exist: running, or concluded and not dismissed. */
  get jobs(): Job[] {
    return [...this.#coordinator.world.jobs.values()].map((state) => new Job(this.#coordinator, state));
  }

  /** Follows a thread of yours, so that its death is noticed: before it opens a disk. */
  register(worker: Worker): void {
    this.#engine.register(worker);
  }

  /** Serves disks and points in time to NBD clients. @throws ListenError; then nothing listens */
  serveNbd(options: ServeOptions = {}): Promise<DiskServer> {
    return this.#follow(this.#serveNbd(options));
  }

  async #serveNbd(options: ServeOptions): Promise<DiskServer> {
    this.#refuseClosed("serve NBD");
    const server: DiskServer = new DiskServer(this.#coordinator, this.#events, options, () =>
      this.#servers.delete(server),
    );
    this.#servers.add(server);
    try {
      for (const address of options.listen ?? []) await server.listen(address);
      this.#refuseClosed("serve NBD");
    } catch (error) {
      await server.close({ force: true });
      throw error;
    }
    return server;
  }

  /** What happens from now on, until the runtime closes. Also on the diagnostics channel `heirloom:event`. */
  events(options: { readonly signal?: AbortSignal } = {}): AsyncIterableIterator<RuntimeEvent> {
    checkSignal("events", options.signal);
    return this.#events.read(options.signal);
  }

  /**
   * Calls `listener` with what happens, while it happens: before the call that brings it about returns. What it throws is an uncaught
   * exception of the process.
   * @returns what takes the listener away
   */
  onEvent(listener: (event: RuntimeEvent) => void): () => void {
    checkFunction("events", "listener", listener);
    return this.#events.listen(listener);
  }

  /** State and history of every actor. */
  inspect(): RuntimeInspection {
    const { world } = this.#coordinator;
    return {
      disks: [...world.disks.values()].map((disk) => ({
        ...disk.actor.inspect(),
        bitmaps: [...disk.bitmaps.values()].map((bitmap) => bitmap.actor.inspect()),
      })),
      jobs: [...world.jobs.values()].map(inspectJob),
      endedJobs: this.#coordinator.jobs.ended,
      groups: [...world.groups.values()].map((group) => group.inspect()),
      exports: [...this.#coordinator.exports.values()].map((exported) => exported.inspect()),
      transactions: this.#coordinator.inspectTransactions(),
      lettingGo: [...world.lettingGo.values()],
      memory: { shared: this.#engine.arenas.bytesInUse },
      pool: this.#pool.inspect(),
      threads: this.#engine.pool.threads,
    };
  }

  /** What disks and points in time are served to clients now, over all servers. */
  get exports(): readonly DiskExport[] {
    return [...this.#coordinator.exports.values()];
  }

  /** Figures for whoever watches. */
  get figures(): RuntimeFigures {
    const { world, jobs } = this.#coordinator;
    return {
      gateClosed: this.#engine.transitions.closed,
      jobsStarted: jobs.counts.started,
      jobsEnded: jobs.counts.ended,
      threadsDied: this.#threadsDied,
      threads: this.#engine.pool.threads,
      sharedMemory: this.#engine.arenas.bytesInUse,
      spills: [...world.jobs.values()]
        .filter((job) => job.ended === undefined)
        .map(({ id, view }) => ({ job: id, bytes: view.spilledBytes, fileBytes: view.spillFileBytes })),
    };
  }

  /** Cancels jobs, reclaims bitmaps, closes disks, ends threads. One that hangs in a system call is left behind. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #close(): Promise<void> {
    const { jobs, world } = this.#coordinator;
    await within(closeMs, Promise.allSettled(this.#underWay));
    const endings = [...world.jobs.values()].map((job) => {
      jobs.leaveIfPossible(job.id);
      return job.done;
    });
    await within(closeMs, Promise.all(endings));
    await Promise.allSettled([...this.#servers].map((server) => server.close()));
    await Promise.allSettled([...this.#disks.values()].map((disk) => this.#detach(disk, true)));
    await within(detachMs, jobs.ending.released());
    this.#onThread({ type: "close" });
    await this.#engine.close(detachMs);
    this.#onThread({ type: "closed" });
    this.#events.close();
  }

  #follow<Value>(call: Promise<Value>): Promise<Value> {
    this.#underWay.add(call);
    const over = (): void => void this.#underWay.delete(call);
    call.then(over, over);
    return call;
  }

  #onThread(event: PoolEvent): void {
    const plan = this.#pool.plan(event);
    if (!plan.ok) return; // a thread that hung and ends after the runtime has closed
    this.#pool.commit(plan);
    for (const { reason, deaths } of plan.effects) {
      this.#threadsDied++;
      this.#events.emit({ at: this.#coordinator.now(), name: "THREAD_DIED", data: { reason, deaths } });
    }
  }

  /**
   * Refuses at once, or ends with the disk gone; where a thread hangs in it, after a bounded time. Name and image stay taken
   * only if that thread may still change the image.
   */
  async #detach(disk: Disk, force: boolean): Promise<void> {
    const { state } = disk;
    if (force) return within(state.journal === undefined ? detachMs : settledMs, this.#leave(disk).free);
    this.#coordinator.refuseClosing(state, true, "detach");
    refuseDetach(this.#coordinator, state);
    // Nobody uses it; a thread of a job that has ended may still hang in it.
    const { free } = this.#leave(disk);
    await within(detachMs, free);
    if (!this.#coordinator.jobs.ending.holds(state)) await free;
  }

  #leave(disk: Disk): Leaving {
    let leaving = this.#detaching.get(disk);
    if (leaving === undefined) {
      leaving = this.#takeAway(disk);
      this.#detaching.set(disk, leaving);
      for (const step of [leaving.free, leaving.closed]) step.catch(() => {}); // told to those who wait for it
    }
    return leaving;
  }

  #takeAway(disk: Disk): Leaving {
    const { state } = disk;
    const windows = [...this.#disks.values()].filter((other) => other.state.under === state);
    const left = Promise.all(windows.map((window) => this.#leave(window).free)).then(() =>
      detachDisk(this.#coordinator, state),
    );
    const free = left
      .finally(() => {
        this.#disks.delete(disk.name);
        this.#coordinator.world.disks.delete(disk.name);
      })
      .then(() => {});
    const closed = left
      .then((outcome) => outcome.closed)
      .finally(() => {
        this.#detaching.delete(disk);
        for (const listener of state.whenGone) listener();
      });
    return { free, closed };
  }

  /** The stack has a layer more: its table says so from here on. */
  async #announceLayer(state: DiskState): Promise<void> {
    await this.#engine.transitions.run({
      name: "attach",
      stacks: [state.layer.stack],
      prepare: () => ({ tables: new Map() }),
    });
  }

  async #prepare(action: TransactionAction, opened: OpenedTarget[], made: Resumable[]): Promise<Action> {
    switch (action.type) {
      case "abort":
        return { kind: "abort", because: action.because };
      case "bitmap-add": {
        const { name, granularity, disabled = false, persistent = false } = action;
        return { kind: "add", disk: nameOf(action.disk), name, granularity, disabled, persistent };
      }
      case "bitmap-merge": {
        const node = nameOf(action.disk);
        const sources = action.sources.map((source) =>
          typeof source === "string" ? { node, name: source } : { node: nameOf(source.disk), name: source.name },
        );
        return { kind: "merge", disk: node, target: action.target, sources };
      }
      case "backup": {
        const jobId = action.jobId ?? this.#freeJobId();
        const disk = this.disk(nameOf(action.disk)).state;
        const target = await this.#openTarget(action.target, opened);
        const backup = prepareBackup(action, jobId, disk, target, this.#options);
        if (action.syncSpill === true && action.resumable !== true) {
          const desc = "'syncSpill' is about the spill of a resumable job; it needs 'resumable'";
          throw new RefusalError("backup", refusal("ERR_INVALID_ARGUMENT", desc, { option: "syncSpill" }));
        }
        if (action.resumable !== true) return { kind: "backup", backup };
        const resumable = await prepareResumable(this.#engine, action, disk, target, backup, this.#options);
        made.push(resumable);
        return { kind: "backup", backup: { ...backup, resumable } };
      }
      default: {
        const kind = action.type.slice("bitmap-".length) as "remove" | "clear" | "enable" | "disable";
        return { kind, disk: nameOf(action.disk), name: action.name };
      }
    }
  }

  async #openTarget(target: BackupOptions["target"], opened: OpenedTarget[]): Promise<JobTarget> {
    if (target instanceof Disk) {
      await this.#coordinator.jobs.ending.targetFree(target.node.identity, lettingGoMs);
      const { name, state, length } = target;
      return { name, label: name, node: state.node, length, disk: state };
    }
    checkNodeSpec("backup", "target", target);
    const { handle, length } = await this.#open(target, "backup");
    opened.push({ handle, spec: target });
    const label = typeof target.filename === "string" ? target.filename : target.driver;
    return { name: `#block${this.#nextTarget++}`, label, node: handle, length, disk: undefined };
  }

  /** What was opened for something that was refused: a file that was made for it goes. */
  async #giveUp({ handle, spec }: OpenedTarget): Promise<void> {
    const file = madeFile(spec);
    if (file !== undefined) await rm(file, { force: true }).catch(() => {}); // while its lock is held: it is nobody else's yet
    await this.#engine.closeNode(handle).catch(() => {});
  }

  /** A job that has ended and whose threads hang keeps its target's lock: then it is named, and not the lock. */
  async #open(spec: NodeSpec, operation: string): Promise<OpenedNode> {
    const identity = imageIdentity(spec) ?? "";
    await this.#coordinator.jobs.ending.targetFree(identity, lettingGoMs);
    try {
      return await this.#engine.openNode(withDriverModules(spec));
    } catch (error) {
      const locked = error instanceof BlockError && error.code === "ERR_IMAGE_LOCKED";
      const job = locked ? this.#coordinator.world.lettingGo.get(identity) : undefined;
      if (job === undefined) throw error;
      const desc = `Node '${String(error instanceof BlockError ? error.node : "")}' is busy: job '${job}' has ended and is still letting go of it`;
      throw new RefusalError(operation, refusal("ERR_TARGET_LETTING_GO", desc, { job }), { cause: error });
    }
  }

  #refuseName(name: string, { generated = false }: AttachOptions): Refusal | undefined {
    // What a program made up is no identifier, but must be as free as any other.
    return refuseNodeName(generated && name.startsWith("#") ? `generated${name.slice(1)}` : name, () =>
      this.#isNameTaken(name),
    );
  }
  #isNameTaken(name: string): boolean {
    return this.#disks.has(name) || this.#attaching.has(name);
  }
  #freeDiskName(): string {
    for (;;) {
      const name = `disk${this.#nextDisk++}`;
      if (!this.#isNameTaken(name)) return name;
    }
  }
  #freeJobId(): string {
    for (;;) {
      const id = `backup${this.#nextJob++}`;
      if (!this.#coordinator.world.jobs.has(id)) return id;
    }
  }

  #refuseClosed(operation: string): void {
    if (this.#closing !== undefined) throw new HeirloomError("ERR_RUNTIME_CLOSED", operation, "the runtime is closed");
  }
}

interface OpenedTarget {
  readonly handle: NodeHandle;
  readonly spec: NodeSpec;
}

/** A disk on its way out: its name and image are free again; no thread uses it any more, however long one has hung in it. */
interface Leaving {
  readonly free: Promise<void>;
  readonly closed: Promise<void>;
}

/** A new job waits this long for a target that an ended one is letting go of, before it is refused. */
const lettingGoMs = 1000;
/** Closing waits this long for jobs to end, which they do at once unless a guest's request hangs in the disk. */
const closeMs = 3000;
/** A detach waits this long for threads to let go. */
const detachMs = 1000;
/** And so long where the image has to be flushed before its bitmaps are settled: cut off, the next start finds an unclean stop. */
const settledMs = 6000;

function nameOf(disk: Disk | string): string {
  return typeof disk === "string" ? disk : disk.name;
}

/** Disks that were given as objects, and not by name. */
function givenDisks(actions: readonly TransactionAction[]): DiskState[] {
  const given = actions.flatMap((action): unknown[] => {
    if (action.type === "abort") return [];
    if (action.type === "backup") return [action.disk, action.target];
    if (action.type !== "bitmap-merge") return [action.disk];
    return [action.disk, ...action.sources.map((source) => (typeof source === "string" ? source : source.disk))];
  });
  return given.flatMap((disk) => (disk instanceof Disk ? disk.state : []));
}

function signalOf(action: TransactionAction): AbortSignal[] {
  return action.type === "backup" && action.signal !== undefined ? [action.signal] : [];
}

const actionKinds: readonly TransactionAction["type"][] = [
  "abort",
  "backup",
  "bitmap-add",
  "bitmap-clear",
  "bitmap-disable",
  "bitmap-enable",
  "bitmap-merge",
  "bitmap-remove",
];

function cancelOn(signal: AbortSignal | undefined, job: Job): void {
  if (signal === undefined) return;
  const cancel = (): void => {
    try {
      job.cancel();
    } catch {
      // it has ended, or its success is decided: there is nothing to cancel
    }
  };
  if (signal.aborted) cancel();
  else {
    signal.addEventListener("abort", cancel, { once: true });
    void job.done.then(() => signal.removeEventListener("abort", cancel));
  }
}
