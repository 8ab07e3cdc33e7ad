/**
 * A client of one export, for code on an event loop. Threads that run straight-line code use the driver (driver.ts).
 *
 * - Negotiates as much as there is; `features` says what that is.
 * - Requests are checked here before they are sent, split by what the server takes at once, pipelined within limits, and
 *   spread over several connections where the server says that they are one disk (multi-conn).
 * - Buffers are used as they are, not copied: leave them alone until the promise settles.
 * - No order among requests that are on their way at once. A flush covers what was answered before it began.
 */
import { EIO } from "@heirloom/block";
import * as nbd from "../protocol/constants.ts";
import { NbdError } from "../protocol/nbd-error.ts";
import { type NbdUri, parseNbdUri } from "../protocol/uri.ts";
import { Connection, type ConnectionOwner } from "./connection.ts";
import { ConnectionPool } from "./connection-pool.ts";
import type { ExportDescription, ListedExport } from "./handshake.ts";
import { PendingRequest } from "./pending-request.ts";
import { replyError } from "./reply-reader.ts";
import { COMPACT_LENGTH_MAX } from "./request-codec.ts";
import { checkCommand } from "./request-rules.ts";
import { type NbdTls, readTlsFiles } from "./tls-credentials.ts";
import { negotiate, type NbdTarget } from "./transport.ts";

export interface NbdClientOptions {
  /** TLS is required with these; where the URI says so without them, its own files are read. */
  readonly tls?: NbdTls;
  /** Full names of metadata contexts. Those that the server has not are not there afterwards. */
  readonly contexts?: readonly string[];
  /** Most connections, where the server allows more than one; made as they are needed. */
  readonly connections?: number;
  /** On each connection. Servers stop reading at 16. */
  readonly requestsInFlightMax?: number;
  /** For connecting and negotiating together. */
  readonly connectTimeoutMs?: number;
  /** How long, with requests on their way, no byte may move before the connection counts as broken; 0: for ever. */
  readonly requestTimeoutMs?: number;
  /** How long a request waits for a new connection after its own broke; 0: it fails with it. */
  readonly reconnectDelayMs?: number;
  /**
   * After a connection broke, believe that the server still has what it had acknowledged and no flush had covered. Only
   * for one that cannot have been restarted, or that writes through. Otherwise the next flush fails.
   */
  readonly assumeWritesSurvive?: boolean;
  /** Ends the attempt to connect. */
  readonly signal?: AbortSignal;
}

export interface RequestOptions {
  /** Rejects with its reason. What is on its way may still be carried out. */
  readonly signal?: AbortSignal;
}
export interface WriteOptions extends RequestOptions {
  /** Answered when it is on stable storage. */
  readonly fua?: boolean;
}
export interface WriteZeroesOptions extends WriteOptions {
  /** The room is kept. */
  readonly noHole?: boolean;
  /** Fails with ENOTSUP rather than be no faster than a write. */
  readonly fastZero?: boolean;
}

export interface NbdExtent {
  readonly offset: number;
  readonly length: number;
  /** Status flags, whose meaning is the context's. */
  readonly flags: number;
}

export interface NbdFeatures {
  readonly readOnly: boolean;
  readonly flush: boolean;
  readonly fua: boolean;
  readonly trim: boolean;
  readonly cache: boolean;
  readonly writeZeroes: boolean;
  readonly fastZero: boolean;
  readonly multiConn: boolean;
  readonly structuredReplies: boolean;
  readonly extendedHeaders: boolean;
  readonly tls: boolean;
}

/** Largest piece of a request with a payload, whatever the server would take: a larger one holds the others up. */
const PAYLOAD_BYTES_MAX: number = 32 * 1024 * 1024;
/** Of a trim or write of zeroes: a server may have to write them, and is waited for. */
const EFFECT_BYTES_MAX: number = 1024 * 1024 * 1024;
/** How long a server may take to hear a goodbye. */
const GOODBYE_MS = 5000;

/**
 * @example
 * await using client = await NbdClient.connect("nbd+unix:///disk?socket=/run/nbd.sock");
 * const buffer = new Uint8Array(4096);
 * await client.read(buffer, 0);
 */
export class NbdClient implements AsyncDisposable {
  readonly #pool: ConnectionPool;
  readonly #assumeWritesSurvive: boolean;

  private constructor(pool: ConnectionPool, assumeWritesSurvive: boolean) {
    this.#pool = pool;
    this.#assumeWritesSurvive = assumeWritesSurvive;
  }

