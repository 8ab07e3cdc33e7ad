/**
 * The engine's threads: two Piscina pools, one for long tasks (movers, I/O servers: a thread each), one for helpers
 * (opening, closing, flushing, folding: whatever blocks for a moment). Threads start when there is work for them.
 *
 * A long task is a participant. When its thread dies, its slots are released only after the thread's `exit` event: before
 * that it may still be in the middle of a write.
 */
import type { MessagePort } from "node:worker_threads";
import { Piscina } from "piscina";
import { nativeLoading, watchStarting } from "./native-loading.ts";
import type { Registry, Seat } from "./registry.ts";
import { Reports } from "./reports.ts";

/** A task ended because its thread did. */
export class ThreadDied extends Error {
  readonly code = "ERR_THREAD_DIED";
  constructor(task: string, cause: unknown) {
    super(`${task}: its thread ended: ${cause instanceof Error ? cause.message : String(cause)}`);
    this.name = "ThreadDied";
    this.cause = cause;
  }
}

/** No thread can be started for a task. */
export class NoThread extends Error {
  readonly code = "ERR_NO_THREAD";
  constructor(task: string, threads: number) {
    super(`${task}: all ${threads} threads are taken; wait until a job ends, or raise the limit of threads`);
    this.name = "NoThread";
  }
}

export interface PoolOptions {
  /** Threads for long tasks at most. */
  readonly threadsMax: number;
  readonly helpersMax: number;
  /** Idle threads end after this. */
  readonly idleTimeoutMs: number;
}

/** What each thread is told when it starts. */
export interface PoolThread {
  readonly nativeLoading: SharedArrayBuffer;
}

/** What becomes of long tasks and their threads, for whoever keeps count. A death is told when its slots are vacated. */
export type ThreadEvent =
  | { readonly type: "taskStarted" }
  | { readonly type: "taskEnded" }
  | { readonly type: "threadDied"; readonly reason: string };

/** What a long task answers: an error that it threw is a value, since the thread lives on. */
export type TaskAnswer<Value> = { readonly value: Value } | { readonly threw: string };

/** A long task: its result, or `ThreadDied` after its thread's exit. Either way its participant's number is vacated. */
export interface LongTask<Result> {
  readonly participant: number;
  readonly ended: Promise<Result>;
}

/** Loading takes some 50 ms, and seconds where every core is taken many times over. */
const loadMsMax = 30_000;

const workerFile: string = new URL("./worker.js", import.meta.url).href;

export class Pool {
  readonly #registry: Registry;
  readonly #options: PoolOptions;
  readonly #vacate: (participant: number, died: boolean) => void;
  readonly #tell: (event: ThreadEvent) => void;
  readonly #onExit: (threadId: number) => void;
  #threads: Piscina | undefined;
  #helpers: Piscina | undefined;
  readonly #exits = new Map<number, Promise<void>>();
  /** What long tasks say before they end. */
  readonly reports: Reports = new Reports();
  /** Threads that have loaded their code, native modules included. */
  readonly #loaded = new Set<number>();
  #longTasks = 0;
  #closed = false;

