/**
 * A connected and negotiated socket, on the event loop: connect, handshake, TLS in between where it is required. One
 * deadline covers it all, and an AbortSignal ends it; what fails leaves no socket behind.
 */
import { connect as connectSocket, type Socket } from "node:net";
import { constants } from "node:os";
import { connect as connectTls } from "node:tls";
import { NbdError } from "../protocol/nbd-error.ts";
import type { NbdAddress } from "../protocol/uri.ts";
import { ClientHandshake, type HandshakeAction, type HandshakeResult, type HandshakeWish } from "./handshake.ts";
import { type NbdTls, tlsOptions } from "./tls-credentials.ts";

export interface NbdTarget {
  readonly address: NbdAddress;
  readonly exportName: string;
  /** Required where it is given. */
  readonly tls: NbdTls | undefined;
}

export interface Negotiated {
  readonly socket: Socket;
  readonly result: HandshakeResult;
  /** Came after the handshake. */
  readonly rest: Uint8Array;
}

export interface NegotiateOptions {
  readonly timeoutMs: number;
  readonly signal: AbortSignal | undefined;
}

/** @throws NbdError, or the signal's reason */
export async function negotiate(
  target: NbdTarget,
  goal: HandshakeWish["goal"],
  options: NegotiateOptions,
): Promise<Negotiated> {
  options.signal?.throwIfAborted();
  const run = new Negotiating(target, goal);
  const timer = setTimeout(() => run.fail(timedOut(target.address, options.timeoutMs, run.stage)), options.timeoutMs);
  const abort = (): void => run.fail(options.signal?.reason as Error);
  options.signal?.addEventListener("abort", abort, { once: true });
  try {
    return await run.outcome;
  } finally {
    clearTimeout(timer);
    options.signal?.removeEventListener("abort", abort);
  }
}

class Negotiating {
  readonly outcome: Promise<Negotiated>;
  readonly #target: NbdTarget;
  readonly #handshake: ClientHandshake;
  #socket: Socket;
  #connected = false;
  #settled = false;
  readonly #onData = (bytes: Buffer): void => this.#perform(this.#handshake.receive(bytes));
  readonly #onError = (error: Error): void => this.fail(this.#connectionError(error));
  readonly #onEnd = (): void => this.#perform(this.#handshake.ended());
  #resolve!: (negotiated: Negotiated) => void;
  #reject!: (error: Error) => void;

  constructor(target: NbdTarget, goal: HandshakeWish["goal"]) {
    this.#target = target;
    this.#handshake = new ClientHandshake({ tls: target.tls !== undefined, goal });
    this.outcome = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    const { address } = target;
    this.#socket =
      address.transport === "tcp"
        ? connectSocket({ host: address.host, port: address.port, noDelay: true, keepAlive: true })
        : connectSocket({ path: address.path });
    this.#socket.once("connect", () => {
      this.#connected = true;
    });
    this.#listen();
  }

  get stage(): string {
    return this.#connected ? this.#handshake.stage : "connecting";
  }

  fail(error: Error): void {
    if (this.#settled) return;
    this.#settled = true;
    this.#unlisten();
    // A server that refused is sent our goodbye; one that is not understood gets no more.
    if (error instanceof NbdError && error.reply !== undefined) this.#socket.destroySoon();
    else this.#socket.destroy();
    this.#reject(error);
  }

  #listen(): void {
    this.#socket.on("data", this.#onData).on("error", this.#onError).on("end", this.#onEnd).on("close", this.#onEnd);
  }

  /** Ours alone: a socket has listeners of its own. An error that nobody hears would end the process. */
  #unlisten(): void {
    this.#socket.off("data", this.#onData).off("end", this.#onEnd).off("close", this.#onEnd);
    this.#socket.on("error", () => undefined).off("error", this.#onError);
  }

  #perform(actions: readonly HandshakeAction[]): void {
    for (const action of actions) {
      if (this.#settled) return;
      switch (action.kind) {
        case "send":
          this.#socket.write(action.bytes);
          break;
        case "start-tls":
          this.#startTls();
          break;
        case "failed":
          this.fail(action.error);
          break;
        case "done":
          this.#settled = true;
          this.#unlisten();
          this.#socket.pause();
          this.#resolve({ socket: this.#socket, result: action.result, rest: action.rest });
          break;
      }
    }
  }

  #startTls(): void {
    const { tls, address } = this.#target;
    this.#unlisten();
    const plain = this.#socket;
    const secure = connectTls({ ...tlsOptions(tls as NbdTls, address), socket: plain });
    plain.on("error", (error) => secure.destroy(error));
    this.#socket = secure;
    secure.once("secureConnect", () => this.#perform(this.#handshake.secured()));
    this.#listen();
  }

  #connectionError(error: Error): NbdError {
    const { code } = error as NodeJS.ErrnoException;
    const errno = (constants.errno as Readonly<Record<string, number>>)[code ?? ""];
    const what = describeAddress(this.#target.address);
    if (this.#connected && this.#handshake.securing) {
      return new NbdError("ERR_NBD_TLS", `start TLS with ${what}: ${error.message}`, { cause: error, errno });
    }
    const verb = this.#connected ? "negotiate with" : "connect to";
    return new NbdError("ERR_NBD_CONNECT", `${verb} ${what}: ${error.message}`, { cause: error, errno });
  }
}

export function describeAddress(address: NbdAddress): string {
  if (address.transport === "unix") return `'${address.path.replace("\0", "@")}'`;
  return address.host.includes(":") ? `[${address.host}]:${address.port}` : `${address.host}:${address.port}`;
}

function timedOut(address: NbdAddress, timeoutMs: number, stage: string): NbdError {
  const message = `connect to ${describeAddress(address)}: no end within ${timeoutMs} ms; it was ${stage}`;
  return new NbdError("ERR_NBD_TIMEOUT", message, { errno: constants.errno.ETIMEDOUT });
}
