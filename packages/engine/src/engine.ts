/**
 * The data plane, for the coordinator: arenas, registry, pools, stacks and their transitions. It decides nothing: what is
 * frozen when and what becomes of a bitmap is the control plane's.
 */
import assert from "node:assert";
import { randomUUID } from "node:crypto";
import { BroadcastChannel, MessageChannel, type MessagePort, Worker } from "node:worker_threads";
import type { SharedBitmap } from "@heirloom/bitmap";
import { type Errno, type ImageUse, type NodeHandle, type NodeSpec, noteReopened } from "@heirloom/block";
import { Arenas } from "./arena.ts";
import type { ArenaAnnouncement, ArenaQuestion } from "./arena-map.ts";
import { EngineError } from "./engine-error.ts";
import { EngineView, type EngineParts, type EngineViewOptions } from "./engine-view.ts";
import { slotWord, kibibytesField, requestsField } from "./gate-layout.ts";
import { isAside, vacate } from "./gatekeeper.ts";
import type { OpenedNode } from "./helper-tasks.ts";
import { counterBytes, type IoCounts, readCounters } from "./io-counters.ts";
import { IoClient } from "./io-client.ts";
import { nativeLoading, tellEnded } from "./native-loading.ts";
import type { DiskHandle } from "./open-disk.ts";
import type { FoundSpill, KeptSpill, MakeSpillTask, OpenSpillTask } from "./kept-spill.ts";
import { type LongTask, Pool, type ThreadEvent } from "./pool.ts";
import { type KeptRecorder, Recorder } from "./recorder.ts";
import {
  participantCapacity,
  participantGone,
  participantLive,
  participantReserved,
  Registry,
  type Seat,
  threadCapacity,
} from "./registry.ts";
import type { PostedDisk, PostedView, ServiceTask } from "./service.ts";
import { snapshotSpec, type SnapshotOptions } from "./snapshot-spec.ts";
import type { SpillFileOptions } from "./spill-keeper.ts";
import { type Layer, Stack } from "./stack.ts";
import { type TaskResult, unwrap } from "./task-result.ts";
import type { EngineAddress } from "./thread-context.ts";
import { Transitions } from "./transition.ts";
import { brokenThreadDied } from "./view-layout.ts";
import { zeroMemory } from "./zero-memory.ts";

export interface EngineOptions {
  /** Threads for jobs and for the main thread's I/O at most; 256 by default. */
  readonly threadsMax?: number;
  /** Threads that open, close, flush at most; 16 by default: one that hangs in a device must not keep the others. */
  readonly helpersMax?: number;
  /** Threads that serve the main thread's I/O at most; a disk stays with one of them. 2 by default. */
  readonly ioThreadsMax?: number;
  /** Threads without work end after this, milliseconds; 10 s by default. */
  readonly idleTimeoutMs?: number;
  /** File URL of what guards disks whose bitmaps are kept (write-guard.ts). */
  readonly guardModule?: string;
}

/** Between two looks whether threads that stood aside are back. */
const asideLookMs = 2;

/** Granules of a bitmap that is folded on the main thread at most: a few milliseconds if all are dirty. */
const foldHereMax = 2 ** 22;

/** A thread is gone that had served these layers; views of them are broken. */
export type DeathListener = (layers: readonly Layer[]) => void;
/** A thread has ended, in whatever way: nothing of it runs any more. */
export type ExitListener = (threadId: number) => void;

export class Engine {
  readonly arenas: Arenas;
  readonly registry: Registry = new Registry();
  readonly pool: Pool;
  readonly transitions: Transitions;
  readonly #channel: BroadcastChannel;
  readonly #channelName = `heirloom-${randomUUID()}`;
  readonly #stacks = new Set<Stack>();
  readonly #ioThreadsMax: number;
  readonly #ioClients: IoClient[] = [];
  readonly #ioOf = new Map<number, IoClient>();
  readonly #handles = new Map<number, { readonly seat: Seat; readonly layer: Layer }>();
  readonly #parts: EngineParts;
  #onDeath: DeathListener = () => {};
  readonly #exitListeners = new Set<ExitListener>();
  readonly #guardModule: string | undefined;
  #nextNumber = 1;

