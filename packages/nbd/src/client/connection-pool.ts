/**
 * Several connections to one export as one: requests wait here in order, go to the connection with the fewest on their
 * way, and are asked again where a connection broke under them.
 *
 * - Asking again is safe for one request at a time, as all commands of the protocol say "make it so". What a caller has on
 *   its way at once has no order anyway.
 * - A request outlives broken connections for `reconnectDelayMs` from the first break on. With 0 it fails with the
 *   connection; one that begins without a connection is good for one attempt at a new one.
 * - Another connection must find the same export: one whose length changed is another disk.
 * - What the server had acknowledged and no flush had covered is lost if it was the server that went. Nobody here can
 *   know, so the next flush fails (`takeLoss`), once, as fsync does on Linux. And a flush goes over every connection that
 *   carried changes: only its own answer proves that the server which acknowledged them is still the same.
 */
import {
  CMD_FLAG_FUA,
  CMD_TRIM,
  CMD_WRITE,
  CMD_WRITE_ZEROES,
  FLAG_READ_ONLY,
  FLAG_ROTATIONAL,
} from "../protocol/constants.ts";
import { NbdError } from "../protocol/nbd-error.ts";
import type { Connection, ConnectionOwner } from "./connection.ts";
import type { Agreement } from "./handshake.ts";
import type { PendingRequest } from "./pending-request.ts";

export interface PoolOptions {
  readonly connectionsMax: number;
  readonly requestsInFlightMax: number;
  readonly reconnectDelayMs: number;
  /** Makes a connection. */
  readonly connect: (owner: ConnectionOwner) => Promise<Connection>;
}

interface Waiting {
  readonly request: PendingRequest;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
  /** After it no new connection is waited for; set when the request first lacks one. */
  deadline: number | undefined;
  connection: Connection | undefined;
  /** The caller has given it up, and only waits to have its buffer back. */
  aborted: boolean;
}

const RETRY_FIRST_MS = 50;
const RETRY_LAST_MS = 1000;

export class ConnectionPool implements ConnectionOwner {
  readonly agreement: Agreement;
  readonly #options: PoolOptions;
  readonly #live: Set<Connection> = new Set();
  readonly #waiting: Waiting[] = [];
  readonly #running: Map<PendingRequest, Waiting> = new Map();
  #connecting = false;
  /** Connections beyond the first are no need: one that was refused is not asked for at every request. */
  #moreNotBefore = 0;
  #closed: NbdError | undefined;
  #retryTimer: { readonly timer: NodeJS.Timeout; readonly wake: () => void } | undefined;
  readonly #whenIdle: (() => void)[] = [];
  #changesLost = false;

  private constructor(agreement: Agreement, options: PoolOptions) {
    this.agreement = agreement;
    this.#options = options;
  }

  /** @throws NbdError where the first connection fails; others may fail later, when they are needed */
  static async open(
    options: (agreement: Agreement) => PoolOptions,
    first: (owner: ConnectionOwner) => Promise<Connection>,
  ): Promise<ConnectionPool> {
    // Before there is a pool there is nothing on its way that could be answered or break.
    const made: { pool?: ConnectionPool } = {};
    const connection = await first({
      answered: (answering, request) => made.pool?.answered(answering, request),
      broken: (breaking, error, unanswered) => made.pool?.broken(breaking, error, unanswered),
    });
    made.pool = new ConnectionPool(connection.agreement, options(connection.agreement));
    if (connection.usable) made.pool.#live.add(connection);
    return made.pool;
  }

  get connections(): number {
    return this.#live.size;
  }

  /** Sends a request when its turn comes; resolves with its answer, which may be an error of the server's. */
  submit(request: PendingRequest, signal: AbortSignal | undefined): Promise<void> {
    return this.#submit(request, signal, undefined);
  }

