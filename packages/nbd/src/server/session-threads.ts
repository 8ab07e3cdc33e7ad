/**
 * The server's threads, on the main thread: session threads that serve connections, and helpers that do what would make them
 * wait. They start when there is work for them.
 *
 * The connections of a disk are kept together, so that a device that hangs stalls its own disk's guests: a disk has a thread
 * of its own (several where there are cores for it) until there are more disks than threads. Descriptors of
 * connections are closed here and nowhere else, when their thread has said that it is done with them, or is dead.
 */
import { availableParallelism } from "node:os";
import { type MessagePort, receiveMessageOnPort } from "node:worker_threads";
import { closeFile, EIO, errnoText, openDoorbell, ringDoorbell } from "@heirloom/block";
import { type Engine, type LongTask, NoThread } from "@heirloom/engine";
import type {
  FromHelper,
  FromSession,
  HelperOptions,
  PostedConnection,
  PostedExport,
  SessionOptions,
  SharedByServer,
  ToHelper,
  ToSession,
} from "../session/messages.ts";
import { LAST_PLACE_BYTES, makePayloadBudget, type PayloadBudget, releaseSlabs } from "../session/payload-memory.ts";
import { makeTraffic, readTraffic, type TrafficCounts } from "../session/traffic.ts";
import {
  exportField,
  SLOTS_A_THREAD,
  SLOTS_FOR_ITSELF,
  slotFree,
  slotDone,
  workBytes,
} from "../session/work-layout.ts";
import { WorkQueue } from "../session/work-queue.ts";

const sessionModule = new URL("../session/session.js", import.meta.url).href;
const helperModule = new URL("../session/helper.js", import.meta.url).href;

export interface SessionThreadsOptions {
  /** Session threads at most. */
  readonly threadsMax: number;
  /** Helper threads at most. */
  readonly helpersMax: number;
  /** Bytes of payload that helpers work on, and of long replies. */
  readonly payloadMemory: number;
  /** Connections at once. */
  readonly connectionsMax: number;
}

/** A connection that has left its handshake. */
export interface ReadyConnection {
  /** The threads' from here on, to the end. */
  readonly fd: number;
  readonly unread: Uint8Array;
  readonly structured: boolean;
  readonly extended: boolean;
  readonly contexts: PostedConnection["contexts"];
}

export interface ClosedConnection {
  readonly id: number;
  readonly reason: string;
  /** Requests that it made; undefined if its thread died. */
  readonly requests: number | undefined;
}

interface SessionThread {
  readonly index: number;
  readonly port: MessagePort;
  readonly doorbell: number;
  readonly exports: Set<number>;
  readonly connections: Map<number, { readonly fd: number; readonly export: number }>;
  /** Descriptors that it made for itself. */
  readonly opened: number[];
}

interface HelperThread {
  readonly task: LongTask<void>;
  readonly port: MessagePort;
  starting: boolean;
  /** It was told to end. */
  ending: boolean;
}

interface ExportRecord {
  readonly posted: PostedExport;
  /** Session threads that have it. */
  readonly threads: Set<SessionThread>;
  removing: (() => void) | undefined;
}

/** Last places of payload memory, of all threads: address space only, for as long as there is memory enough. */
const LAST_PLACES_BYTES_MAX = 1024 * 1024 * 1024;

/** How often it is looked whether helpers are done with what a thread left that died. */
const ORPHANS_MS = 20;

/** Threads that start at the same time: each takes as long as the work that it is for. */
const helpersStartingMax = 2;

export class SessionThreads {
  readonly #engine: Engine;
  readonly #options: SessionThreadsOptions;
  readonly #onClosed: (closed: ClosedConnection) => void;
  #shared: SharedByServer | undefined;
  #queue: WorkQueue | undefined;
  readonly #threads: (SessionThread | undefined)[] = [];
  /** Of each index, for as long as the server lives: a helper may still ring for a thread that has ended. */
  readonly #doorbells: (number | undefined)[] = [];
  /** Session threads that are dead: what they had is taken back when no helper works on it any more. */
  readonly #dead = new Set<number>();
  readonly #helpers = new Set<HelperThread>();
  #helpersStarting = 0;
  readonly #exports = new Map<number, ExportRecord>();
  #nextExport = 1;
  #nextConnection = 1;
  /** Threads that have not ended. */
  readonly #ends = new Set<Promise<void>>();

