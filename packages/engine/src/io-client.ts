/**
 * The main thread's side of I/O servers: promises in, batches in shared memory out. The requests of one turn of the event
 * loop go to the server as one batch, and are answered in order.
 */
import { MessageChannel, type MessagePort } from "node:worker_threads";
import { EFAULT, type Errno } from "@heirloom/block";
import * as ring from "./io-ring.ts";
import type { Adoption, IoServerTask } from "./io-server.ts";
import { type LongTask, type Pool, ThreadDied } from "./pool.ts";
import type { EngineAddress } from "./thread-context.ts";

/** An answer that nobody announced is found after this. */
const unannouncedMs = 5;

interface Pending {
  readonly operation: number;
  readonly number: number;
  readonly offset: number;
  readonly length: number;
  readonly flag: number;
  /** Written from, or read into. */
  readonly buffer: Uint8Array | undefined;
  readonly adoption: Adoption | undefined;
  readonly resolve: (errno: Errno) => void;
  readonly reject: (error: unknown) => void;
  /** Where its data lies in the ring of bytes, and how much of that it holds up. */
  place: number;
  taken: number;
  /** There was nothing to write from, or to read into, when its turn came. */
  lost: boolean;
}

/** The memory of its buffer was transferred or resized since it was handed over. */
function hasLost({ buffer, length }: Pending): boolean {
  return buffer !== undefined && buffer.length !== length;
}

/** One request on the ring carries at most this many bytes; longer ones are cut by the caller. */
export const requestBytesMax: number = 1024 * 1024;

export class IoClient {
  readonly #pool: Pool;
  readonly #address: () => EngineAddress;
  #server: { ring: ring.IoRing; task: LongTask<void>; port: MessagePort } | undefined;
  #waiting: Pending[] = [];
  #flying: Pending[] = [];
  #placeNext = 0;
  #bytesFlying = 0;
  #scheduled = false;
  #watching = false;
  /** Keeps the event loop alive while requests fly: `Atomics.waitAsync` does not. */
  #keepAlive: NodeJS.Timeout | undefined;
  readonly #adopted = new Map<number, Adoption>();

  constructor(pool: Pool, address: () => EngineAddress) {
    this.#pool = pool;
    this.#address = address;
  }

