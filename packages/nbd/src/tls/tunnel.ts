/**
 * TLS for threads that have no event loop: a descriptor goes in, and out comes another on which the same conversation
 * passes in the clear. TLS itself ends on a thread of its own, with an event loop, that is started at the first tunnel
 * and ends some time after the last; the two are joined by a pair of Unix sockets.
 *
 *     peer ==TLS== connection | the tunnels' thread | pair --plaintext-- whoever asked
 *
 * If the thread dies its tunnels end like connections that break, and the next one starts another thread.
 */
import { closeFile, errnoName, errnoText, openSocketPair } from "@heirloom/block";
import type { TlsCredentials } from "./credentials.ts";
import { RunningThread } from "./running-thread.ts";
import { TlsError } from "./tls-error.ts";
import type { PeerFacts, StartMessage } from "./tunnel-messages.ts";

const TIMEOUT_MS_DEFAULT = 10_000;
/** A thread is 8 MiB; starting one takes 30 ms. */
const IDLE_MS = 10_000;

export interface TunnelRequest {
  readonly role: "server" | "client";
  /** A connected stream socket. Belongs to the tunnel from the call on, also where that fails. */
  readonly fd: number;
  readonly credentials: TlsCredentials;
  /** What was read of the connection already, and is TLS. */
  readonly unread?: Uint8Array | undefined;
  /** For all of the negotiation. */
  readonly timeoutMs?: number | undefined;
  /** Gives up a negotiation; has no effect on a tunnel that is up. */
  readonly signal?: AbortSignal | undefined;
  /** Server: whether clients must show a certificate. "required" where nothing is said. */
  readonly clientCertificates?: "none" | "optional" | "required" | undefined;
  /** Server: names of clients that may come in (see `isAllowed`), so that they must have one. With keys: users. */
  readonly allowedNames?: readonly string[] | undefined;
  /** Client: name or address that the server's certificate must be for. */
  readonly serverName?: string | undefined;
  /** Client: "name" where nothing is said; "chain" leaves out the name, "none" believes anybody. Keys are always verified. */
  readonly verifyPeer?: "name" | "chain" | "none" | undefined;
}

export interface Tunnel {
  /** Plaintext: never blocks, close-on-exec, the caller's own. */
  readonly fd: number;
  readonly peer: PeerFacts;
}

/** A thread for tunnels, started when there is one; a server has one of its own. */
export class TunnelThread {
  #running: RunningThread | undefined;
  #next = 0;
  #idle: NodeJS.Timeout | undefined;

  /** Tunnels that are up, or on their way. */
  get tunnels(): number {
    return this.#running?.tunnels ?? 0;
  }

  /** @throws TlsError */
  async start(request: TunnelRequest): Promise<Tunnel> {
    try {
      checkRequest(request);
    } catch (error) {
      closeFile(request.fd);
      throw error;
    }
    const pair = openSocketPair();
    if (typeof pair === "number") {
      closeFile(request.fd);
      const why = `${errnoText(-pair)} (${errnoName(-pair)})`;
      throw new TlsError("ERR_NBD_TLS_THREAD", `start TLS: open a pair of sockets: ${why}`);
    }
    const [plainFd, fd] = pair;
    try {
      return { fd, peer: await this.#negotiate(request, plainFd) };
    } catch (error) {
      closeFile(fd);
      throw error;
    }
  }

  /** Ends every tunnel, and the thread. */
  async close(): Promise<void> {
    clearTimeout(this.#idle);
    await this.#running?.end();
  }

  async #negotiate(request: TunnelRequest, plainFd: number): Promise<PeerFacts> {
    const { fd, signal, credentials } = request;
    clearTimeout(this.#idle);
    if (this.#running === undefined || this.#running.ended) this.#running = this.#run();
    const running = this.#running;
    const tunnel = this.#next++;
    const negotiated = running.start({
      type: "start",
      tunnel,
      fd,
      plainFd,
      claim: new Int32Array(new SharedArrayBuffer(4)),
      unread: request.unread ?? new Uint8Array(0),
      credentials,
      verification: verificationOf(request),
      timeoutMs: request.timeoutMs ?? TIMEOUT_MS_DEFAULT,
    });
    const abort = (): void => running.abort(tunnel);
    if (signal?.aborted === true) abort();
    signal?.addEventListener("abort", abort, { once: true });
    return negotiated.finally(() => signal?.removeEventListener("abort", abort));
  }

  #run(): RunningThread {
    const running: RunningThread = new RunningThread(() => {
      clearTimeout(this.#idle);
      this.#idle = setTimeout(() => void running.end(), IDLE_MS).unref();
    });
    return running;
  }
}

/** For those who bring no thread. */
const shared: TunnelThread = new TunnelThread();

/**
 * Puts TLS on a connection.
 *
 * @example
 * const { fd, peer } = await startTlsTunnel({ role: "client", fd: connected, credentials, serverName: "backup.example" });
 * @throws TlsError
 */
export function startTlsTunnel(request: TunnelRequest, thread: TunnelThread = shared): Promise<Tunnel> {
  return thread.start(request);
}

function checkRequest({ role, credentials, verifyPeer = "name", serverName }: TunnelRequest): void {
  if (role === "client" && credentials.type === "x509" && verifyPeer === "name" && (serverName ?? "") === "") {
    const message = "start TLS: expected a name or address to verify the server by (or verifyPeer: 'chain')";
    throw new TlsError("ERR_NBD_TLS_CREDENTIALS", message);
  }
}

function verificationOf(request: TunnelRequest): StartMessage["verification"] {
  const { role, clientCertificates = "required", allowedNames, verifyPeer = "name", serverName } = request;
  return role === "server" ? { role, clientCertificates, allowedNames } : { role, verifyPeer, serverName };
}