  constructor(engine: Engine, options: SessionThreadsOptions, onClosed: (closed: ClosedConnection) => void) {
    this.#engine = engine;
    this.#options = options;
    this.#onClosed = onClosed;
  }

  /** @returns its number */
  addExport(exported: Omit<PostedExport, "id" | "traffic">): number {
    const id = this.#nextExport++;
    const posted = { ...exported, id, traffic: makeTraffic(this.#options.threadsMax) };
    this.#exports.set(id, { posted, threads: new Set(), removing: undefined });
    this.#tellHelpers({ type: "export", export: posted });
    return id;
  }

  /** Gives a connection to a thread. @returns its number @throws NoThread; then the descriptor is still the caller's */
  connect(exportId: number, ready: ReadyConnection): number {
    const record = this.#recordOf(exportId);
    const thread = this.#threadFor(record);
    if (!record.threads.has(thread)) {
      record.threads.add(thread);
      thread.exports.add(exportId);
      this.#tell(thread, { type: "export", export: record.posted });
    }
    const id = this.#nextConnection++;
    thread.connections.set(id, { fd: ready.fd, export: exportId });
    this.#tell(thread, { type: "connection", connection: { ...ready, id, export: exportId } });
    return id;
  }

  connectionsOf(exportId: number): number {
    let count = 0;
    for (const thread of this.#threads) {
      if (thread === undefined) continue;
      for (const connection of thread.connections.values()) if (connection.export === exportId) count++;
    }
    return count;
  }

  /** Tells what went through an export so far, also when it is gone. */
  trafficOf(exportId: number): () => TrafficCounts {
    const { traffic } = this.#recordOf(exportId).posted;
    return () => readTraffic(traffic);
  }

  /** Ends a connection at once. */
  disconnect(id: number): void {
    for (const thread of this.#threads) {
      if (thread?.connections.has(id) === true) this.#tell(thread, { type: "endConnection", connection: id });
    }
  }

  /** Ends an export's connections, `hard` or after what is in flight. Resolves when no thread uses it: with a device that hangs, never. */
  removeExport(id: number, hard: boolean): Promise<void> {
    const record = this.#exports.get(id);
    if (record === undefined) return Promise.resolve();
    for (const thread of record.threads) this.#tell(thread, { type: "endExport", export: id, hard });
    const before = record.removing;
    return new Promise((resolve) => {
      record.removing = () => {
        before?.();
        resolve();
      };
      this.#sessionsMayHaveLetGo(id, record);
    });
  }

  /** Ends the threads; exports are gone, or hang. Resolves when all have ended. */
  async close(): Promise<void> {
    for (const thread of this.#threads) if (thread !== undefined) this.#tell(thread, { type: "end" });
    this.#queue?.stop();
    // A helper that started meanwhile may still ring: no descriptor is closed before.
    while (this.#ends.size > 0) await Promise.all(this.#ends);
    for (const doorbell of this.#doorbells) if (doorbell !== undefined) closeFile(doorbell);
    this.#doorbells.length = 0;
  }

  /** Helper threads and session threads that exist. */
  get threads(): number {
    return this.#threads.filter((thread) => thread !== undefined).length + this.#helpers.size;
  }

  // Session threads.

  #threadFor(record: ExportRecord): SessionThread {
    const threads = this.#threads.filter((thread) => thread !== undefined);
    const own = threads.filter((thread) => this.#serves(thread, record.posted.disk));
    const leastBusy = fewest(own, ({ connections }) => connections.size);
    if (leastBusy !== undefined && (leastBusy.connections.size === 0 || own.length >= threadsADisk)) return leastBusy;
    const idle = threads.find(({ exports }) => exports.size === 0);
    if (idle !== undefined) return idle;
    const free = this.#freeIndex();
    if (free !== undefined) {
      try {
        return this.#startThread(free);
      } catch (error) {
        // Better one that serves others as well than none.
        if (!(error instanceof NoThread) || threads.length === 0) throw error;
      }
    }
    const shared = leastBusy ?? fewest(threads, ({ connections, exports }) => connections.size * 1000 + exports.size);
    if (shared === undefined) throw new NoThread("nbd session", this.#options.threadsMax);
    return shared;
  }

  #serves(thread: SessionThread, disk: string): boolean {
    for (const id of thread.exports) if (this.#exports.get(id)?.posted.disk === disk) return true;
    return false;
  }

  /** An index whose slots nobody uses any more. */
  #freeIndex(): number | undefined {
    for (let index = 0; index < this.#options.threadsMax; index++) {
      if (this.#threads[index] === undefined && this.#isQuiet(index)) return index;
    }
    return undefined;
  }

  #isQuiet(index: number): boolean {
    const queue = this.#queue;
    if (queue === undefined) return true;
    for (let slot = index * SLOTS_A_THREAD; slot < (index + 1) * SLOTS_A_THREAD; slot++) {
      const state = queue.state(slot);
      if (state !== slotFree && state !== slotDone) return false;
    }
    return true;
  }

  #startThread(index: number): SessionThread {
    const shared = this.#sharedOf();
    this.#takeBack(index);
    const doorbell = this.#doorbells[index] ?? openDoorbell();
    if (doorbell < 0) throw new Error(`no descriptor for a session thread: ${errnoText(-doorbell)}`);
    this.#doorbells[index] = doorbell;
    const options: SessionOptions = { ...shared, index, doorbell, helpersMax: this.#options.helpersMax };
    const { task, port } = this.#engine.startService(`nbd session ${index}`, sessionModule, options);
    const connections: SessionThread["connections"] = new Map();
    const thread: SessionThread = { index, port, doorbell, exports: new Set(), connections, opened: [] };
    this.#threads[index] = thread;
    port.on("message", (message: FromSession) => this.#onSession(thread, message));
    port.unref();
    this.#follow(task, () => this.#threadEnded(thread));
    return thread;
  }

  #onSession(thread: SessionThread, message: FromSession): void {
    switch (message.type) {
      case "opened":
        thread.opened.push(message.fd);
        return;
      case "helpWanted":
        this.#takeBackFromDead();
        this.#startHelper();
        return;
      case "closed":
        this.#closed(thread, message.connection, message.reason, message.requests);
        this.#takeBackFromDead();
        return;
      case "letGo":
        this.#threadLetGo(thread, message.export);
    }
  }

  #closed(thread: SessionThread, id: number, reason: string, requests: number | undefined): void {
    const connection = thread.connections.get(id);
    if (connection === undefined) return;
    thread.connections.delete(id);
    closeFile(connection.fd);
    this.#onClosed({ id, reason, requests });
  }

  #threadLetGo(thread: SessionThread, exportId: number): void {
    thread.exports.delete(exportId);
    const record = this.#exports.get(exportId);
    record?.threads.delete(thread);
    if (record !== undefined) this.#sessionsMayHaveLetGo(exportId, record);
  }

  /** The thread of this index is dead, and helpers are done with what it left. */
  #takeBack(index: number): void {
    this.#dead.delete(index);
    releaseSlabs(this.#sharedOf().budget, index + 1);
    for (let slot = index * SLOTS_A_THREAD; slot < (index + 1) * SLOTS_A_THREAD; slot++) {
      if (this.#queue?.state(slot) === slotDone) this.#queue.free(slot);
    }
  }
  #takeBackFromDead(): void {
    for (const index of this.#dead) if (this.#isQuiet(index)) this.#takeBack(index);
  }

  /** Requests that a dead thread left, and that no helper has begun, are nobody's any more. */
  #withdraw(index: number): void {
    for (let slot = index * SLOTS_A_THREAD; slot < (index + 1) * SLOTS_A_THREAD; slot++) this.#queue?.withdraw(slot);
  }

  #threadEnded(thread: SessionThread): void {
    const { index } = thread;
    // What it said before its end comes first.
    for (let last = receiveMessageOnPort(thread.port); last !== undefined; last = receiveMessageOnPort(thread.port)) {
      this.#onSession(thread, last.message as FromSession);
    }
    this.#threads[index] = undefined;
    this.#withdraw(index);
    this.#dead.add(index);
    this.#takeBackFromDead();
    for (const fd of thread.opened) closeFile(fd);
    thread.port.close();
    for (const id of [...thread.connections.keys()]) this.#closed(thread, id, "its thread died", undefined);
    for (const id of [...thread.exports]) this.#threadLetGo(thread, id);
  }

  // Helpers.

  #startHelper(): void {
    if (this.#helpers.size >= this.#helpersMax || this.#helpersStarting >= helpersStartingMax) return;
    const queue = this.#queue;
    if (queue === undefined || queue.idleHelpers > 0) return;
    const exports = [...this.#exports.values()].map(({ posted }) => posted);
    const options: HelperOptions = { ...this.#sharedOf(), exports };
    let started: { task: LongTask<void>; port: MessagePort };
    try {
      started = this.#engine.startService("nbd helper", helperModule, options);
    } catch {
      return; // no thread for it now; whoever waits asks again
    }
    const helper: HelperThread = { ...started, starting: true, ending: false };
    this.#helpers.add(helper);
    this.#helpersStarting++;
    helper.port.on("message", (message: FromHelper) => this.#onHelper(helper, message));
    helper.port.unref();
    const { participant } = helper.task;
    const ended = (died: boolean): void => {
      this.#started(helper);
      this.#helpers.delete(helper);
      helper.port.close();
      if (died) for (const bell of queue.answerFor(participant, EIO)) ringDoorbell(bell);
    };
    this.#follow(helper.task, ended);
  }

  get #helpersMax(): number {
    let users = 0;
    for (const { threads } of this.#exports.values()) users += threads.size;
    return this.#options.helpersMax + users * SLOTS_FOR_ITSELF;
  }

  #onHelper(helper: HelperThread, message: FromHelper): void {
    if (message.type === "ready") {
      this.#started(helper);
      return;
    }
    if (helper.ending) return;
    helper.ending = true;
    this.#post(helper, { type: "end" });
    this.#queue?.announce();
  }

  #started(helper: HelperThread): void {
    if (helper.starting) this.#helpersStarting--;
    helper.starting = false;
  }

  #tellHelpers(message: ToHelper): void {
    for (const helper of this.#helpers) this.#post(helper, message);
    this.#queue?.announce();
  }

  #follow(task: LongTask<void>, ended: (died: boolean) => void): void {
    const end = task.ended
      .then(
        () => ended(false),
        () => ended(true),
      )
      .finally(() => this.#ends.delete(end));
    this.#ends.add(end);
  }

  // Removal.

  /**
   * It is gone when its sessions have let go and no slot is about it: a helper touches an export for a slot of it and at no
   * other time. So helpers are told to forget it and not waited for: one may hang in another disk's device.
   */
  #sessionsMayHaveLetGo(id: number, record: ExportRecord): void {
    if (record.removing === undefined || record.threads.size > 0 || this.#exports.get(id) !== record) return;
    if (this.#isWithHelpers(id)) {
      // A thread died, and a helper is still at what it wanted. Nobody hears of its end.
      setTimeout(() => this.#sessionsMayHaveLetGo(id, record), ORPHANS_MS).unref();
      return;
    }
    this.#exports.delete(id);
    this.#tellHelpers({ type: "forget", export: id });
    record.removing();
  }

  /** Requests of sessions that live are these sessions' to wait for; this finds those of dead ones as well. */
  #isWithHelpers(id: number): boolean {
    const queue = this.#queue;
    if (queue === undefined) return false;
    for (let slot = 0; slot < queue.slots; slot++) {
      const state = queue.state(slot);
      const isBusy = state !== slotFree && state !== slotDone;
      if (isBusy && queue.get(slot, exportField) === id) return true;
    }
    return false;
  }

  #recordOf(id: number): ExportRecord {
    const record = this.#exports.get(id);
    if (record === undefined) throw new Error(`export ${id} is not there`);
    return record;
  }

  #sharedOf(): SharedByServer {
    if (this.#shared !== undefined) return this.#shared;
    const slots = this.#options.threadsMax * SLOTS_A_THREAD;
    const { payloadMemory, threadsMax, connectionsMax } = this.#options;
    const budget: PayloadBudget = makePayloadBudget(
      payloadMemory,
      threadsMax,
      Math.min(connectionsMax, Math.floor(LAST_PLACES_BYTES_MAX / (threadsMax * LAST_PLACE_BYTES))),
    );
    this.#shared = { work: new SharedArrayBuffer(workBytes(slots)), slots, budget };
    this.#queue = new WorkQueue(this.#shared.work, slots);
    return this.#shared;
  }

  #tell(thread: SessionThread, message: ToSession): void {
    thread.port.postMessage(message);
    ringDoorbell(thread.doorbell);
  }
  #post(helper: HelperThread, message: ToHelper): void {
    helper.port.postMessage(message);
  }
}

/** On four cores and more, connections of one disk are spread over threads. */
const threadsADisk = Math.max(1, Math.min(4, Math.floor(availableParallelism() / 2)));

function fewest<Item>(items: readonly Item[], count: (item: Item) => number): Item | undefined {
  let best: Item | undefined;
  for (const item of items) if (best === undefined || count(item) < count(best)) best = item;
  return best;
}
