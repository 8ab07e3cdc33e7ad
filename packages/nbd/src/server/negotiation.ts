/**
 * One connection from its accept to its session: moves bytes between a socket and a `ServerHandshake`, keeps the
 * deadline, has TLS started where the client asks for it, and at the end hands over a bare descriptor.
 *
 * One thing at a time: while an answer is being flushed nothing is read, so a client that sends without reading fills its
 * own buffers and ends at the deadline. The deadline is one for everything up to the transmission: a byte a second does
 * not move it.
 *
 * The descriptor that is handed over is a duplicate, taken in the turn in which Node's own buffer is emptied, so no byte
 * falls between the two; destroying Node's socket then closes a descriptor and not the connection.
 */
import { Socket } from "node:net";
import { duplicateDescriptor, errnoName, errnoText } from "@heirloom/block";
import { descriptorOf } from "./descriptor-of.ts";
import type { ExportDirectory, Negotiated } from "./export-offer.ts";
import type { HandshakeEndCode } from "./haggling.ts";
import { type HandshakeStep, ServerHandshake } from "./handshake.ts";

/** What is known of a client that came through TLS. */
export interface TlsPeer {
  /** "TLSv1.3" */
  readonly protocol: string;
  readonly cipher: string;
  /** Distinguished name of the peer's certificate, where it showed one. */
  readonly subject: string | undefined;
  /** Its name in the file of pre-shared keys. */
  readonly identity: string | undefined;
}

/** Puts TLS on a connection whose descriptor it owns from the call on. */
export type TlsStarter = (request: {
  readonly fd: number;
  /** What came after the acknowledgement of STARTTLS. */
  readonly unread: Uint8Array;
  /** Ends it, before and while TLS is negotiated. */
  readonly signal: AbortSignal;
}) => Promise<{ readonly fd: number; readonly peer: TlsPeer }>;

/** A connection whose transmission begins. Whoever gets it owns the descriptor. */
export interface NewSession {
  /** Never blocks, close-on-exec. */
  readonly fd: number;
  /** What the client has sent already. */
  readonly unread: Uint8Array;
  readonly negotiated: Negotiated;
  /** For people. */
  readonly peer: string;
  readonly tls: TlsPeer | undefined;
}

export type NegotiationEndCode =
  | HandshakeEndCode
  /** The client went away. */
  | "ERR_NBD_DISCONNECTED"
  | "ERR_NBD_TIMEOUT"
  /** TLS failed: no credentials, wrong ones, not allowed. */
  | "ERR_NBD_TLS"
  /** The server stops, or needs the place. */
  | "ERR_NBD_SHUTDOWN"
  | "ERR_NBD_SYSTEM";

export type NegotiationEnd =
  | { readonly type: "session"; readonly session: NewSession }
  | { readonly type: "ended"; readonly code: NegotiationEndCode; readonly reason: string };

export interface NegotiationOptions {
  readonly directory: ExportDirectory;
  /** Undefined: no TLS here. */
  readonly startTls: TlsStarter | undefined;
  readonly timeoutMs: number;
  readonly peer: string;
}

const NOTHING = new Uint8Array(0);

export class Negotiation {
  readonly startedAt: number = performance.now();
  readonly ended: Promise<NegotiationEnd>;
  readonly #options: NegotiationOptions;
  readonly #handshake: ServerHandshake;
  readonly #deadline: NodeJS.Timeout;
  readonly #abort: AbortController = new AbortController();
  #socket: Socket | undefined;
  #tls: TlsPeer | undefined;
  #resolve: (end: NegotiationEnd) => void = () => undefined;
  #over = false;

  constructor(socket: Socket, options: NegotiationOptions) {
    this.#options = options;
    this.#handshake = new ServerHandshake(options.directory, options.startTls === undefined ? "off" : "required");
    this.ended = new Promise((resolve) => (this.#resolve = resolve));
    this.#deadline = setTimeout(() => {
      this.end("ERR_NBD_TIMEOUT", `no transmission after ${options.timeoutMs} ms`);
    }, options.timeoutMs);
    // Replies are small and each is waited for. No effect on a Unix socket.
    socket.setNoDelay(true);
    this.#adopt(socket);
    this.#send(this.#handshake.greet(), () => this.#read());
  }

