/** TLS for a server's clients: what it shows them, what it wants of them, and the thread that does it. */
import type { TlsCredentials } from "../tls/credentials.ts";
import { startTlsTunnel, type TunnelThread } from "../tls/tunnel.ts";
import type { TlsStarter } from "./negotiation.ts";

export interface ServerTls {
  readonly credentials: TlsCredentials;
  /** "required" where nothing is said. Not for pre-shared keys. */
  readonly clientCertificates?: "none" | "optional" | "required" | undefined;
  /** Names of clients that may come in; undefined: all whose certificate or key is good. */
  readonly allowedNames?: readonly string[] | undefined;
}

export function tlsStarter(tls: ServerTls, thread: TunnelThread): TlsStarter {
  return (request) => startTlsTunnel({ role: "server", ...tls, ...request }, thread);
}
