/** `--tls-creds DIR` and `--tls-psk FILE`: laid out as QEMU's tools and libnbd have them. */
import { loadPskCredentials, loadX509Credentials, type ServerTls } from "@heirloom/nbd";
import { UsageError } from "../command-error.ts";

export interface TlsFlags {
  readonly tlsCreds?: string;
  readonly tlsPsk?: string;
  readonly tlsClients?: "required" | "optional" | "none";
  readonly tlsAllow?: readonly string[];
}

/** Undefined: clients come in the clear. @throws UsageError, TlsError */
export async function loadServerTls(flags: TlsFlags): Promise<ServerTls | undefined> {
  const { tlsCreds, tlsPsk, tlsClients, tlsAllow } = flags;
  const names = tlsAllow === undefined ? {} : { allowedNames: tlsAllow };
  if (tlsCreds !== undefined && tlsPsk !== undefined) {
    throw new UsageError("--tls-creds and --tls-psk are two kinds of TLS; give one of them");
  }
  if (tlsClients !== undefined && tlsCreds === undefined) {
    throw new UsageError("--tls-clients is about certificates; it needs --tls-creds DIR");
  }
  if (tlsCreds !== undefined) {
    if (tlsClients === "none" && tlsAllow !== undefined) {
      throw new UsageError("--tls-allow needs clients' certificates, and --tls-clients none asks for none");
    }
    const credentials = await loadX509Credentials(tlsCreds, "server");
    return { credentials, clientCertificates: tlsClients ?? "required", ...names };
  }
  if (tlsPsk !== undefined) return { credentials: await loadPskCredentials(tlsPsk, "server"), ...names };
  if (tlsAllow !== undefined) throw new UsageError("--tls-allow needs TLS: --tls-creds DIR or --tls-psk FILE");
  return undefined;
}
