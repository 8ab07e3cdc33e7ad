/**
 * The thread's side of tunnels: takes over two descriptors, negotiates TLS on one, and carries bytes to the other. It is
 * the only thread of the server with connections on its event loop, and has nothing else to do.
 *
 * Descriptors are Node's as soon as they are wrapped: they are closed with their sockets, and all of them when the thread
 * ends, however it ends.
 */
import { Socket } from "node:net";
import type { MessagePort } from "node:worker_threads";
import { closeFile } from "@heirloom/block";
import { bridge } from "./bridge.ts";
import { secure } from "./secure-socket.ts";
import { TlsError, type TlsErrorCode } from "./tls-error.ts";
import { claimForThread, type FromTunnels, type StartMessage, type ToTunnels } from "./tunnel-messages.ts";

/** A peer that vanished without a word is found out by the kernel in some minutes. */
const KEEP_ALIVE_MS = 60_000;

export function carryTunnels(port: MessagePort): void {
  const tell = (message: FromTunnels): void => port.postMessage(message);
  /** How to give up those that are not up yet. */
  const abandon = new Map<number, () => void>();

  port.on("message", (message: ToTunnels) => {
    if (message.type === "end") process.exit(); // of this thread: Node closes all that is wrapped
    if (message.type === "abort") abandon.get(message.tunnel)?.();
    else if (claimForThread(message.claim)) start(message);
  });

  function start(message: StartMessage): void {
    const { tunnel } = message;
    // A peer that ends in the middle of the negotiation is gone; once TLS stands, each direction ends for itself.
    const raw = wrap(message.fd, { allowHalfOpen: false });
    const plain = wrap(message.plainFd, { allowHalfOpen: true });
    if (raw === undefined || plain === undefined) {
      raw?.destroy();
      plain?.destroy();
      tell({ type: "failed", tunnel, code: "ERR_NBD_TLS_THREAD", message: "the descriptor is not of a stream socket" });
      return;
    }
    raw.setNoDelay(true);
    raw.setKeepAlive(true, KEEP_ALIVE_MS);
    if (message.unread.length > 0) raw.unshift(message.unread);

    let settled = false;
    const fail = (code: TlsErrorCode, text: string): void => {
      if (settled) return;
      settled = true;
      clearTimeout(deadline);
      abandon.delete(tunnel);
      raw.destroy();
      plain.destroy();
      tell({ type: "failed", tunnel, code, message: text });
    };
    const deadline = setTimeout(() => {
      fail("ERR_NBD_TLS_TIMEOUT", `TLS was not negotiated within ${message.timeoutMs} ms`);
    }, message.timeoutMs);
    abandon.set(tunnel, () => fail("ERR_NBD_TLS_ABORTED", "TLS was given up before it was negotiated"));

    secure(raw, message.credentials, message.verification).then(
      ({ socket, peer }) => {
        if (settled) {
          socket.destroy();
          return;
        }
        settled = true;
        clearTimeout(deadline);
        abandon.delete(tunnel);
        socket.allowHalfOpen = true;
        bridge(socket, plain, message.plainFd, () => tell({ type: "down", tunnel }));
        tell({ type: "up", tunnel, peer });
      },
      (error: unknown) => {
        if (error instanceof TlsError) fail(error.code, error.message);
        else fail("ERR_NBD_TLS_THREAD", String(error));
      },
    );
  }
}

/** Node's from here on; undefined, and closed, where it is no socket. Errors reach whoever negotiates, or carries, too. */
function wrap(fd: number, options: { readonly allowHalfOpen: boolean }): Socket | undefined {
  try {
    return new Socket({ fd, ...options }).on("error", () => undefined);
  } catch {
    closeFile(fd);
    return undefined;
  }
}
