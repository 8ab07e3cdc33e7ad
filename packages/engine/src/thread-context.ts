/**
 * What a thread has of an engine: the registry, its map of arenas, and the participants that it is. One context per
 * thread and engine, however many disks and jobs the thread serves.
 */
import assert from "node:assert";
import { threadId } from "node:worker_threads";
import { ArenaMap } from "./arena-map.ts";
import { Registry, type Seat } from "./registry.ts";
import { type GuardModule, loadGuardModule } from "./write-guard.ts";

/** How a thread finds its engine: goes with every task and every handle. */
export interface EngineAddress {
  readonly registry: SharedArrayBuffer;
  readonly channel: string;
  readonly arenas: readonly SharedArrayBuffer[];
  /** See native-loading.ts. */
  readonly nativeLoading: SharedArrayBuffer;
  /** File URL of what guards disks whose bitmaps are kept. */
  readonly guardModule: string | undefined;
}

export class ThreadContext {
  readonly registry: Registry;
  readonly arenas: ArenaMap;
  readonly #guardModule: string | undefined;
  #guards: GuardModule | undefined;

  private constructor(address: EngineAddress) {
    this.#guardModule = address.guardModule;
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

  /** Whether this thread has what makes guards; see `loadGuards`. */
  get guards(): GuardModule | undefined {
    return this.#guards;
  }
  /** Outside of every gate. */
  loadGuards(): void {
    assert(this.#guardModule !== undefined, "a table has guards only where the engine was given their module");
    this.#guards = loadGuardModule(this.#guardModule);
  }

  /** Takes a participant's number for this thread; false if another thread took it before. */
  goLive(seat: Seat): boolean {
    return this.registry.goLive(seat, threadId);
  }
}