  /** @throws NbdError */
  static async connect(uri: string | NbdUri, options: NbdClientOptions = {}): Promise<NbdClient> {
    const target = resolveTarget(uri, options.tls);
    const limits = checkOptions(options);
    const goal = {
      kind: "transmission" as const,
      exportName: target.exportName,
      contexts: options.contexts ?? [nbd.CONTEXT_ALLOCATION],
    };
    const connect = async (owner: ConnectionOwner, signal?: AbortSignal): Promise<Connection> => {
      const { socket, result, rest } = await negotiate(target, goal, { timeoutMs: limits.connectTimeoutMs, signal });
      if (result.kind !== "transmission") throw new Error("a negotiation ends as it was meant to");
      const stallTimeoutMs = limits.requestTimeoutMs;
      return new Connection(socket, rest, result.agreement, { stallTimeoutMs }, owner);
    };
    const first = await ConnectionPool.open(
      // How many there may be the first one tells.
      (agreement) => ({
        connectionsMax: (agreement.export.flags & nbd.FLAG_CAN_MULTI_CONN) === 0 ? 1 : limits.connections,
        requestsInFlightMax: limits.requestsInFlightMax,
        reconnectDelayMs: limits.reconnectDelayMs,
        connect,
      }),
      (owner) => connect(owner, options.signal),
    );
    return new NbdClient(first, options.assumeWritesSurvive === true);
  }

  /**
   * The exports of a server and what it tells of each. A URI without an export's name is one of a server.
   *
   * @throws NbdError ERR_NBD_REFUSED where the server does not list them
   */
  static async list(
    uri: string | NbdUri,
    options: Pick<NbdClientOptions, "tls" | "connectTimeoutMs" | "signal"> = {},
  ): Promise<readonly ListedExport[]> {
    const target = resolveTarget(uri, options.tls);
    const { connectTimeoutMs } = checkOptions(options);
    const goal =
      target.exportName === ""
        ? { kind: "list" as const }
        : { kind: "description" as const, exportName: target.exportName };
    const { socket, result } = await negotiate(target, goal, { timeoutMs: connectTimeoutMs, signal: options.signal });
    // The goodbye was written before.
    socket.destroySoon();
    return result.kind === "list" ? result.exports : [];
  }

  /** Bytes. */
  get length(): number {
    return this.export.length;
  }

  get export(): ExportDescription {
    return this.#pool.agreement.export;
  }

  get features(): NbdFeatures {
    const { structured, extended, tls, export: description } = this.#pool.agreement;
    const has = (flag: number): boolean => (description.flags & flag) !== 0;
    return {
      readOnly: has(nbd.FLAG_READ_ONLY),
      flush: has(nbd.FLAG_SEND_FLUSH),
      fua: has(nbd.FLAG_SEND_FUA),
      trim: has(nbd.FLAG_SEND_TRIM),
      cache: has(nbd.FLAG_SEND_CACHE),
      writeZeroes: has(nbd.FLAG_SEND_WRITE_ZEROES),
      fastZero: has(nbd.FLAG_SEND_FAST_ZERO),
      multiConn: has(nbd.FLAG_CAN_MULTI_CONN),
      structuredReplies: structured,
      extendedHeaders: extended,
      tls,
    };
  }

  /** Names of the metadata contexts that `blockStatus` can be asked for. */
  get contexts(): readonly string[] {
    return this.#pool.agreement.contexts.map(({ name }) => name);
  }

  /** Connections that stand. */
  get connections(): number {
    return this.#pool.connections;
  }

  /** Fills `buffer` from `offset`. */
  async read(buffer: Uint8Array, offset: number, options: RequestOptions = {}): Promise<void> {
    this.#check("read", nbd.CMD_READ, 0, offset, buffer.length);
    await this.#split("read", nbd.CMD_READ, 0, offset, buffer.length, this.#payloadMax, options.signal, buffer);
  }

  /** Writes all of `buffer` at `offset`. */
  async write(buffer: Uint8Array, offset: number, options: WriteOptions = {}): Promise<void> {
    const flags = options.fua === true ? nbd.CMD_FLAG_FUA : 0;
    this.#check("write", nbd.CMD_WRITE, flags, offset, buffer.length);
    await this.#split("write", nbd.CMD_WRITE, flags, offset, buffer.length, this.#payloadMax, options.signal, buffer);
  }

