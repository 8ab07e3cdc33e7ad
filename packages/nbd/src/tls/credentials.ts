/**
 * What one side shows and believes in TLS: certificates, or a secret that both have. Plain data, so that it can be posted
 * to the thread that uses it. Whatever can be found wrong with it is found when it is loaded, with the name of the file,
 * and not when the first client comes.
 *
 * Files are laid out as QEMU has them in the `dir` of its tls-creds objects, and libnbd in its certificates directory.
 */
import { createPrivateKey, type KeyObject, X509Certificate } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { createSecureContext } from "node:tls";
import { parsePskFile } from "./psk-file.ts";
import { TlsError } from "./tls-error.ts";

export type Endpoint = "server" | "client";

/** PEM texts. */
export interface X509Credentials {
  readonly type: "x509";
  /** Whom we believe. Undefined, and only for a client: those whom Node believes. */
  readonly ca: string | undefined;
  /** Our own certificate and whatever stands between it and the CA. A client may have none. */
  readonly certificate: string | undefined;
  readonly key: string | undefined;
  /** Certificates that were revoked. */
  readonly crl: string | undefined;
}

export interface PskCredentials {
  readonly type: "psk";
  /** Secrets by the names of those who have them. A client has one. */
  readonly keys: ReadonlyMap<string, Uint8Array>;
}

export type TlsCredentials = X509Credentials | PskCredentials;

const SERVER_AUTH = "1.3.6.1.5.5.7.3.1";
const CLIENT_AUTH = "1.3.6.1.5.5.7.3.2";

/**
 * `ca-cert.pem`, `server-cert.pem` and `server-key.pem` or the same of the client, and `ca-crl.pem` where there is one. A
 * client's own certificate may be missing.
 *
 * @example const credentials = await loadX509Credentials("/etc/pki/heirloom", "server");
 * @param passphrase of the key, if it has one
 * @throws TlsError
 */
export async function loadX509Credentials(
  directory: string,
  endpoint: Endpoint,
  passphrase?: string,
): Promise<X509Credentials> {
  const read = (name: string): Promise<string | undefined> => readIfThere(join(directory, name));
  const ca = await read("ca-cert.pem");
  if (ca === undefined) throw missing(join(directory, "ca-cert.pem"));
  const certificate = await read(`${endpoint}-cert.pem`);
  if (certificate === undefined && endpoint === "server") throw missing(join(directory, "server-cert.pem"));
  const stored = await read(`${endpoint}-key.pem`);
  const key = passphrase === undefined ? stored : decrypted(stored, passphrase, join(directory, `${endpoint}-key.pem`));
  if (key === undefined && certificate !== undefined) throw missing(join(directory, `${endpoint}-key.pem`));
  const texts = { ca, certificate, key: certificate === undefined ? undefined : key, crl: await read("ca-crl.pem") };
  return checkX509(texts, endpoint, {
    ca: join(directory, "ca-cert.pem"),
    certificate: join(directory, `${endpoint}-cert.pem`),
    key: join(directory, `${endpoint}-key.pem`),
    crl: join(directory, "ca-crl.pem"),
  });
}

/**
 * The same from texts.
 *
 * @throws TlsError
 */
export function x509Credentials(
  texts: { readonly [Name in "ca" | "certificate" | "key" | "crl"]?: string | undefined },
  endpoint: Endpoint,
): X509Credentials {
  const { ca, certificate, key, crl } = texts;
  if (endpoint === "server" && (ca === undefined || certificate === undefined)) {
    throw credentialsError("expected a CA, a certificate and its key for a server");
  }
  if ((certificate === undefined) !== (key === undefined)) {
    throw credentialsError("expected a certificate and its key, or neither");
  }
  const names = { ca: "the CA", certificate: "the certificate", key: "the key", crl: "the revocation list" };
  return checkX509({ ca, certificate, key, crl }, endpoint, names);
}

/**
 * Secrets from a file of lines `user:hexkey`, as gnutls' psktool writes it (`keys.psk` in QEMU's directories).
 *
 * @param username which of them a client is; QEMU's clients are "qemu" where nobody says otherwise
 * @throws TlsError
 */
export async function loadPskCredentials(file: string, endpoint: Endpoint, username = "qemu"): Promise<PskCredentials> {
  const text = await readIfThere(file);
  if (text === undefined) throw missing(file);
  const keys = parsePskFile(text, file);
  if (endpoint === "server") return { type: "psk", keys };
  const key = keys.get(username);
  if (key === undefined) throw credentialsError(`${file}: there is no user ${JSON.stringify(username)}`);
  return { type: "psk", keys: new Map([[username, key]]) };
}

type Texts = Omit<X509Credentials, "type">;