  /** Sends what `make` makes over every connection that has changes to cover, or over any; resolves with the answers. */
  async flush(make: () => PendingRequest, signal: AbortSignal | undefined): Promise<readonly PendingRequest[]> {
    const dirty = [...this.#live].filter(({ usable, changes, changesCovered }) => usable && changes !== changesCovered);
    const each = dirty.length === 0 ? [undefined] : dirty;
    return await Promise.all(
      each.map(async (connection) => {
        const request = make();
        const covered = connection?.changes ?? 0;
        await this.#submit(request, signal, connection);
        if (connection !== undefined && request.errno === 0) connection.changesCovered = covered;
        return request;
      }),
    );
  }

  /** Whether changes went with a connection since the last time; then no flush may be told as a success. */
  takeLoss(): boolean {
    const lost = this.#changesLost;
    this.#changesLost = false;
    return lost;
  }

  /** `first`: the connection that it goes over at once, unless that breaks. */
  #submit(request: PendingRequest, signal: AbortSignal | undefined, first: Connection | undefined): Promise<void> {
    return new Promise<void>((resolve, reject) => {
      if (this.#closed !== undefined) {
        reject(this.#closed);
        return;
      }
      if (signal?.aborted === true) {
        reject(signal.reason as Error);
        return;
      }
      const abort = (): void => this.#abort(waiting, signal?.reason as Error);
      const end = (): void => signal?.removeEventListener("abort", abort);
      const waiting: Waiting = {
        request,
        resolve: () => (end(), resolve()),
        reject: (error) => (end(), reject(error)),
        deadline: undefined,
        connection: undefined,
        aborted: false,
      };
      signal?.addEventListener("abort", abort, { once: true });
      if (first !== undefined) {
        this.#send(waiting, first);
        return;
      }
      this.#waiting.push(waiting);
      this.#pump();
    });
  }

  /** No new requests; resolves when those that are there are answered and the server was told, within `goodbyeMs`. */
  async close(goodbyeMs: number): Promise<void> {
    this.#closed ??= new NbdError("ERR_NBD_CLOSED", "the NBD client is closed");
    if (this.#running.size + this.#waiting.length > 0) {
      await new Promise<void>((resolve) => this.#whenIdle.push(resolve));
    }
    const leaving = [...this.#live];
    for (const connection of leaving) connection.leave();
    const timer = setTimeout(() => this.destroy(), goodbyeMs);
    await Promise.all(leaving.map(({ ended }) => ended));
    clearTimeout(timer);
  }

  /** Ends everything at once; what is on its way fails with `error`. */
  destroy(error: NbdError = new NbdError("ERR_NBD_CLOSED", "the NBD client was closed")): void {
    this.#closed ??= error;
    for (const waiting of this.#waiting.splice(0)) waiting.reject(this.#closed);
    for (const connection of this.#live) connection.break(this.#closed);
    this.#retryTimer?.wake();
    this.#lookWhetherIdle();
  }

  answered(connection: Connection, request: PendingRequest): void {
    const waiting = this.#running.get(request);
    if (waiting === undefined) {
      this.#pump(); // one that was given up has made room
      return;
    }
    this.#running.delete(request);
    request.contexts = connection.agreement.contexts;
    if (request.errno === 0 && isChange(request)) connection.changes++;
    waiting.resolve();
    this.#pump();
    this.#lookWhetherIdle();
  }

  broken(connection: Connection, error: NbdError, unanswered: readonly PendingRequest[]): void {
    this.#live.delete(connection);
    if (connection.changes !== connection.changesCovered) this.#changesLost = true;
    const deadline = performance.now() + this.#options.reconnectDelayMs;
    const again: Waiting[] = [];
    for (const request of unanswered) {
      const waiting = this.#running.get(request);
      if (waiting === undefined) continue;
      this.#running.delete(request);
      request.sent?.();
      request.sent = undefined;
      if (waiting.aborted) continue;
      waiting.connection = undefined;
      waiting.deadline ??= deadline;
      if (this.#isFinal(error) || waiting.deadline <= performance.now()) {
        waiting.reject(error);
      } else {
        request.reset();
        again.push(waiting);
      }
    }
    this.#waiting.unshift(...again);
    this.#pump();
    this.#lookWhetherIdle();
  }

  /** A peer that broke the protocol once does it again; and nobody waits for one that was left. */
  #isFinal(error: NbdError): boolean {
    return this.#closed !== undefined || error.code === "ERR_NBD_PROTOCOL" || error.code === "ERR_NBD_CLOSED";
  }

  #abort(waiting: Waiting, reason: Error): void {
    const { request, connection } = waiting;
    const index = this.#waiting.indexOf(waiting);
    if (index >= 0) {
      this.#waiting.splice(index, 1);
      waiting.reject(reason);
    } else if (request.type !== CMD_WRITE) {
      connection?.abandon(request);
      this.#forget(waiting, reason);
    } else if (request.sent === undefined) {
      this.#forget(waiting, reason);
    } else {
      // The socket still reads the caller's buffer, so the caller must not have it back yet.
      waiting.aborted = true;
      request.sent = () => this.#forget(waiting, reason);
    }
  }

  /** The caller hears the reason; the server's answer, when it comes, is for nobody. */
  #forget(waiting: Waiting, reason: Error): void {
    this.#running.delete(waiting.request);
    waiting.reject(reason);
    this.#lookWhetherIdle();
  }

  #pump(): void {
    while (this.#waiting.length > 0) {
      const connection = this.#leastBusy();
      if (connection === undefined) break;
      this.#send(this.#waiting.shift() as Waiting, connection);
    }
    // All that are there are busy, or there are none.
    if (this.#waiting.length > 0) this.#connectIfMissing();
  }

  #send(waiting: Waiting, connection: Connection): void {
    waiting.connection = connection;
    this.#running.set(waiting.request, waiting);
    // A write's buffer is the socket's until it calls this.
    if (waiting.request.type === CMD_WRITE) waiting.request.sent = () => undefined;
    connection.send(waiting.request);
  }

  #leastBusy(): Connection | undefined {
    let found: Connection | undefined;
    for (const connection of this.#live) {
      if (!connection.usable || connection.inFlight >= this.#options.requestsInFlightMax) continue;
      if (found === undefined || connection.inFlight < found.inFlight) found = connection;
    }
    return found;
  }

  #connectIfMissing(): void {
    if (this.#connecting || this.#live.size >= this.#options.connectionsMax) return;
    if (this.#live.size > 0 && performance.now() < this.#moreNotBefore) return;
    this.#connecting = true;
    void this.#connect().finally(() => {
      this.#connecting = false;
      this.#lookWhetherIdle();
    });
  }