  /**
   * Everything that was answered before is on stable storage afterwards.
   *
   * @throws NbdError ERR_NBD_DISCONNECTED, once, where a connection has broken since with changes that no flush had
   *   covered: the server may have lost them. Write them again.
   */
  async flush(options: RequestOptions = {}): Promise<void> {
    this.#check("flush", nbd.CMD_FLUSH, 0, 0, 0);
    const answers = await this.#pool.flush(() => new PendingRequest(nbd.CMD_FLUSH, 0, 0, 0), options.signal);
    for (const answer of answers) if (answer.errno !== 0) throw replyError("flush", answer);
    if (!this.#pool.takeLoss() || this.#assumeWritesSurvive) return;
    const message =
      "flush: a connection broke after changes that no flush had covered; the server may have lost them (write them again)";
    throw new NbdError("ERR_NBD_DISCONNECTED", message, { errno: EIO });
  }

  /** The range may read as anything afterwards; its room may be given back. */
  async trim(offset: number, length: number, options: WriteOptions = {}): Promise<void> {
    const flags = options.fua === true ? nbd.CMD_FLAG_FUA : 0;
    this.#check("trim", nbd.CMD_TRIM, flags, offset, length);
    await this.#split("trim", nbd.CMD_TRIM, flags, offset, length, EFFECT_BYTES_MAX, options.signal);
  }

  /** Asks the server to have the range at hand. */
  async cache(offset: number, length: number, options: RequestOptions = {}): Promise<void> {
    this.#check("cache", nbd.CMD_CACHE, 0, offset, length);
    await this.#split("cache", nbd.CMD_CACHE, 0, offset, length, this.#payloadMax, options.signal);
  }

  /** The range reads as zeroes afterwards. */
  async writeZeroes(offset: number, length: number, options: WriteZeroesOptions = {}): Promise<void> {
    const flags =
      (options.fua === true ? nbd.CMD_FLAG_FUA : 0) |
      (options.noHole === true ? nbd.CMD_FLAG_NO_HOLE : 0) |
      (options.fastZero === true ? nbd.CMD_FLAG_FAST_ZERO : 0);
    this.#check("write zeroes", nbd.CMD_WRITE_ZEROES, flags, offset, length);
    await this.#split("write zeroes", nbd.CMD_WRITE_ZEROES, flags, offset, length, EFFECT_BYTES_MAX, options.signal);
  }

  /**
   * The extents of a context over a range, in order and without gaps; neighbours with the same flags are one.
   *
   * @example for await (const { offset, length, flags } of client.blockStatus("base:allocation")) ...
   */
  async *blockStatus(
    context: string,
    offset = 0,
    length: number = this.length - offset,
    options: RequestOptions = {},
  ): AsyncGenerator<NbdExtent, void, void> {
    const end = offset + length;
    let open: { offset: number; length: number; flags: number } | undefined;
    for (let at = offset; at < end;) {
      const answer = await this.statusOf(at, end - at, options);
      for (const extent of answer.get(context) ?? this.#unknownContext(context)) {
        if (open?.flags === extent.flags) {
          open.length += extent.length;
        } else {
          if (open !== undefined) yield open;
          open = { ...extent };
        }
        at = extent.offset + extent.length;
      }
    }
    if (open !== undefined) yield open;
  }

  /**
   * One answer: the extents of every context from `offset` on, each at least one long, up to where the server chose to
   * stop. With `one` at most one extent of each.
   */
  async statusOf(
    offset: number,
    length: number,
    options: RequestOptions & { readonly one?: boolean } = {},
  ): Promise<ReadonlyMap<string, readonly NbdExtent[]>> {
    if (this.contexts.length === 0) {
      throw new NbdError(
        "ERR_NBD_UNSUPPORTED",
        "block status: the server has none of the contexts that were asked for",
      );
    }
    this.#check("block status", nbd.CMD_BLOCK_STATUS, 0, offset, length);
    if (length === 0) return new Map(this.contexts.map((name) => [name, []]));
    const most = this.#pool.agreement.extended ? length : Math.min(length, this.#aligned(COMPACT_LENGTH_MAX));
    const flags = options.one === true ? nbd.CMD_FLAG_REQ_ONE : 0;
    const request = new PendingRequest(nbd.CMD_BLOCK_STATUS, flags, offset, most);
    await this.#run("block status", request, options.signal);
    const answer = new Map<string, NbdExtent[]>();
    for (const { id, name } of request.contexts) {
      answer.set(name, toExtents(request.extents.get(id) ?? [], offset, options.one === true));
    }
    return answer;
  }

  /** No new requests; those on their way are answered first, then the server is told. Does not reject. */
  async close(): Promise<void> {
    await this.#pool.close(GOODBYE_MS);
  }

  /** Ends at once; what is on its way rejects with `ERR_NBD_CLOSED`. */
  destroy(): void {
    this.#pool.destroy();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  get #payloadMax(): number {
    return this.#aligned(Math.min(this.export.blockSize.maximum, PAYLOAD_BYTES_MAX));
  }

  #aligned(length: number): number {
    return length - (length % this.export.blockSize.minimum);
  }