  /** @param onThread told of long tasks and of deaths */
  constructor(options: EngineOptions = {}, onThread: (event: ThreadEvent) => void = () => {}) {
    this.#channel = new BroadcastChannel(this.#channelName);
    this.#channel.onmessage = (event: unknown) =>
      this.#answer((event as { data: ArenaAnnouncement | ArenaQuestion }).data);
    this.#channel.unref();
    this.arenas = new Arenas((arena, buffer) => this.#announce([{ arena, buffer }], arena + 1));
    this.#ioThreadsMax = options.ioThreadsMax ?? 2;
    const { threadsMax = 256, helpersMax = 16, idleTimeoutMs = 10_000 } = options;
    const vacateSlots = (participant: number, died: boolean): void => this.#vacate(participant, died);
    this.#guardModule = options.guardModule;
    this.pool = new Pool(this.registry, { threadsMax, helpersMax, idleTimeoutMs }, vacateSlots, onThread, (threadId) =>
      this.#tellExit(threadId),
    );
    this.transitions = new Transitions(this.registry);
    this.#parts = {
      arenas: this.arenas,
      pool: this.pool,
      address: () => this.address(),
      noneAside: (layer) => this.noneAside(layer),
    };
  }

  address(): EngineAddress {
    return {
      registry: this.registry.buffer,
      channel: this.#channelName,
      arenas: this.arenas.buffers,
      nativeLoading: nativeLoading(),
      guardModule: this.#guardModule,
    };
  }

  /** Told after a thread's exit, when its slots are vacated and the views of what it served are broken. */
  onDeath(listener: DeathListener): void {
    this.#onDeath = listener;
  }

  /** Told of every thread's exit: the pool's, helpers included, and registered ones. @returns what ends that */
  onExit(listener: ExitListener): () => void {
    this.#exitListeners.add(listener);
    return () => this.#exitListeners.delete(listener);
  }

  /** Resolves when every thread that stands aside with memory of this stack's earlier tables has come back, or ended. */
  async noneAside({ stack }: Layer): Promise<void> {
    for (let participant = 0; participant < this.registry.participantMax; participant++) {
      while (isAside(stack.words, participant)) await delay(asideLookMs);
    }
  }

  /** Runs an export of another package's module on a helper thread. @throws ThreadDied, or what the module threw, as an error */
  async helpWith<Result>(module: string, name: string, task: unknown): Promise<Result> {
    return await this.pool.help<Result>("moduleTask", { module, name, task });
  }

  /** @throws BlockError */
  async openNode(spec: NodeSpec): Promise<OpenedNode> {
    return unwrap(await this.pool.help<TaskResult<OpenedNode>>("openTask", { spec }));
  }
  /** No thread uses the node any more. */
  async closeNode(handle: NodeHandle): Promise<void> {
    unwrap(await this.pool.help<TaskResult<void>>("closeTask", { handle }));
  }
  /** Of a file node that was opened with `locking: 'off'`. @throws BlockError; then what was locked before still is */
  async lockNode(handle: NodeHandle, before: ImageUse, after: ImageUse): Promise<void> {
    unwrap(await this.pool.help<TaskResult<void>>("lockTask", { handle, before, after }));
  }
  /** Opens a node anew, for writing or reading only; threads that have it go on. @throws BlockError; then it is as it was */
  async reopenNode(handle: NodeHandle, readOnly: boolean, use: ImageUse): Promise<void> {
    unwrap(await this.pool.help<TaskResult<void>>("reopenTask", { handle, readOnly, use }));
  }
  /** Whoever opens the layer from here on finds it so, the main thread's own I/O included. */
  async reopened(layer: Layer, readOnly: boolean): Promise<void> {
    noteReopened(layer.node, readOnly);
    const io = this.#ioOf.get(layer.id);
    this.#ioOf.delete(layer.id);
    await io?.forget(layer.id);
  }
  /** Of a node that no thread changes any more, and that a thread which hangs keeps from being closed. */
  async unlockNode(handle: NodeHandle): Promise<void> {
    unwrap(await this.pool.help<TaskResult<void>>("unlockTask", { handle }));
  }
  async flushNode(handle: NodeHandle): Promise<Errno> {
    return unwrap(await this.pool.help<TaskResult<Errno>>("flushTask", { handle }));
  }
  async resizeNode(handle: NodeHandle, length: number): Promise<Errno> {
    return unwrap(await this.pool.help<TaskResult<Errno>>("resizeTask", { handle, length }));
  }
  /** Cuts ranges at borders of data and zeroes; see `statusTask`. */
  async nodeStatus(handle: NodeHandle, ranges: Float64Array): Promise<Float64Array> {
    return unwrap(await this.pool.help<TaskResult<Float64Array>>("statusTask", { handle, ranges }));
  }

