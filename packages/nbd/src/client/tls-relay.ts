/**
 * TLS for nodes: their threads have no event loop, so a relay with one stands in between. It listens on a Unix socket in a
 * directory of its own (mode 0700), and for each connection that comes there makes one to the server, up to the point where
 * TLS stands; from there on bytes pass through, decrypted in one direction and encrypted in the other. So the client's options and
 * everything after them are between the node and the server.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { once } from "node:events";
import { NBD_MAGIC, OPTION_MAGIC } from "../protocol/constants.ts";
import type { NbdAddress } from "../protocol/uri.ts";
import type { NbdTls } from "./tls-credentials.ts";
import { negotiate } from "./transport.ts";

export interface TlsRelayOptions {
  readonly address: NbdAddress;
  readonly tls: NbdTls;
  /** For each connection, up to where TLS stands; 10 s by default. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

const CLIENT_FLAGS_BYTES = 4;

/**
 * @example
 * const relay = await TlsRelay.open({ address, tls });
 * const node = await openNode(nbdNode({ path: relay.path, export: "vm" }));
 * // when the node is closed:
 * await relay.close();
 */
export class TlsRelay {
  /** Where nodes connect. */
  readonly path: string;
  readonly #directory: string;
  readonly #options: TlsRelayOptions;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #closing = new AbortController();

  private constructor(directory: string, options: TlsRelayOptions) {
    this.#directory = directory;
    this.path = join(directory, "nbd");
    this.#options = options;
    this.#server = createServer({ pauseOnConnect: true }, (local) => void this.#relay(local));
  }

  /** Connects once, so that what is wrong with the server, or with us in its eyes, is told here. @throws NbdError, or the signal's reason */
  static async open(options: TlsRelayOptions): Promise<TlsRelay> {
    const { address, tls, timeoutMs = TIMEOUT_MS, signal } = options;
    const target = { address, tls, exportName: "" };
    const { socket } = await negotiate(target, { kind: "secure" }, { timeoutMs, signal });
    socket.destroy();
    const relay = new TlsRelay(await mkdtemp(join(tmpdir(), "heirloom-relay-")), options);
    relay.#server.listen(relay.path);
    await once(relay.#server, "listening");
    relay.#server.unref();
    return relay;
  }

  /** Its connections break. */
  async close(): Promise<void> {
    this.#closing.abort();
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
    await rm(this.#directory, { recursive: true, force: true });
  }

  async #relay(local: Socket): Promise<void> {
    this.#keep(local);
    const { address, tls, timeoutMs = TIMEOUT_MS } = this.#options;
    const target = { address, tls, exportName: "" };
    try {
      const { signal } = this.#closing;
      const { socket: remote, result } = await negotiate(target, { kind: "secure" }, { timeoutMs, signal });
      if (result.kind !== "secured" || local.destroyed) {
        remote.destroy();
        local.destroy();
        return;
      }
      this.#keep(remote);
      tie(local, remote);
      const greeting = Buffer.alloc(18);
      greeting.writeBigUInt64BE(NBD_MAGIC, 0);
      greeting.writeBigUInt64BE(OPTION_MAGIC, 8);
      greeting.writeUInt16BE(result.flags, 16);
      local.write(greeting);
      passWithout(local, remote, CLIENT_FLAGS_BYTES);
      remote.pipe(local);
    } catch {
      local.destroy(); // the node's own deadline and policy say what becomes of it
    }
  }

  #keep(socket: Socket): void {
    this.#sockets.add(socket);
    socket.once("close", () => this.#sockets.delete(socket));
  }
}

const TIMEOUT_MS = 10_000;

/** What ends one ends the other. */
function tie(local: Socket, remote: Socket): void {
  for (const [one, other] of [
    [local, remote],
    [remote, local],
  ] as const) {
    one.on("error", () => undefined);
    one.once("close", () => other.destroy());
  }
}

/** Passes on all but the first bytes: the client's flags, which the server has had from us. */
function passWithout(from: Socket, to: Socket, count: number): void {
  let left = count;
  const onData = (bytes: Buffer): void => {
    const dropped = Math.min(left, bytes.length);
    left -= dropped;
    if (dropped < bytes.length) to.write(bytes.subarray(dropped));
    if (left > 0) return;
    from.off("data", onData);
    from.pipe(to);
  };
  from.on("data", onData);
  from.resume();
}