  #check(operation: string, type: number, flags: number, offset: number, length: number): void {
    checkCommand(operation, this.export, type, flags, offset, length);
  }

  #unknownContext(context: string): never {
    const known = this.contexts.join(", ");
    throw new NbdError("ERR_NBD_REQUEST", `block status: no context '${context}'; there are ${known}`);
  }

  /** All pieces at once; what is too much waits in the pool. Settles when the last one has. */
  async #split(
    operation: string,
    type: number,
    flags: number,
    offset: number,
    length: number,
    most: number,
    signal: AbortSignal | undefined,
    buffer?: Uint8Array,
  ): Promise<void> {
    // Nothing to do is no request: what a server makes of length 0 is not specified.
    if (length === 0) return;
    if (length <= most) {
      await this.#run(operation, new PendingRequest(type, flags, offset, length, buffer), signal);
      return;
    }
    const pieces: Promise<void>[] = [];
    for (let at = 0; at < length; at += most) {
      const size = Math.min(most, length - at);
      const piece = new PendingRequest(type, flags, offset + at, size, buffer?.subarray(at, at + size));
      pieces.push(this.#run(operation, piece, signal));
    }
    const results = await Promise.allSettled(pieces);
    for (const result of results) if (result.status === "rejected") throw result.reason;
  }

  async #run(operation: string, request: PendingRequest, signal: AbortSignal | undefined): Promise<void> {
    await this.#pool.submit(request, signal);
    if (request.errno !== 0) throw replyError(operation, request);
  }
}

function resolveTarget(uri: string | NbdUri, tls: NbdTls | undefined): NbdTarget {
  const { address, exportName, tls: fromUri } = typeof uri === "string" ? parseNbdUri(uri) : uri;
  return { address, exportName, tls: tls ?? (fromUri === undefined ? undefined : readTlsFiles(fromUri)) };
}

interface Limits {
  readonly connections: number;
  readonly requestsInFlightMax: number;
  readonly connectTimeoutMs: number;
  readonly requestTimeoutMs: number;
  readonly reconnectDelayMs: number;
}

function checkOptions(options: NbdClientOptions): Limits {
  const limits = {
    connections: options.connections ?? 1,
    requestsInFlightMax: options.requestsInFlightMax ?? 16,
    connectTimeoutMs: options.connectTimeoutMs ?? 10_000,
    requestTimeoutMs: options.requestTimeoutMs ?? 0,
    reconnectDelayMs: options.reconnectDelayMs ?? 0,
  };
  const ranges: Readonly<Record<keyof Limits, readonly [number, number]>> = {
    connections: [1, 64],
    requestsInFlightMax: [1, 1024],
    // setTimeout knows no more.
    connectTimeoutMs: [1, 2 ** 31 - 1],
    requestTimeoutMs: [0, 2 ** 31 - 1],
    reconnectDelayMs: [0, 2 ** 31 - 1],
  };
  for (const name of Object.keys(ranges) as (keyof Limits)[]) {
    const [least, most] = ranges[name];
    if (Number.isInteger(limits[name]) && limits[name] >= least && limits[name] <= most) continue;
    const message = `connect: '${name}' must be an integer from ${least} to ${most}, not ${limits[name]}`;
    throw new NbdError("ERR_NBD_OPTION", message);
  }
  return limits;
}

function toExtents(runs: readonly number[], offset: number, one: boolean): NbdExtent[] {
  const extents: NbdExtent[] = [];
  let at = offset;
  for (let index = 0; index < runs.length && !(one && index > 0); index += 2) {
    extents.push({ offset: at, length: runs[index], flags: runs[index + 1] });
    at += runs[index];
  }
  return extents;
}