  /** A spill file that outlives the process. @throws EngineError */
  async makeSpill(task: MakeSpillTask): Promise<KeptSpill> {
    return unwrap(await this.pool.help<TaskResult<KeptSpill>>("makeSpillTask", task));
  }
  /** One that an earlier process left. @throws EngineError where it is of no use */
  async openSpill(task: OpenSpillTask): Promise<FoundSpill> {
    return unwrap(await this.pool.help<TaskResult<FoundSpill>>("openSpillTask", task));
  }
  /** @returns errno */
  async syncFile(fd: number): Promise<Errno> {
    return unwrap(await this.pool.help<TaskResult<Errno>>("syncFileTask", { fd }));
  }
  /** One that no view uses, or that its view has closed. */
  async removeSpill({ path, fd }: Pick<KeptSpill, "path"> & { readonly fd: number | undefined }): Promise<void> {
    await this.pool.help<TaskResult<void>>("removeSpillTask", { path, fd });
  }

  /** A disk on a stack of its own, or as a window on the stack of one that is attached. */
  addLayer(
    opened: OpenedNode,
    under?: { readonly layer: Layer; readonly offset: number },
    snapshotOf?: EngineView,
  ): Layer {
    const stack = under === undefined ? new Stack(this.arenas) : under.layer.stack;
    this.#stacks.add(stack);
    const layer: Layer = {
      id: this.#nextNumber++,
      stack,
      node: opened.handle,
      base: under === undefined ? 0 : under.layer.base + under.offset,
      table: { length: opened.length, recorders: [], views: [] },
      counters: this.arenas.allocate(counterBytes(participantCapacity)),
      snapshotOf,
    };
    stack.layers.set(layer.id, layer);
    if (under === undefined) stack.commit(stack.prepare(new Map())); // nobody knows the gate yet: no transition
    return layer;
  }

  /** The disk has no recorders and no views left, and nobody writes it. */
  async removeLayer(layer: Layer): Promise<void> {
    assert(layer.table.recorders.length === 0 && layer.table.views.length === 0, "a layer leaves the table first");
    await this.#ioOf.get(layer.id)?.forget(layer.id);
    this.#ioOf.delete(layer.id);
    layer.stack.layers.delete(layer.id);
    const { buffer, byteOffset, byteLength } = layer.counters;
    zeroMemory(buffer, byteOffset, byteLength);
    this.arenas.free(layer.counters);
    if (layer.stack.layers.size > 0) return;
    this.#stacks.delete(layer.stack);
    layer.stack.free();
  }

  recorder(length: number, granularity: number, kept?: KeptRecorder): Recorder {
    return Recorder.create(this.arenas, length, granularity, kept);
  }

