/**
 * A disk on an embedder's own thread: the verbs of `disk`, synchronous, through the same gate.
 *
 * @example
 * // main thread
 * runtime.register(worker);
 * worker.postMessage(disk.handle());
 * // worker
 * parentPort.once("message", (handle) => {
 *   const disk = openDisk(handle);
 *   disk.write(new Uint8Array(4096), 0);
 *   disk.close();
 * });
 */
import { threadId } from "node:worker_threads";
import {
  BlockError,
  connectNode,
  EINVAL,
  type Errno,
  errnoName,
  loadDrivers,
  loadSystemCalls,
  type StatusExtent,
} from "@heirloom/block";
import { type DiskAddress, DiskIo } from "./disk-io.ts";
import { EngineError } from "./engine-error.ts";
import { loadNative } from "./native-loading.ts";
import type { Seat } from "./registry.ts";
import { type EngineAddress, ThreadContext } from "./thread-context.ts";

/** What `disk.handle()` returns: can be posted, and opened once. */
export interface DiskHandle {
  readonly engine: EngineAddress;
  readonly seat: Seat;
  readonly arenaCount: number;
  readonly disk: DiskAddress;
}

export class GuestDisk {
  /** The same verbs, answering an errno instead of throwing. */
  readonly io: DiskIo;
  readonly #context: ThreadContext;
  readonly #participant: number;
  #closed = false;

  /** Use `openDisk`. */
  constructor(io: DiskIo, context: ThreadContext, participant: number) {
    this.io = io;
    this.#context = context;
    this.#participant = participant;
  }

  /** Bytes. */
  get length(): number {
    return this.io.length();
  }

  /** Fills `buffer` from `offset` (bytes). @throws BlockError */
  read(buffer: Uint8Array, offset: number): void {
    refuseNoBytes(buffer, "read");
    this.#expect(this.io.read(buffer, offset), "read", offset);
  }
  /** @throws BlockError */
  write(buffer: Uint8Array, offset: number): void {
    refuseNoBytes(buffer, "write");
    this.#expect(this.io.write(buffer, offset), "write", offset);
  }
  /** @throws BlockError */
  discard(offset: number, length: number): void {
    this.#expect(this.io.discard(offset, length), "discard", offset);
  }
  /** @param unmap allows to give the room back @throws BlockError */
  writeZeroes(offset: number, length: number, unmap = false): void {
    this.#expect(this.io.writeZeroes(offset, length, unmap), "write zeroes", offset);
  }
  /** @throws BlockError */
  flush(): void {
    this.#expect(this.io.flush(), "flush", 0);
  }
  /** Whether the bytes from `offset` on are known to be zeroes, and how far. @throws BlockError */
  status(offset: number, length: number): StatusExtent {
    const extent = { length: 0, zero: false, allocated: false };
    this.#expect(this.io.status(offset, length, extent), "block status", offset);
    return extent;
  }

  /** The thread is no guest of the disk any more. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.io.close();
    this.#context.registry.leave(this.#participant);
  }
  [Symbol.dispose](): void {
    this.close();
  }

  #expect(errno: Errno, operation: string, offset: number): void {
    if (errno === 0) return;
    if (this.#closed)
      throw new BlockError("ERR_REQUEST", `${operation}: this disk was closed on this thread`, { errno });
    throw new BlockError("ERR_IO", `${operation} at offset ${offset}: ${errnoName(errno)}`, { offset, errno });
  }
}

/** Another array counts other things than bytes, and a text would be an address to a system call. */
function refuseNoBytes(buffer: unknown, operation: string): void {
  if (buffer instanceof Uint8Array) return;
  throw new BlockError("ERR_REQUEST", `${operation}: the buffer must be a Uint8Array`, { errno: EINVAL });
}

/**
 * Opens a posted disk on this thread, once. The thread must have been registered, so that its end is noticed. Its system calls
 * are loaded by then: a thread that is terminated while it loads them takes the process with it, one that has its disk does not.
 * @throws BlockError with a sentence that says what is missing
 */
export function openDisk(handle: DiskHandle): GuestDisk {
  refuseOther(handle);
  const context = ThreadContext.of(handle.engine);
  if (!context.registry.isRegistered(threadId)) {
    throw new EngineError(
      "ERR_THREAD",
      "open disk: this thread is not registered; call runtime.register(worker) before it is given a disk",
    );
  }
  // Here, and not with the first request: that one is inside the gate.
  loadNative(handle.engine.nativeLoading, loadSystemCalls);
  connectFirst(handle);
  context.arenas.catchUp(handle.arenaCount);
  if (!context.goLive(handle.seat)) {
    throw new EngineError(
      "ERR_THREAD",
      "open disk: this handle was opened before, or its disk was detached; make one with disk.handle() for each thread",
    );
  }
  return new GuestDisk(new DiskIo(handle.disk, context, handle.seat.participant), context, handle.seat.participant);
}

/** Memory that is shared goes with a handle: one that went as text, say, has none. */
function refuseOther(handle: unknown): void {
  const { engine, disk } = Object(handle) as Partial<DiskHandle>;
  if (engine?.registry instanceof SharedArrayBuffer && disk !== undefined) return;
  throw new EngineError("ERR_THREAD", "open disk: expected what disk.handle() gave, as this thread was posted it");
}

/** What cannot be connected here is found before the handle is used up. */
function connectFirst({ disk }: DiskHandle): void {
  try {
    connectNode(disk.node);
    if (disk.lowest !== undefined) connectNode(disk.lowest);
  } catch (error) {
    if (!(error instanceof BlockError && error.code === "ERR_DRIVER_UNKNOWN")) throw error;
    throw new EngineError(
      "ERR_THREAD",
      `open disk: its driver '${error.node}' is not loaded on this thread; await loadDisk(handle) before`,
    );
  }
}

/**
 * Loads on this thread what a disk needs here, system calls and driver modules: before `openDisk`, which is synchronous. A disk
 * over built-in drivers opens without it as well.
 * @throws BlockError
 */
export async function loadDisk(handle: DiskHandle): Promise<void> {
  refuseOther(handle);
  const { disk, engine } = handle;
  loadNative(engine.nativeLoading, loadSystemCalls);
  await loadDrivers(disk.node);
  if (disk.lowest !== undefined) await loadDrivers(disk.lowest);
}
