/**
 * Where clients come in: all listening sockets of a server and the connections that are not sessions yet, under one
 * limit. What comes out is a session per connection that got through.
 *
 *     accepted -> negotiation -> session -> released
 *         \____________\___________________> ended
 *
 * Negotiations and sessions together are at most `connectionsMax`. Where they are, nobody is accepted: whoever connects
 * waits in the kernel's queue without a greeting and without a descriptor, until somebody leaves. Since clients that
 * connect and say nothing would hold all places until their deadline, the oldest negotiation has to leave when the server
 * is full and it has had its time (`patienceMs`): one that is in earnest takes some milliseconds.
 */
import { closeFile } from "@heirloom/block";
import type { Socket } from "node:net";
import type { ExportDirectory } from "./export-offer.ts";
import { type BoundAddress, type ListenAddress, Listener } from "./listener.ts";
import { Negotiation, type NegotiationEndCode, type NewSession, type TlsStarter } from "./negotiation.ts";

/** As in QEMU. */
export const CONNECTIONS_MAX_DEFAULT = 100;
export const HANDSHAKE_TIMEOUT_MS_DEFAULT = 10_000;
/** Several round trips to anywhere on Earth, TLS included. */
export const PATIENCE_MS_DEFAULT = 2_000;
/** Clients that are in their negotiation when the server stops may hear why. */
const FAREWELL_MS = 1_000;
/** Where the process has no descriptor left to accept with. */
const RETRY_MS = 100;

export interface ReceptionOptions {
  readonly directory: ExportDirectory;
  /** Required of every client where it is given. */
  readonly startTls?: TlsStarter | undefined;
  readonly connectionsMax?: number | undefined;
  /** From the accept to the transmission. */
  readonly handshakeTimeoutMs?: number | undefined;
  /** What a negotiation may take while the server is full. */
  readonly patienceMs?: number | undefined;
  /** `release` must be called when the session is over: until then it counts. One that throws has not taken it. */
  readonly onSession: (session: NewSession, release: () => void) => void;
  /** A connection ended before it became a session. */
  readonly onRefused?: ((refused: Refused) => void) | undefined;
}

export interface Refused {
  readonly peer: string;
  readonly code: NegotiationEndCode;
  readonly reason: string;
}

export class Reception {
  readonly #options: ReceptionOptions;
  readonly #connectionsMax: number;
  readonly #patienceMs: number;
  readonly #listeners: Set<Listener> = new Set();
  /** The oldest first. */
  readonly #negotiations: Set<Negotiation> = new Set();
  readonly #ends: Set<Promise<void>> = new Set();
  #sessions = 0;
  #patience: NodeJS.Timeout | undefined;
  #retry: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(options: ReceptionOptions) {
    this.#options = options;
    this.#connectionsMax = options.connectionsMax ?? CONNECTIONS_MAX_DEFAULT;
    this.#patienceMs = options.patienceMs ?? PATIENCE_MS_DEFAULT;
  }

  /** Negotiations and sessions. */
  get connections(): number {
    return this.#negotiations.size + this.#sessions;
  }

  /** @throws ListenError */
  async listen(address: ListenAddress): Promise<BoundAddress> {
    const listener = await Listener.open(address, (socket, peer) => this.#accept(socket, peer));
    if (this.#closed) {
      listener.close();
      throw new Error("the server was stopped while it began to listen");
    }
    this.#listeners.add(listener);
    this.#admit();
    return listener.address;
  }

  get addresses(): readonly BoundAddress[] {
    return [...this.#listeners].map((listener) => listener.address);
  }

  /** Nobody new; who negotiates is told so, and has a second. Sessions go on: they are not ours any more. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const listener of this.#listeners) listener.close();
    this.#listeners.clear();
    clearTimeout(this.#patience);
    clearTimeout(this.#retry);
    for (const negotiation of this.#negotiations) negotiation.stop();
    const farewell = setTimeout(() => {
      for (const negotiation of this.#negotiations) negotiation.end("ERR_NBD_SHUTDOWN", "the server stopped");
    }, FAREWELL_MS);
    while (this.#ends.size > 0) await Promise.all(this.#ends);
    clearTimeout(farewell);
  }

  #accept(socket: Socket, peer: string): void {
    const { directory, startTls, handshakeTimeoutMs: timeoutMs = HANDSHAKE_TIMEOUT_MS_DEFAULT } = this.#options;
    const negotiation = new Negotiation(socket, { directory, startTls, timeoutMs, peer });
    this.#negotiations.add(negotiation);
    const ended = this.#follow(negotiation, peer).finally(() => this.#ends.delete(ended));
    this.#ends.add(ended);
    this.#admit();
  }

  async #follow(negotiation: Negotiation, peer: string): Promise<void> {
    const end = await negotiation.ended;
    this.#negotiations.delete(negotiation);
    if (end.type === "session") this.#begin(end.session);
    else this.#options.onRefused?.({ peer, code: end.code, reason: end.reason });
    this.#admit();
  }

  #begin(session: NewSession): void {
    let released = false;
    const release = (): void => {
      if (released) return;
      released = true;
      this.#sessions--;
      this.#admit();
    };
    this.#sessions++;
    try {
      this.#options.onSession(session, release);
    } catch (error) {
      closeFile(session.fd);
      release();
      const reason = error instanceof Error ? error.message : String(error);
      this.#options.onRefused?.({ peer: session.peer, code: "ERR_NBD_SYSTEM", reason });
    }
  }

  /** Accepts, or does not, as the limit has it. */
  #admit(): void {
    if (this.#closed) return;
    if (this.connections < this.#connectionsMax) {
      clearTimeout(this.#patience);
      this.#patience = undefined;
      let accepting = true;
      for (const listener of this.#listeners) accepting = listener.resume() && accepting;
      if (!accepting) this.#retry ??= setTimeout(() => this.#tryAgain(), RETRY_MS);
      return;
    }
    for (const listener of this.#listeners) listener.pause();
    this.#limitPatience();
  }

  #tryAgain(): void {
    this.#retry = undefined;
    this.#admit();
  }

  #limitPatience(): void {
    const [oldest] = this.#negotiations;
    if (oldest === undefined || this.#patience !== undefined) return;
    const left = Math.max(0, oldest.startedAt + this.#patienceMs - performance.now());
    this.#patience = setTimeout(() => {
      this.#patience = undefined;
      const reason = `no transmission after ${this.#patienceMs} ms, and the server is full`;
      // It may be another by now, which has its time too.
      if (this.#negotiations.has(oldest)) oldest.end("ERR_NBD_LIMIT", reason);
      else this.#admit();
    }, left);
  }
}
