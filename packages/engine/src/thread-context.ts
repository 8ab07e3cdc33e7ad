/**
 * What a thread has of an engine: the registry, its map of arenas, and the participants that it is. One context per
 * thread and engine, however many disks and jobs the thread serves.
 */
import { threadId } from "node:worker_threads";
import { ArenaMap } from "./arena-map.ts";
import { Registry, type Seat } from "./registry.ts";

/** How a thread finds its engine: goes with every task and every handle. */
export interface EngineAddress {
  readonly registry: SharedArrayBuffer;
  readonly channel: string;
  readonly arenas: readonly SharedArrayBuffer[];
}

export class ThreadContext {
  readonly registry: Registry;
  readonly arenas: ArenaMap;

  private constructor(address: EngineAddress) {
    this.registry = new Registry(address.registry);
    this.arenas = new ArenaMap(this.registry, address.channel, address.arenas);
  }

  static readonly #contexts = new Map<string, ThreadContext>();

  /** This thread's context for an engine; made at the first call. */
  static of(address: EngineAddress): ThreadContext {
    let context = ThreadContext.#contexts.get(address.channel);
    if (context === undefined) ThreadContext.#contexts.set(address.channel, (context = new ThreadContext(address)));
    return context;
  }

  /** Takes a participant's number for this thread; false if another thread took it before. */
  goLive(seat: Seat): boolean {
    return this.registry.goLive(seat, threadId);
  }
}
