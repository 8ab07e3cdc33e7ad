/**
 * One TLS negotiation over a connected socket, as server or client: resolves when both sides are satisfied, or fails with
 * what was wrong. TLS 1.2 and up; no anonymous suites; no resumption, so that every connection is verified itself.
 */
import { constants } from "node:crypto";
import { isIP, type Socket } from "node:net";
import {
  connect,
  type ConnectionOptions,
  createServer,
  type PeerCertificate,
  type TLSSocket,
  type TlsOptions,
} from "node:tls";
import { distinguishedName, isAllowed } from "./allowed-names.ts";
import type { PskCredentials, TlsCredentials } from "./credentials.ts";
import { TlsError } from "./tls-error.ts";
import type { PeerFacts, Verification } from "./tunnel-messages.ts";

/**
 * Suites for pre-shared keys. Those of TLS 1.3 first, and of these the ones with SHA-256, the hash that a key without a
 * hash of its own has. Then those of TLS 1.2 with a key exchange, then the bare ones.
 */
const PSK_SUITES: string = [
  "TLS_AES_128_GCM_SHA256",
  "TLS_CHACHA20_POLY1305_SHA256",
  "ECDHE-PSK-CHACHA20-POLY1305",
  "ECDHE-PSK-AES256-CBC-SHA384",
  "ECDHE-PSK-AES128-CBC-SHA256",
  "DHE-PSK-AES256-GCM-SHA384",
  "DHE-PSK-AES128-GCM-SHA256",
  "PSK-AES256-GCM-SHA384",
  "PSK-AES128-GCM-SHA256",
].join(":");

export interface Secured {
  readonly socket: TLSSocket;
  readonly peer: PeerFacts;
}

/** The caller owns `raw` and destroys it where this fails. @throws TlsError */
export async function secure(raw: Socket, credentials: TlsCredentials, verification: Verification): Promise<Secured> {
  const secured =
    verification.role === "server"
      ? await secureAsServer(raw, credentials, verification)
      : await secureAsClient(raw, credentials, verification);
  secured.socket.on("error", () => undefined); // until its owner listens
  return secured;
}

function commonOptions(credentials: TlsCredentials): TlsOptions {
  const secureOptions = constants.SSL_OP_NO_TICKET | constants.SSL_OP_NO_RENEGOTIATION;
  const options: TlsOptions = { minVersion: "TLSv1.2", secureOptions };
  // Nobody's certificate is worth anything where a key is what counts.
  if (credentials.type === "psk") return { ...options, ciphers: PSK_SUITES, ca: [] };
  const { ca, certificate, key, crl } = credentials;
  return {
    ...options,
    ...(ca === undefined ? {} : { ca }),
    ...(certificate === undefined ? {} : { cert: certificate }),
    ...(key === undefined ? {} : { key }),
    ...(crl === undefined ? {} : { crl }),
  };
}

function secureAsServer(
  raw: Socket,
  credentials: TlsCredentials,
  verification: Verification & { role: "server" },
): Promise<Secured> {
  let identity: string | undefined;
  const { clientCertificates } = verification;
  const psk = credentials.type === "psk" ? credentials : undefined;
  const server = createServer({
    ...commonOptions(credentials),
    dhparam: "auto",
    requestCert: psk === undefined && clientCertificates !== "none",
    // Looked at below: Node would hang up without a word on why.
    rejectUnauthorized: false,
    ...(psk === undefined
      ? {}
      : {
          pskCallback: (_socket: TLSSocket, name: string) => {
            identity = name;
            return psk.keys.get(name) ?? null;
          },
        }),
  } as TlsOptions);
  return new Promise((resolve, reject) => {
    const fail = (error: Error): void => reject(handshakeError(error));
    server.once("secureConnection", (socket) => {
      const problem = problemWithClient(socket, verification, identity, psk !== undefined);
      if (problem === undefined) resolve({ socket, peer: factsOf(socket, identity) });
      else reject(problem);
    });
    server.once("tlsClientError", fail);
    raw.once("error", fail);
    raw.once("close", () => fail(new Error("the connection was closed")));
    server.emit("connection", raw);
  });
}

