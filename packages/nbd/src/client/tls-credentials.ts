/**
 * What a client shows and demands in TLS, and how a URI's file names become it. The directory of certificates is laid
 * out as QEMU's, libnbd's and nbdkit's is, and a file of keys is GnuTLS's: a line `name:hexkey` for each user.
 */
import { existsSync, readFileSync } from "node:fs";
import { userInfo } from "node:os";
import { join } from "node:path";
import type { ConnectionOptions } from "node:tls";
import { NbdError } from "../protocol/nbd-error.ts";
import type { NbdAddress, NbdUriTls } from "../protocol/uri.ts";

export interface NbdTls {
  /** PEM. Without it the authorities that Node knows. */
  readonly ca?: string;
  /** PEM, with `key`: what we show a server that wants to know its clients. */
  readonly certificate?: string;
  readonly key?: string;
  /** The name that the server's certificate must have; by default the host's, and `localhost` on a Unix socket. */
  readonly hostname?: string;
  /** False: anybody may be at the other end. */
  readonly verifyPeer?: boolean;
  /** A key that both sides have, instead of certificates. */
  readonly psk?: { readonly identity: string; readonly key: Uint8Array };
}

/** Suites with a key of both sides; those of TLS 1.3 take either kind. */
const PSK_SUITES =
  "TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:" +
  "ECDHE-PSK-CHACHA20-POLY1305:DHE-PSK-AES256-GCM-SHA384:DHE-PSK-CHACHA20-POLY1305:DHE-PSK-AES128-GCM-SHA256";

/**
 * Reads the files that a URI names.
 *
 * @throws NbdError ERR_NBD_TLS that says which file and why.
 */
export function readTlsFiles(uri: NbdUriTls): NbdTls {
  if (uri.type === "anon") {
    throw new NbdError("ERR_NBD_TLS", "TLS without any proof of who is there (anon) is not supported");
  }
  const common = {
    ...(uri.hostname === undefined ? {} : { hostname: uri.hostname }),
    ...(uri.verifyPeer === undefined ? {} : { verifyPeer: uri.verifyPeer }),
  };
  if (uri.pskFile !== undefined) {
    if (uri.type === "x509") throw new NbdError("ERR_NBD_TLS", "'tls-psk-file' is for tls-type=psk, not for x509");
    return { ...common, psk: readKey(uri.pskFile, uri.username) };
  }
  if (uri.type === "psk") throw new NbdError("ERR_NBD_TLS", "expected 'tls-psk-file', the file of keys");
  if (uri.certificates === undefined) return common;
  const certificate = readOptional(join(uri.certificates, "client-cert.pem"));
  return {
    ...common,
    ca: read(join(uri.certificates, "ca-cert.pem")),
    ...(certificate === undefined ? {} : { certificate, key: read(join(uri.certificates, "client-key.pem")) }),
  };
}

/** The options of `tls.connect` for a connection to `address`. */
export function tlsOptions(tls: NbdTls, address: NbdAddress): ConnectionOptions {
  const name = tls.hostname ?? (address.transport === "tcp" ? address.host : "localhost");
  const { psk } = tls;
  if (psk !== undefined) {
    return {
      ciphers: PSK_SUITES,
      minVersion: "TLSv1.2",
      pskCallback: () => ({ identity: psk.identity, psk: psk.key }),
      // The key is the proof. A server that shows a certificate instead has not got it, whoever has signed that.
      checkServerIdentity: (_name, certificate) =>
        Object.keys(certificate ?? {}).length === 0
          ? undefined
          : new Error("the server shows a certificate where both sides should have a key"),
    };
  }
  return {
    minVersion: "TLSv1.2",
    // An address is no name that a handshake may ask for; the certificate is still held against it.
    ...(/^[\d.]+$|:/.test(name) ? {} : { servername: name }),
    host: name,
    rejectUnauthorized: tls.verifyPeer !== false,
    ...(tls.ca === undefined ? {} : { ca: tls.ca }),
    ...(tls.certificate === undefined ? {} : { cert: tls.certificate, key: tls.key }),
  };
}

function readKey(file: string, username: string | undefined): { identity: string; key: Uint8Array } {
  const name = username ?? userInfo().username;
  const line = read(file)
    .split("\n")
    .find((text) => text.startsWith(`${name}:`));
  const hex = line?.slice(name.length + 1).trim();
  if (hex === undefined) {
    throw new NbdError("ERR_NBD_TLS", `read '${file}': expected a line '${name}:...' with the key of that user`);
  }
  if (!/^(?:[0-9a-f]{2})+$/i.test(hex)) {
    throw new NbdError("ERR_NBD_TLS", `read '${file}': the key of '${name}' is not in hexadecimal`);
  }
  return { identity: name, key: Buffer.from(hex, "hex") };
}

function readOptional(file: string): string | undefined {
  return existsSync(file) ? read(file) : undefined;
}

function read(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (cause) {
    throw new NbdError("ERR_NBD_TLS", `read '${file}': ${(cause as Error).message}`, { cause });
  }
}