  /**
   * @param vacate empties a participant's slots; `died` breaks the views of what it served
   * @param onExit told of each thread's exit, before its tasks are
   */
  constructor(
    registry: Registry,
    options: PoolOptions,
    vacate: (participant: number, died: boolean) => void,
    tell: (event: ThreadEvent) => void,
    onExit: (threadId: number) => void,
  ) {
    watchStarting(this.#starting);
    this.#onExit = onExit;
    this.#registry = registry;
    this.#options = options;
    this.#vacate = vacate;
    this.#tell = tell;
  }

  /** Long tasks that have not ended. */
  get longTasks(): number {
    return this.#longTasks;
  }

  /** Threads that exist now. */
  get threads(): number {
    return (this.#threads?.threads.length ?? 0) + (this.#helpers?.threads.length ?? 0);
  }

  /** Whether this many long tasks can start now. */
  canStart(count: number): boolean {
    return !this.#closed && this.#longTasks + count <= this.#options.threadsMax;
  }

  /** Runs a helper's task. Values that it returns are its answer; it throws nothing but `ThreadDied`. */
  async help<Result>(name: string, task: unknown): Promise<Result> {
    this.#helpers ??= this.#makePool(this.#options.helpersMax, Number.POSITIVE_INFINITY);
    try {
      return (await this.#helpers.run(task, { name })) as Result;
    } catch (error) {
      throw new ThreadDied(name, error);
    }
  }

  /** Starts a long task. @param entry of worker.ts @param name for people @throws NoThread at once if there is none for it */
  start<Result>(
    entry: string,
    makeTask: (seat: Seat) => { task: unknown; transfer?: MessagePort[] },
    name: string = entry,
  ): LongTask<Result> {
    if (this.#closed || this.#longTasks >= this.#options.threadsMax) throw new NoThread(name, this.#options.threadsMax);
    const seat = this.#registry.reserve();
    if (seat === undefined) throw new NoThread(name, this.#options.threadsMax);
    const { participant } = seat;
    this.#threads ??= this.#makePool(this.#options.threadsMax, this.#options.threadsMax);
    this.#longTasks++;
    this.#tell({ type: "taskStarted" });
    const { task, transfer } = makeTask(seat);
    const result = this.#threads.run(task, { name: entry, transferList: transfer ?? [] });
    return { participant, ended: this.#follow<Result>(name, participant, result) };
  }

  async #follow<Result>(name: string, participant: number, result: Promise<unknown>): Promise<Result> {
    try {
      const answer = (await this.#unlessItsThreadEnds(participant, result)) as TaskAnswer<Result>;
      if ("threw" in answer) throw new Error(answer.threw); // unwound: nothing of it runs any more
      this.#vacate(participant, false);
      this.#tell({ type: "taskEnded" });
      return answer.value;
    } catch (error) {
      this.#vacate(participant, true);
      this.#tell({ type: "threadDied", reason: `${name}: ${error instanceof Error ? error.message : String(error)}` });
      throw new ThreadDied(name, error);
    } finally {
      this.#longTasks--;
      this.#registry.release(participant);
    }
  }

  /** A task that is given up is over only when its thread is: until then it may be in the middle of a write. */
  async #unlessItsThreadEnds(participant: number, result: Promise<unknown>): Promise<unknown> {
    try {
      return await result;
    } catch (error) {
      const thread = this.#registry.threadOf(participant);
      if (thread !== undefined) await this.#exits.get(thread);
      throw error;
    }
  }

  /**
   * All long tasks must have been told to end. Waits for threads; one in a system call that hangs is left behind after
   * `timeoutMs`, which counts from when all have loaded.
   */
  async close(timeoutMs: number): Promise<boolean> {
    this.#closed = true;
    const pools = [this.#threads, this.#helpers].filter((pool) => pool !== undefined);
    if (!(await this.#allLoaded())) return false;
    const ended = Promise.all(pools.map((pool) => pool.destroy())).then(() => true);
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<boolean>((resolve) => (timer = setTimeout(() => resolve(false), timeoutMs)));
    const inTime = await Promise.race([ended, late]);
    clearTimeout(timer);
    return inTime;
  }

  /**
   * A thread that is ended while it loads a native module takes the process with it: those that start are waited for, for as
   * long as a machine may take that has no core to spare. One that fails to load ends by itself, and is no thread any more.
   * @returns false where one has not loaded after all that time: it is left behind rather than ended
   */
  async #allLoaded(): Promise<boolean> {
    const deadline = performance.now() + loadMsMax;
    while (this.#starting().length > 0) {
      if (performance.now() >= deadline) return false;
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
    return true;
  }

  /** Threads that load. A process that exits waits for them. */
  readonly #starting = (): number[] => {
    const threads = [...(this.#threads?.threads ?? []), ...(this.#helpers?.threads ?? [])];
    return threads.map((thread) => thread.threadId).filter((id) => id > 0 && !this.#loaded.has(id));
  };

  #makePool(maxThreads: number, maxQueue: number): Piscina {
    const pool = new Piscina({
      filename: workerFile,
      workerData: { nativeLoading: nativeLoading() } satisfies PoolThread,
      minThreads: 0,
      maxThreads,
      maxQueue,
      idleTimeout: this.#options.idleTimeoutMs,
      trackUnmanagedFds: false,
      recordTiming: false, // nobody asks for its histogram, which costs more than the rest of a task
      // Threads hardly allocate: without this each keeps up to 48 MiB for what is garbage soon.
      resourceLimits: { maxYoungGenerationSizeMb: 2 },
    });
    pool.on("workerCreate", ({ id }: { readonly id: number }) => {
      this.#noteExits(pool); // of all of them, those that still load included
      this.#loaded.add(id);
    });
    pool.on("message", (message: unknown) => this.reports.take(message));
    pool.on("error", () => {}); // a thread that dies without a task has nobody to tell
    return pool;
  }

  /** The exit of each thread, before it gets its first task. */
  #noteExits(pool: Piscina): void {
    for (const worker of pool.threads) {
      const id = worker.threadId;
      if (id < 0 || this.#exits.has(id)) continue;
      const exit = new Promise<void>((resolve) => {
        worker.once("exit", () => {
          this.#exits.delete(id);
          this.#onExit(id);
          this.#loaded.delete(id);
          resolve();
        });
      });
      this.#exits.set(id, exit);
    }
  }
}