/** Why a client that has negotiated TLS is not let in. */
function problemWithClient(
  socket: TLSSocket,
  verification: Verification & { role: "server" },
  identity: string | undefined,
  withPsk: boolean,
): TlsError | undefined {
  const { clientCertificates, allowedNames } = verification;
  if (withPsk) {
    if (allowedNames === undefined || allowedNames.includes(identity ?? "")) return undefined;
    return new TlsError("ERR_NBD_TLS_NOT_ALLOWED", `the client ${JSON.stringify(identity)} is not allowed`);
  }
  if (clientCertificates === "none") return undefined;
  const certificate = socket.getPeerX509Certificate();
  if (certificate === undefined) {
    if (clientCertificates === "optional" && allowedNames === undefined) return undefined;
    return new TlsError("ERR_NBD_TLS_HANDSHAKE", "the client showed no certificate");
  }
  if (!socket.authorized) {
    const why = String(socket.authorizationError);
    return new TlsError("ERR_NBD_TLS_HANDSHAKE", `the client's certificate is not valid: ${why}`);
  }
  if (allowedNames === undefined || isAllowed(certificate, allowedNames)) return undefined;
  const name = distinguishedName(certificate);
  return new TlsError("ERR_NBD_TLS_NOT_ALLOWED", `the client ${JSON.stringify(name)} is not allowed`);
}

function secureAsClient(
  raw: Socket,
  credentials: TlsCredentials,
  verification: Verification & { role: "client" },
): Promise<Secured> {
  const { serverName, verifyPeer } = verification;
  const psk = credentials.type === "psk" ? onlyKey(credentials) : undefined;
  const verifies = psk !== undefined || verifyPeer !== "none";
  return new Promise((resolve, reject) => {
    const socket = connect({
      ...commonOptions(credentials),
      socket: raw,
      // Names go into the handshake; addresses must not, and are only compared.
      ...(serverName === undefined ? {} : isIP(serverName) === 0 ? { servername: serverName } : { host: serverName }),
      rejectUnauthorized: verifies,
      ...(psk === undefined
        ? verifyPeer === "chain"
          ? { checkServerIdentity: () => undefined }
          : {}
        : { pskCallback: () => psk, checkServerIdentity: refuseCertificate }),
    } as ConnectionOptions);
    const fail = (error: Error): void => reject(handshakeError(error));
    socket.once("secureConnect", () => {
      resolve({ socket, peer: factsOf(socket, psk?.identity) });
    });
    socket.once("error", fail);
    socket.once("close", () => fail(new Error("the server closed the connection")));
  });
}

function onlyKey({ keys }: PskCredentials): { identity: string; psk: Uint8Array } {
  for (const [identity, psk] of keys) return { identity, psk };
  throw new TlsError("ERR_NBD_TLS_CREDENTIALS", "TLS credentials: there is no key");
}

/** A server that shows a certificate has not shown that it knows our secret, whoever signed it. */
function refuseCertificate(_name: string, certificate: PeerCertificate): Error {
  return new Error(`the server shows a certificate (${String(certificate.subject.CN)}) where it should know a key`);
}

function factsOf(socket: TLSSocket, identity: string | undefined): PeerFacts {
  const certificate = socket.getPeerX509Certificate();
  return {
    protocol: socket.getProtocol() ?? "unknown",
    cipher: socket.getCipher().standardName,
    subject: certificate === undefined ? undefined : distinguishedName(certificate),
    identity,
  };
}

function handshakeError(error: Error): TlsError {
  const { code, reason } = error as { readonly code?: string; readonly reason?: string };
  const why = reason ?? error.message;
  const told = code === undefined || why.includes(code) || code.startsWith("ERR_SSL") ? why : `${why} (${code})`;
  return new TlsError("ERR_NBD_TLS_HANDSHAKE", `TLS was not negotiated: ${told}`, error);
}