  /** Until the pool has what it may have, or nobody waits any more. */
  async #connect(): Promise<void> {
    let pause = RETRY_FIRST_MS;
    while (this.#waiting.length > 0 && this.#live.size < this.#options.connectionsMax) {
      const begun = performance.now();
      try {
        const connection = await this.#options.connect(this);
        if (this.#closed !== undefined && this.#waiting.length === 0) {
          connection.leave();
          return;
        }
        this.#checkSame(connection);
        if (connection.usable) this.#live.add(connection);
        pause = RETRY_FIRST_MS;
        this.#pump();
      } catch (error) {
        if (!(error instanceof NbdError)) throw error;
        // Those that are there do what is to be done; another attempt comes with the next need.
        if (this.#live.size > 0) {
          this.#moreNotBefore = performance.now() + RETRY_LAST_MS;
          return;
        }
        this.#expire(error, begun);
        if (this.#waiting.length === 0) return;
        await this.#sleep(pause);
        pause = Math.min(2 * pause, RETRY_LAST_MS);
      }
    }
  }

  /** The same export in all that requests were checked against. */
  #checkSame(connection: Connection): void {
    const before = this.agreement;
    const now = connection.agreement;
    const missing = before.contexts.filter(({ name }) => !now.contexts.some((context) => context.name === name));
    const what =
      now.export.length !== before.export.length
        ? `it had ${before.export.length} bytes and has ${now.export.length}`
        : isReadOnly(now) && !isReadOnly(before)
          ? "it is read-only now"
          : (before.export.flags & ~now.export.flags & ~(FLAG_READ_ONLY | FLAG_ROTATIONAL)) !== 0
            ? "it offers fewer commands"
            : now.export.blockSize.minimum > before.export.blockSize.minimum ||
                now.export.blockSize.maximum < before.export.blockSize.maximum
              ? "its block sizes are narrower"
              : missing.length > 0 || (before.structured && !now.structured) || (before.extended && !now.extended)
                ? "it knows fewer extensions"
                : undefined;
    if (what === undefined) return;
    connection.leave();
    throw new NbdError("ERR_NBD_CHANGED", `reconnect: the export is not the one it was: ${what}`);
  }

  /** Fails those that cannot wait for another attempt. */
  #expire(error: NbdError, begun: number): void {
    const now = performance.now();
    const final = error.code === "ERR_NBD_CHANGED" || error.code === "ERR_NBD_TLS" || error.code === "ERR_NBD_PROTOCOL";
    for (const waiting of this.#waiting.splice(0)) {
      waiting.deadline ??= begun + this.#options.reconnectDelayMs;
      if (final || waiting.deadline <= now) waiting.reject(error);
      else this.#waiting.push(waiting);
    }
    this.#lookWhetherIdle();
  }

  /** At most until the first of those that wait must hear. */
  async #sleep(milliseconds: number): Promise<void> {
    const first = Math.min(...this.#waiting.map(({ deadline }) => deadline ?? Number.POSITIVE_INFINITY));
    const length = Math.max(1, Math.min(milliseconds, first - performance.now()));
    await new Promise<void>((resolve) => {
      this.#retryTimer = { timer: setTimeout(resolve, length), wake: resolve };
    });
    clearTimeout(this.#retryTimer?.timer);
    this.#retryTimer = undefined;
  }

  #lookWhetherIdle(): void {
    if (this.#closed === undefined || this.#running.size + this.#waiting.length > 0) return;
    for (const wake of this.#whenIdle.splice(0)) wake();
  }
}

function isChange(request: PendingRequest): boolean {
  if ((request.flags & CMD_FLAG_FUA) !== 0) return false;
  return request.type === CMD_WRITE || request.type === CMD_TRIM || request.type === CMD_WRITE_ZEROES;
}

function isReadOnly(agreement: Agreement): boolean {
  return (agreement.export.flags & FLAG_READ_ONLY) !== 0;
}