function checkX509(texts: Texts, endpoint: Endpoint, names: Record<keyof Texts, string>): X509Credentials {
  const authorities = texts.ca === undefined ? [] : certificatesOf(texts.ca, names.ca);
  for (const authority of authorities) {
    if (!authority.ca) throw credentialsError(`${names.ca}: ${nameOf(authority)} is no CA`);
  }
  if (texts.certificate !== undefined && texts.key !== undefined) {
    const chain = certificatesOf(texts.certificate, names.certificate);
    checkPurpose(chain[0], endpoint, names.certificate);
    if (!chain[0].checkPrivateKey(privateKeyOf(texts.key, names.key))) {
      throw credentialsError(`${names.key}: is not the key of ${names.certificate}`);
    }
    if (texts.ca !== undefined) checkIssuer(chain, authorities, names);
  }
  if (texts.crl !== undefined) checkRevocations(texts.crl, names.crl);
  return { type: "x509", ...texts };
}

function certificatesOf(text: string, name: string): X509Certificate[] {
  const blocks = text.match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g) ?? [];
  if (blocks.length === 0) throw credentialsError(`${name}: expected certificates in PEM, found none`);
  return blocks.map((block) => {
    const certificate = parseCertificate(block, name);
    checkDates(certificate, name);
    return certificate;
  });
}

function parseCertificate(block: string, name: string): X509Certificate {
  try {
    return new X509Certificate(block);
  } catch (error) {
    throw credentialsError(`${name}: not a certificate: ${(error as Error).message}`, error);
  }
}

function checkDates(certificate: X509Certificate, name: string): void {
  const now = Date.now();
  if (Date.parse(certificate.validTo) < now) {
    throw credentialsError(`${name}: ${nameOf(certificate)} expired on ${certificate.validTo}`);
  }
  if (Date.parse(certificate.validFrom) > now) {
    throw credentialsError(`${name}: ${nameOf(certificate)} is not valid before ${certificate.validFrom}`);
  }
}

function checkPurpose(certificate: X509Certificate, endpoint: Endpoint, name: string): void {
  // Undefined, whatever its type says, where the certificate does not restrict what it is for.
  const purposes = certificate.keyUsage as readonly string[] | undefined;
  if (purposes === undefined || purposes.includes(endpoint === "server" ? SERVER_AUTH : CLIENT_AUTH)) return;
  throw credentialsError(`${name}: ${nameOf(certificate)} may not be used by a ${endpoint} (extended key usage)`);
}

/** The key as whoever uses it wants it. */
function decrypted(text: string | undefined, passphrase: string, name: string): string | undefined {
  if (text === undefined) return undefined;
  try {
    return createPrivateKey({ key: text, passphrase }).export({ type: "pkcs8", format: "pem" }) as string;
  } catch (error) {
    throw credentialsError(`${name}: expected a private key in PEM that the given passphrase opens`, error);
  }
}

function privateKeyOf(text: string, name: string): KeyObject {
  try {
    return createPrivateKey(text);
  } catch (error) {
    throw credentialsError(`${name}: expected a private key in PEM without a passphrase`, error);
  }
}

/** From our own certificate up to somebody whom the other side, with the same CA, will believe. */
function checkIssuer(
  chain: readonly X509Certificate[],
  authorities: readonly X509Certificate[],
  names: Record<keyof Texts, string>,
): void {
  let certificate = chain[0];
  for (let steps = 0; steps <= chain.length; steps++) {
    if (authorities.some((authority) => isIssuedBy(certificate, authority))) return;
    const issuer = chain.find((candidate) => candidate !== certificate && isIssuedBy(certificate, candidate));
    if (issuer === undefined) break;
    certificate = issuer;
  }
  throw credentialsError(`${names.certificate}: ${nameOf(certificate)} was not issued by ${names.ca}`);
}

function isIssuedBy(certificate: X509Certificate, issuer: X509Certificate): boolean {
  return certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey);
}

function checkRevocations(text: string, name: string): void {
  try {
    createSecureContext({ crl: text });
  } catch (error) {
    throw credentialsError(`${name}: expected a certificate revocation list in PEM`, error);
  }
}

async function readIfThere(file: string): Promise<string | undefined> {
  try {
    return await readFile(file, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw credentialsError(`${file}: ${(error as Error).message}`, error);
  }
}

function missing(file: string): TlsError {
  return credentialsError(`${file}: no such file`);
}

function nameOf(certificate: X509Certificate): string {
  return `"${certificate.subject.replaceAll("\n", ",")}"`;
}

function credentialsError(what: string, cause?: unknown): TlsError {
  return new TlsError("ERR_NBD_TLS_CREDENTIALS", `TLS credentials: ${what}`, cause);
}