  /** Joins the bits of `from` into `into` while guests go on. Small ones are done when this returns. */
  fold(into: SharedBitmap, from: SharedBitmap): Promise<void> | undefined {
    if (from.granules <= foldHereMax) {
      into.fold(from);
      return undefined;
    }
    return this.pool
      .help<TaskResult<void>>("foldTask", { into: into.handle, from: from.handle })
      .then(unwrap)
      .catch(() => into.fold(from)); // the helper died, or failed: bits are only ever set, so it is done again
  }

  view(
    layer: Layer,
    options: EngineViewOptions,
    set: Recorder | undefined,
    spill: SpillFileOptions,
    onSpillRefused: (error: Error) => void,
  ): EngineView {
    return new EngineView(this.#parts, layer, options, set, spill, onSpillRefused);
  }

  /** The ring that serves a disk for the main thread. */
  io(layer: Layer): IoClient {
    let client = this.#ioOf.get(layer.id);
    if (client !== undefined) return client;
    if (this.#ioClients.length < this.#ioThreadsMax) {
      client = new IoClient(this.pool, () => this.address());
      this.#ioClients.push(client);
    } else client = this.#ioClients[layer.id % this.#ioClients.length];
    this.#ioOf.set(layer.id, client);
    client.adopt({ kind: "disk", number: layer.id, ...this.postedDisk(layer) });
    return client;
  }

  /** Lets the main thread read a view. @returns the number to ask the disk's ring for */
  adoptView(view: EngineView): number {
    const number = this.#nextNumber++;
    const { layer, memory } = view;
    this.io(layer).adopt({
      kind: "view",
      number,
      ...this.postedDisk(layer),
      view: { arena: memory.region.arena, byteOffset: memory.region.byteOffset },
      target: view.target,
    });
    return number;
  }

  postedDisk(layer: Layer): PostedDisk {
    return { disk: layer.stack.address(layer), arenaCount: this.arenas.buffers.length };
  }
  postedView({ layer, memory, target }: EngineView): PostedView {
    const { arena, byteOffset } = memory.region;
    return { ...this.postedDisk(layer), view: { arena, byteOffset }, target };
  }

  /** The specification of a node that reads the view: to be attached as a disk that is gone before the view is released. */
  snapshotSpec({ layer, memory, target }: EngineView, options: SnapshotOptions): NodeSpec {
    return snapshotSpec(layer.node, memory, this.arenas.buffers, target, options);
  }

  /**
   * Starts a long task whose code is another package's module (service.ts). What is posted to `port` reaches the service at
   * its own time: it is taken, not delivered.
   * @param options structured-cloneable @throws NoThread
   */
  startService(
    name: string,
    module: string,
    options: unknown,
  ): { readonly task: LongTask<void>; readonly port: MessagePort } {
    const { port1, port2 } = new MessageChannel();
    try {
      const task = this.pool.start<void>(
        "service",
        (seat) => {
          const message: ServiceTask = { engine: this.address(), seat, module, options, port: port2 };
          return { task: message, transfer: [port2] };
        },
        name,
      );
      return { task, port: port1 };
    } catch (error) {
      port1.close();
      throw error;
    }
  }

  /** Follows an embedder's thread: its end is then the death of the guest that it is. */
  register(worker: Worker): void {
    if (!(worker instanceof Worker))
      throw new EngineError("ERR_THREAD", "register thread: expected a Worker of node:worker_threads");
    const { threadId } = worker;
    if (threadId <= 0) throw new EngineError("ERR_THREAD", "register thread: it has ended already");
    if (this.registry.isRegistered(threadId)) return;
    if (!this.registry.registerThread(threadId)) {
      throw new EngineError(
        "ERR_THREAD",
        `register thread: ${threadCapacity} threads are registered, the most that can be`,
      );
    }
    worker.once("exit", () => {
      this.registry.unregisterThread(threadId);
      this.#tellExit(threadId);
      tellEnded(threadId);
      for (const participant of this.#handles.keys()) {
        if (this.registry.threadOf(participant) !== threadId) continue;
        const gone = this.registry.state(participant) === participantGone;
        this.#vacate(participant, !gone);
        this.registry.release(participant);
        this.#handles.delete(participant);
      }
    });
  }

  /** A disk for one thread of the embedder's. */
  handle(layer: Layer): DiskHandle {
    this.#reclaimClosedHandles();
    const seat = this.registry.reserve();
    if (seat === undefined) {
      const message = `disk handle: all ${participantCapacity} handles and threads are in use; close a handle that is not needed`;
      throw new EngineError("ERR_THREAD", message);
    }
    this.#handles.set(seat.participant, { seat, layer });
    return {
      engine: this.address(),
      seat,
      arenaCount: this.arenas.buffers.length,
      disk: layer.stack.address(layer),
    };
  }

  /** Handles of a disk that were not closed: posted, or open on a thread. */
  openHandles(layer: Layer): number {
    this.#reclaimClosedHandles();
    let count = 0;
    for (const handle of this.#handles.values()) if (handle.layer === layer) count++;
    return count;
  }

  /** Takes back a handle that nobody has opened. False if a thread has. */
  revokeUnopened(layer: Layer): boolean {
    let all = true;
    for (const [participant, handle] of this.#handles) {
      if (handle.layer !== layer) continue;
      if (this.registry.revoke(handle.seat)) {
        this.registry.release(participant);
        this.#handles.delete(participant);
      } else all = false;
    }
    return all;
  }

  /** Guest requests and bytes of a disk's stack so far, of those who are its guests now. */
  traffic(layer: Layer): { requests: number; bytes: number } {
    let requests = 0;
    let kibibytes = 0;
    for (let participant = 0; participant < this.registry.participantMax; participant++) {
      requests += layer.stack.words[slotWord(participant, requestsField)] >>> 0;
      kibibytes += layer.stack.words[slotWord(participant, kibibytesField)] >>> 0;
    }
    return { requests, bytes: kibibytes * 1024 };
  }

  /** What has gone through a disk since it was attached. */
  counts({ counters }: Layer): IoCounts {
    // Of numbers that nobody has had yet the lines are zero.
    return readCounters(counters.buffer, counters.byteOffset, this.registry.participantMax);
  }

  /** Everything was detached. @returns false if a thread hangs and was left behind */
  async close(timeoutMs = 2000): Promise<boolean> {
    await Promise.race([Promise.all(this.#ioClients.map((client) => client.close())), delay(timeoutMs)]);
    const inTime = await this.pool.close(timeoutMs);
    this.#channel.close();
    return inTime;
  }

  #reclaimClosedHandles(): void {
    for (const participant of this.#handles.keys()) {
      const state = this.registry.state(participant);
      if (state === participantLive || state === participantReserved) continue;
      this.#vacate(participant, false);
      this.registry.release(participant);
      this.#handles.delete(participant);
    }
  }

  #vacate(participant: number, died: boolean): void {
    const layers: Layer[] = [];
    for (const stack of this.#stacks) {
      const { served } = vacate(stack.words, participant);
      if (!died || !served) continue;
      for (const layer of stack.layers.values()) {
        layers.push(layer);
        for (const view of layer.table.views) view.view.break(brokenThreadDied);
        layer.snapshotOf?.memory.view.break(brokenThreadDied); // it may have died with a pin (spill.ts)
      }
    }
    if (died && layers.length > 0) this.#onDeath(layers);
  }

  #tellExit(threadId: number): void {
    for (const listener of this.#exitListeners) listener(threadId);
  }

  #announce(arenas: ArenaAnnouncement["arenas"], count: number): void {
    const message: ArenaAnnouncement = { arenas };
    this.#channel.postMessage(message);
    this.registry.arenaCount = count;
  }

  #answer(message: ArenaAnnouncement | ArenaQuestion): void {
    if (!("missingArenas" in message)) return;
    this.#announce(
      this.arenas.buffers.map((buffer, arena) => ({ arena, buffer })),
      this.arenas.buffers.length,
    );
  }
}

function delay(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds).unref());
}