  /** From now on options are told that the server is shutting down. */
  stop(): void {
    this.#handshake.stop();
  }

  /** Hangs up. Nothing happens where it is over. */
  end(code: NegotiationEndCode, reason: string): void {
    this.#finish({ type: "ended", code, reason });
  }

  #adopt(socket: Socket): void {
    this.#socket = socket;
    socket.on("data", (bytes: Buffer) => this.#take(bytes));
    socket.on("end", () => this.end("ERR_NBD_DISCONNECTED", "the client ended in the middle of the negotiation"));
    socket.on("error", (error) => this.end("ERR_NBD_DISCONNECTED", error.message));
    socket.on("close", () => {
      // Not the one that TLS has taken over.
      if (socket === this.#socket) this.end("ERR_NBD_DISCONNECTED", "the connection was closed");
    });
  }

  #read(): void {
    this.#socket?.resume();
  }

  #take(bytes: Uint8Array): void {
    if (this.#over) return;
    this.#socket?.pause();
    this.#carryOut(this.#handshake.receive(bytes));
  }

  #carryOut({ output, outcome }: HandshakeStep): void {
    switch (outcome.type) {
      case "more":
        return this.#send(output, () => this.#read());
      case "flush":
        return this.#send(output, () => this.#take(NOTHING));
      case "startTls":
        return this.#send(output, () => this.#startTls());
      case "transmission":
        return this.#send(output, () => this.#handOver(outcome.negotiated, outcome.unread));
      case "closed":
        return this.#send(output, () => this.end(outcome.code, outcome.reason));
    }
  }

  /** Goes on when the kernel has the bytes. */
  #send(output: Uint8Array, then: () => void): void {
    if (output.length === 0) return then();
    this.#socket?.write(output, (error) => {
      if (!this.#over && (error === undefined || error === null)) then();
    });
  }

  #startTls(): void {
    const released = this.#release();
    const startTls = this.#options.startTls;
    if (released === undefined || startTls === undefined) return;
    startTls({ ...released, signal: this.#abort.signal }).then(
      ({ fd, peer }) => this.#continueThroughTls(fd, peer),
      (error: unknown) => this.end("ERR_NBD_TLS", error instanceof Error ? error.message : String(error)),
    );
  }

  #continueThroughTls(fd: number, peer: TlsPeer): void {
    const socket = new Socket({ fd, allowHalfOpen: true });
    if (this.#over) {
      socket.destroy();
      return;
    }
    this.#tls = peer;
    this.#handshake.tlsStarted();
    this.#adopt(socket);
    this.#read();
  }

  #handOver(negotiated: Negotiated, before: Uint8Array): void {
    const released = this.#release();
    if (released === undefined) return;
    const unread = released.unread.length === 0 ? before : Buffer.concat([before, released.unread]);
    const { peer } = this.#options;
    this.#finish({ type: "session", session: { fd: released.fd, unread, negotiated, peer, tls: this.#tls } });
  }

  /** The connection without Node: a descriptor of our own, and what Node had read of it. */
  #release(): { fd: number; unread: Uint8Array } | undefined {
    const socket = this.#socket;
    if (socket === undefined || socket.destroyed) return undefined;
    const fd = duplicateDescriptor(descriptorOf(socket));
    if (fd < 0) {
      this.end("ERR_NBD_SYSTEM", `duplicate a descriptor: ${errnoText(-fd)} (${errnoName(-fd)})`);
      return undefined;
    }
    this.#socket = undefined;
    socket.removeAllListeners();
    socket.on("error", () => undefined); // of a descriptor that is closed in this turn
    const parts: Buffer[] = [];
    for (let part = socket.read() as Buffer | null; part !== null; part = socket.read() as Buffer | null) {
      parts.push(part);
    }
    socket.destroy();
    return { fd, unread: Buffer.concat(parts) };
  }

  #finish(end: NegotiationEnd): void {
    if (this.#over) return;
    this.#over = true;
    clearTimeout(this.#deadline);
    this.#abort.abort();
    this.#socket?.destroy();
    this.#socket = undefined;
    this.#resolve(end);
  }
}
