/**
 * One connection in its transmission phase: requests out, replies in, each with its cookie. It breaks once, for one
 * reason, and hands back what was on its way; whether that is asked again is not its business (connection-pool.ts).
 */
import type { Socket } from "node:net";
import { CMD_DISC, CMD_WRITE, EXTENDED_REQUEST_BYTES, NBD_ESHUTDOWN } from "../protocol/constants.ts";
import { NbdError } from "../protocol/nbd-error.ts";
import type { Agreement } from "./handshake.ts";
import type { PendingRequest } from "./pending-request.ts";
import { ReplyReader } from "./reply-reader.ts";
import { encodeRequest } from "./request-codec.ts";

export interface ConnectionOwner {
  /** A reply is whole; `request.errno` says how it went. */
  answered(connection: Connection, request: PendingRequest): void;
  /** Called once. `unanswered`: what was on its way; nobody knows how far it got. */
  broken(connection: Connection, error: NbdError, unanswered: readonly PendingRequest[]): void;
}

export interface ConnectionOptions {
  /** With requests on their way, how long no byte may move; 0: for ever. */
  readonly stallTimeoutMs: number;
}

export class Connection {
  readonly agreement: Agreement;
  /** Resolves when it has ended, for whatever reason. */
  readonly ended: Promise<void>;
  /** Changes that it acknowledged without FUA, and how many of those a flush over it has covered. */
  changes = 0;
  changesCovered = 0;
  readonly #owner: ConnectionOwner;
  readonly #socket: Socket;
  readonly #reader: ReplyReader;
  readonly #pending: Map<number, PendingRequest> = new Map();
  readonly #stallTimeoutMs: number;
  #nextCookie = 1;
  #broken = false;
  #leaving = false;
  #movedAt = 0;
  #watch: NodeJS.Timeout | undefined;
  #resolveEnded!: () => void;

  constructor(
    socket: Socket,
    rest: Uint8Array,
    agreement: Agreement,
    options: ConnectionOptions,
    owner: ConnectionOwner,
  ) {
    this.agreement = agreement;
    this.ended = new Promise((resolve) => {
      this.#resolveEnded = resolve;
    });
    this.#owner = owner;
    this.#socket = socket;
    this.#stallTimeoutMs = options.stallTimeoutMs;
    this.#reader = new ReplyReader({
      structured: agreement.structured,
      extended: agreement.extended,
      contexts: agreement.contexts,
      find: (cookie) => this.#pending.get(cookie),
      settle: (cookie, request) => this.#settle(cookie, request),
    });
    socket
      .on("data", (bytes: Buffer) => this.#receive(bytes))
      .on("error", (error: Error) => this.break(disconnected(error.message, error)))
      .on("end", () => this.break(disconnected("the server closed it")))
      .on("close", () => this.break(disconnected("it was closed")));
    // What came too early answers nothing, and breaks it; but not inside of a constructor.
    if (rest.length > 0) queueMicrotask(() => this.#receive(rest));
    socket.resume();
  }

  /** Requests on their way. */
  get inFlight(): number {
    return this.#pending.size;
  }

  /** Whether requests may be sent. */
  get usable(): boolean {
    return !this.#broken && !this.#leaving;
  }

  send(request: PendingRequest): void {
    const cookie = this.#nextCookie++;
    this.#pending.set(cookie, request);
    const header = new Uint8Array(EXTENDED_REQUEST_BYTES);
    const { flags, type, offset, length, buffer } = request;
    const view = new DataView(header.buffer);
    const size = encodeRequest(view, this.agreement.extended, flags, type, cookie, offset, length);
    const sent = (error?: Error | null): void => {
      // Of a socket that broke: another connection may be sending it by now.
      if (error !== undefined && error !== null) return;
      this.#moved();
      request.sent?.();
      request.sent = undefined;
    };
    if (type === CMD_WRITE && buffer !== undefined) {
      this.#socket.cork();
      this.#socket.write(header.subarray(0, size));
      this.#socket.write(buffer, sent);
      this.#socket.uncork();
    } else {
      this.#socket.write(header.subarray(0, size), sent);
    }
    this.#moved();
    this.#startWatch();
  }

  /** The caller of a read takes its buffer back before the reply is there. */
  abandon(request: PendingRequest): void {
    this.#reader.detach(request);
  }

  /** No new requests. When those on their way are answered the server is told, and the connection closed. */
  leave(): void {
    this.#leaving = true;
    if (this.#pending.size === 0) this.#goodbye();
  }

  /** Ends it at once. */
  break(error: NbdError): void {
    if (this.#broken) return;
    this.#broken = true;
    clearTimeout(this.#watch);
    const unanswered = [...this.#pending.values()];
    this.#pending.clear();
    this.#socket.destroy();
    this.#resolveEnded();
    this.#owner.broken(this, error, unanswered);
  }

  #goodbye(): void {
    if (this.#broken) return;
    const header = new Uint8Array(EXTENDED_REQUEST_BYTES);
    const view = new DataView(header.buffer);
    const size = encodeRequest(view, this.agreement.extended, 0, CMD_DISC, this.#nextCookie++, 0, 0);
    this.#socket.end(header.subarray(0, size), () => {
      this.break(new NbdError("ERR_NBD_CLOSED", "the connection was closed"));
    });
  }

  #receive(bytes: Uint8Array): void {
    if (this.#broken) return;
    this.#moved();
    try {
      this.#reader.receive(bytes);
    } catch (error) {
      if (!(error instanceof NbdError)) throw error;
      this.break(error);
    }
  }

  #settle(cookie: number, request: PendingRequest): void {
    this.#pending.delete(cookie);
    // The protocol's rule: who hears that the server is shutting down leaves.
    if (request.errno === NBD_ESHUTDOWN) this.#leaving = true;
    this.#owner.answered(this, request);
    if (this.#pending.size > 0) return;
    clearTimeout(this.#watch);
    this.#watch = undefined;
    if (this.#leaving) this.#goodbye();
  }

  #moved(): void {
    if (this.#stallTimeoutMs > 0) this.#movedAt = performance.now();
  }

  /** One timer that looks again, rather than one that is set anew for every byte. */
  #startWatch(): void {
    if (this.#stallTimeoutMs === 0 || this.#watch !== undefined || this.#broken) return;
    const left = this.#movedAt + this.#stallTimeoutMs - performance.now();
    this.#watch = setTimeout(() => this.#look(), Math.max(1, Math.ceil(left)));
  }

  #look(): void {
    this.#watch = undefined;
    if (this.#pending.size === 0) return;
    if (performance.now() - this.#movedAt < this.#stallTimeoutMs) {
      this.#startWatch();
      return;
    }
    const waiting = `${this.#pending.size} request${this.#pending.size === 1 ? "" : "s"}`;
    const message = `NBD transmission: nothing moved for ${this.#stallTimeoutMs} ms with ${waiting} on the way`;
    this.break(new NbdError("ERR_NBD_TIMEOUT", message));
  }
}

function disconnected(why: string, cause?: Error): NbdError {
  return new NbdError("ERR_NBD_DISCONNECTED", `NBD transmission: the connection broke: ${why}`, { cause });
}