  /** Makes a disk or a view known under its number, now and to servers that replace one that died. */
  adopt(adoption: Adoption): void {
    this.#adopted.set(adoption.number, adoption);
    if (this.#server !== undefined)
      void this.#push(ring.operationAdopt, adoption.number, 0, 0, undefined, 0, adoption).catch(() => {});
  }

  /** No request names it any more. Resolves when the server has let go of it. */
  async forget(number: number): Promise<void> {
    if (!this.#adopted.delete(number) || this.#server === undefined) return;
    await this.#push(ring.operationForget, number, 0, 0, undefined, 0).catch(() => 0);
  }

  /** @returns errno; rejects with `ThreadDied` if the server's thread died with the request */
  request(
    operation: number,
    number: number,
    offset: number,
    length: number,
    buffer?: Uint8Array,
    flag = 0,
  ): Promise<Errno> {
    if (this.#server === undefined) this.#start();
    return this.#push(operation, number, offset, length, buffer, flag);
  }

  /** Ends the server when all requests were answered. */
  async close(): Promise<void> {
    const server = this.#server;
    if (server === undefined) return;
    await this.#push(ring.operationClose, 0, 0, 0, undefined, 0).catch(() => 0);
    await server.task.ended.catch(() => {});
  }

  #start(): void {
    const shared = new ring.IoRing();
    const { port1, port2 } = new MessageChannel();
    const task = this.#pool.start<void>("serveIo", (seat) => {
      const message: IoServerTask = { engine: this.#address(), seat, ring: shared.buffer, port: port2 };
      return { task: message, transfer: [port2] };
    });
    port1.unref();
    this.#server = { ring: shared, task, port: port1 };
    task.ended.then(
      () => this.#ended(new ThreadDied("serveIo", "it was closed")),
      (error: unknown) => this.#ended(error),
    );
    for (const adoption of this.#adopted.values()) {
      void this.#push(ring.operationAdopt, adoption.number, 0, 0, undefined, 0, adoption).catch(() => {});
    }
  }

  #ended(error: unknown): void {
    this.#settle();
    const server = this.#server;
    this.#server = undefined;
    if (server !== undefined) {
      server.port.close();
      Atomics.notify(server.ring.words, ring.completedWord); // whoever follows this ring looks, and stops
    }
    const lost = [...this.#flying, ...this.#waiting];
    this.#flying = [];
    this.#waiting = [];
    this.#bytesFlying = 0;
    this.#placeNext = 0;
    this.#stopKeepAlive();
    for (const pending of lost) pending.reject(error);
  }

  #push(
    operation: number,
    number: number,
    offset: number,
    length: number,
    buffer: Uint8Array | undefined,
    flag: number,
    adoption?: Adoption,
  ): Promise<Errno> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({
        operation,
        number,
        offset,
        length,
        flag,
        buffer,
        adoption,
        resolve,
        reject,
        place: 0,
        taken: 0,
        lost: false,
      });
      if (this.#scheduled) return;
      this.#scheduled = true;
      queueMicrotask(() => {
        this.#scheduled = false;
        this.#submit();
      });
    });
  }

  #submit(): void {
    const server = this.#server;
    if (server === undefined) return;
    const { words, numbers, data } = server.ring;
    let submitted = Atomics.load(words, ring.submittedWord);
    let count = 0;
    for (const pending of this.#waiting) {
      if (this.#flying.length >= ring.ringEntries || !this.#place(pending)) break;
      const at = ((submitted >>> 0) % ring.ringEntries) * ring.entryNumbers;
      pending.lost = hasLost(pending);
      // It keeps its place among the others, and moves nothing.
      numbers[at] = pending.lost ? ring.operationRead : pending.operation;
      numbers[at + 1] = pending.number;
      numbers[at + 2] = pending.offset;
      numbers[at + 3] = pending.lost ? 0 : pending.length;
      numbers[at + 4] = pending.place;
      numbers[at + 5] = pending.flag;
      if (pending.adoption !== undefined) server.port.postMessage(pending.adoption);
      if (pending.operation === ring.operationWrite && pending.buffer !== undefined && !pending.lost)
        data.set(pending.buffer, pending.place);
      this.#flying.push(pending);
      submitted = (submitted + 1) | 0;
      count++;
    }
    if (count === 0) return;
    this.#waiting.splice(0, count);
    Atomics.store(words, ring.submittedWord, submitted);
    Atomics.notify(words, ring.submittedWord);
    this.#keepAlive ??= setInterval(() => {}, 2 ** 30);
    this.#watch();
  }

  /** Finds room for the data in the ring of bytes: requests end in order, so what flies is one stretch of it. */
  #place(pending: Pending): boolean {
    const length = pending.buffer?.length ?? 0;
    if (length === 0) return true;
    let start = this.#placeNext;
    let taken = length;
    if (start + length > ring.dataBytes) {
      taken += ring.dataBytes - start; // the tail stays unused until this request has ended
      start = 0;
    }
    if (this.#bytesFlying + taken > ring.dataBytes) return false;
    pending.place = start;
    this.#bytesFlying += taken;
    pending.taken = taken;
    this.#placeNext = start + length;
    return true;
  }

  #watch(): void {
    const server = this.#server;
    if (this.#watching || server === undefined) return;
    this.#watching = true;
    void this.#follow(server.ring);
  }

  async #follow(shared: ring.IoRing): Promise<void> {
    while (this.#server?.ring === shared && this.#flying.length > 0) {
      const completed = Atomics.load(shared.words, ring.completedWord);
      if (this.#settle() > 0) {
        this.#submit();
        continue;
      }
      // Bounded: answers are announced by the batch, and one of another disk may hang behind those that are in.
      const wait = Atomics.waitAsync(shared.words, ring.completedWord, completed, unannouncedMs);
      if (wait.async) await wait.value;
    }
    this.#watching = false;
    if (this.#server !== undefined && this.#flying.length > 0) this.#watch();
    if (this.#flying.length === 0) this.#stopKeepAlive();
  }

  /** Answers what the server has completed. @returns how many */
  #settle(): number {
    const server = this.#server;
    if (server === undefined) return 0;
    const { words, data } = server.ring;
    const completed = Atomics.load(words, ring.completedWord);
    const first = (Atomics.load(words, ring.submittedWord) - this.#flying.length) | 0;
    const count = (completed - first) | 0;
    for (let index = 0; index < count; index++) {
      const pending = this.#flying[index];
      let errno = Atomics.load(words, ring.errnoStart + ((((first + index) | 0) >>> 0) % ring.ringEntries));
      const reads = pending.operation === ring.operationRead || pending.operation === ring.operationReadView;
      if (pending.lost || (reads && hasLost(pending))) errno = EFAULT;
      if (reads && errno === 0 && pending.buffer !== undefined) {
        pending.buffer.set(data.subarray(pending.place, pending.place + pending.length));
      }
      this.#bytesFlying -= pending.taken;
      pending.resolve(errno);
    }
    this.#flying.splice(0, count);
    if (this.#flying.length === 0) this.#placeNext = 0;
    return count;
  }

  #stopKeepAlive(): void {
    clearInterval(this.#keepAlive);
    this.#keepAlive = undefined;
  }
}
