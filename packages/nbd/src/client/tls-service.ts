/**
 * TLS for the driver's threads: they hand in a connection on which TLS was agreed, and get a descriptor on which the same
 * conversation passes in the clear (tls/tunnel.ts). Files of credentials are read for each connection, so that renewed
 * certificates are used.
 *
 * It runs on a thread of its own (tls-service-worker.ts), so that whoever opens a node may block, and belongs to the thread
 * that started it, so that connections outlive the threads that made them.
 */
import { userInfo } from "node:os";
import { BroadcastChannel, Worker } from "node:worker_threads";
import { closeFile } from "@heirloom/block";
import type { NbdUriTls } from "../protocol/uri.ts";
import { loadPskCredentials, loadX509Credentials, type TlsCredentials, x509Credentials } from "../tls/credentials.ts";
import { startTlsTunnel } from "../tls/tunnel.ts";
import {
  DELIVERED,
  type FromTlsService,
  OFFERED,
  TAKEN,
  TLS_CHANNEL,
  type ToTlsService,
} from "./tls-service-messages.ts";

let service: Worker | undefined;

/**
 * Starts the thread for TLS of nbd nodes, once; `nbdNode` does it for URIs that need it. Call it on a thread that outlives
 * the nodes: the main thread.
 */
export function startNbdTls(): void {
  if (service !== undefined) return;
  service = new Worker(new URL("./tls-service-worker.js", import.meta.url), { name: "heirloom-nbd-tls", execArgv: [] });
  service.unref();
  service.once("exit", () => {
    service = undefined;
  });
  // Who asks it gets no answer, and says so.
  service.on("error", () => undefined);
}

/** The service's side. */
export function serveTls(): void {
  const channel = new BroadcastChannel(TLS_CHANNEL);
  const tell = (message: FromTlsService): void => channel.postMessage(message);
  channel.onmessage = (event: unknown): void => {
    const message = (event as { data: ToTlsService | FromTlsService }).data;
    if (!("ask" in message)) return;
    if (message.ask === "hello") tell({ to: message.from, is: "here" });
    else void secure(message, tell);
  };
}

async function secure(
  message: Extract<ToTlsService, { ask: "secure" }>,
  tell: (message: FromTlsService) => void,
): Promise<void> {
  const { claim, from, fd, tls, serverName, timeoutMs } = message;
  // Another service may have it, or the thread has gone on without.
  if (Atomics.compareExchange(claim, 0, OFFERED, TAKEN) !== OFFERED) return;
  try {
    const credentials = await loadCredentials(tls, fd);
    const verifyPeer = tls.verifyPeer === false ? "none" : "name";
    const tunnel = await startTlsTunnel({ role: "client", fd, credentials, serverName, verifyPeer, timeoutMs });
    if (Atomics.compareExchange(claim, 0, TAKEN, DELIVERED) === TAKEN) tell({ to: from, is: "secured", fd: tunnel.fd });
    else closeFile(tunnel.fd);
  } catch (error) {
    tell({ to: from, is: "failed", message: (error as Error).message });
  }
}

/** The connection is ours to close until the tunnel has it. */
async function loadCredentials(tls: NbdUriTls, fd: number): Promise<TlsCredentials> {
  try {
    if (tls.type === "anon") throw new Error("TLS without any proof of who is there (anon) is not supported");
    if (tls.pskFile !== undefined) {
      return await loadPskCredentials(tls.pskFile, "client", tls.username ?? userInfo().username);
    }
    if (tls.type === "psk") throw new Error("expected 'tls-psk-file', the file of keys");
    return tls.certificates === undefined
      ? x509Credentials({}, "client")
      : await loadX509Credentials(tls.certificates, "client");
  } catch (error) {
    closeFile(fd);
    throw error;
  }
}
