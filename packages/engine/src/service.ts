/**
 * A service: a long task whose code is a module of another package, given by file URL, so that the engine imports none of
 * them. It gets what a guest needs: a number of its own in every gate, and disks and views by their addresses.
 *
 * @example
 * // the module
 * export async function serve(thread: ServiceThread): Promise<void> {
 *   const { disk } = thread.options as { disk: PostedDisk };
 *   const io = await thread.disk(disk);
 *   io.write(new Uint8Array(512), 0);
 * }
 * // main thread
 * const { ended } = engine.startService("writer", import.meta.resolve("./writer.js"), { disk: engine.postedDisk(layer) });
 */
import assert from "node:assert";
import type { MessagePort } from "node:worker_threads";
import { connectNode, loadDrivers, type NodeHandle } from "@heirloom/block";
import type { RegionReference } from "./arena.ts";
import { type DiskAddress, DiskIo } from "./disk-io.ts";
import { Gate } from "./gate.ts";
import { gateBytes } from "./gate-layout.ts";
import type { Seat } from "./registry.ts";
import { type EngineAddress, ThreadContext } from "./thread-context.ts";
import { View } from "./view.ts";
import { ViewReader } from "./view-reader.ts";

/** A disk for any thread of the engine's. */
export interface PostedDisk {
  readonly disk: DiskAddress;
  readonly arenaCount: number;
}
/** A point in time for any thread of the engine's. */
export interface PostedView extends PostedDisk {
  readonly view: RegionReference;
  /** Where its movers carry what guests overwrite; undefined where it has none. */
  readonly target: NodeHandle | undefined;
}

export interface ServiceTask {
  readonly engine: EngineAddress;
  readonly seat: Seat;
  readonly module: string;
  readonly options: unknown;
  readonly port: MessagePort;
}

/** What a service module exports as `serve`. */
export type Serve = (thread: ServiceThread) => Promise<void>;

/** The thread of a service. */
export class ServiceThread {
  readonly options: unknown;
  /** To and from whoever started it. */
  readonly port: MessagePort;
  /** Its number in every gate: what its death is told by. */
  readonly participant: number;
  readonly #context: ThreadContext;

  constructor(task: ServiceTask, context: ThreadContext) {
    this.options = task.options;
    this.port = task.port;
    this.participant = task.seat.participant;
    this.#context = context;
  }

  /** This thread becomes a guest of the disk. */
  async disk(posted: PostedDisk): Promise<DiskIo> {
    await this.#load(posted);
    return new DiskIo(posted.disk, this.#context, this.participant);
  }

  async view(posted: PostedView): Promise<ViewReader> {
    await this.#load(posted);
    const view = View.at(posted.view, this.#context.arenas);
    const node = connectNode(posted.disk.node);
    if (posted.target === undefined) return new ViewReader(view, node);
    await loadDrivers(posted.target);
    // A reader that dies in the middle keeps its pin on a slot, for which a drainer would wait: its death breaks the view.
    new Gate(this.#context.arenas.words(posted.disk.gate, gateBytes / 4), this.participant).markServed();
    return new ViewReader(view, node, connectNode(posted.target));
  }

  async #load({ disk, arenaCount }: PostedDisk): Promise<void> {
    await loadDrivers(disk.node);
    if (disk.lowest !== undefined) await loadDrivers(disk.lowest);
    this.#context.arenas.catchUp(arenaCount);
  }
}

export async function serveTask(task: ServiceTask): Promise<void> {
  const context = ThreadContext.of(task.engine);
  assert(context.goLive(task.seat), "a service's number is reserved for it");
  try {
    const { serve } = (await import(task.module)) as { serve: Serve };
    await serve(new ServiceThread(task, context));
  } finally {
    task.port.close();
  }
}
