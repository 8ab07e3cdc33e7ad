/**
 * NBD URIs, as doc/uri.md of the NetworkBlockDevice project has them, with libnbd's parameters for credentials.
 *
 *   nbd://[user@][host][:port]/[export]          TCP in the clear; no host is localhost, no port is 10809
 *   nbds://...                                   TCP with TLS, or nothing
 *   nbd+unix:///[export]?socket=PATH             a Unix socket; a path that begins with %00 is in the abstract namespace
 *   nbds+unix://[user@]/[export]?socket=PATH     with TLS, or nothing
 *
 * An export's name is free text: the whole path but for its first slash, percent-decoded. `nbd:` never means "TLS if the
 * server has it", which anybody in between could turn off. What is not understood is refused, never passed over: a
 * misspelt parameter must not end in a connection to something else.
 */
import { isIPv6 } from "node:net";
import { STRING_BYTES_MAX } from "./constants.ts";
import { NbdError } from "./nbd-error.ts";

/** The port that IANA has given to NBD. */
export const NBD_PORT = 10809;

export type NbdAddress =
  /** A name, an IPv4 or an IPv6 address (without brackets). */
  | { readonly transport: "tcp"; readonly host: string; readonly port: number }
  /** A path that begins with a NUL is a name in Linux's abstract namespace. */
  | { readonly transport: "unix"; readonly path: string };

/** What a URI says of TLS. Files are not read here. */
export interface NbdUriTls {
  readonly type?: "anon" | "x509" | "psk";
  /** Directory with ca-cert.pem, and client-cert.pem and client-key.pem where the server wants them. */
  readonly certificates?: string;
  /** File of `name:hexkey` lines. */
  readonly pskFile?: string;
  readonly username?: string;
  /** The name that the server's certificate must have, where it is not the host's. */
  readonly hostname?: string;
  /** False: anybody may be at the other end. */
  readonly verifyPeer?: boolean;
}

export interface NbdUri {
  readonly address: NbdAddress;
  /** "" is the default export. */
  readonly exportName: string;
  /** There is TLS, and nothing goes without it. `undefined`: in the clear. */
  readonly tls?: NbdUriTls;
}

const SCHEMES: Readonly<Record<string, { transport: NbdAddress["transport"]; tls: boolean }>> = {
  nbd: { transport: "tcp", tls: false },
  nbds: { transport: "tcp", tls: true },
  "nbd+unix": { transport: "unix", tls: false },
  "nbds+unix": { transport: "unix", tls: true },
};

const PARAMETERS = [
  "socket",
  "tls-type",
  "tls-certificates",
  "tls-psk-file",
  "tls-username",
  "tls-hostname",
  "tls-verify-peer",
] as const;
type Parameter = (typeof PARAMETERS)[number];

/** scheme "://" authority ["/" path] ["?" query] */
const SHAPE = /^([a-z][a-z0-9+.-]*):\/\/([^/?#]*)(\/[^?#]*)?(?:\?([^#]*))?$/i;
const HOST_AND_PORT = /^(?:\[([^\]]*)\]|([^:[\]]*))(?::(\d*))?$/;

/**
 * @throws NbdError ERR_NBD_URI that says what was expected.
 * @example parseNbdUri("nbd+unix:///disk?socket=/run/nbd.sock").address // { transport: "unix", path: "/run/nbd.sock" }
 */
export function parseNbdUri(text: string): NbdUri {
  if (text.includes("#")) throw refusal(text, "a URI of NBD has no fragment; a '#' in a name is written %23");
  const shape = SHAPE.exec(text);
  if (shape === null) throw refusal(text, "expected nbd://HOST[:PORT]/EXPORT or nbd+unix:///EXPORT?socket=PATH");
  const [, schemeName, authority, path = "", query = ""] = shape;
  const scheme = Object.hasOwn(SCHEMES, schemeName.toLowerCase()) ? SCHEMES[schemeName.toLowerCase()] : undefined;
  if (scheme === undefined) {
    throw refusal(text, `the scheme '${schemeName}' is unknown; expected one of ${Object.keys(SCHEMES).join(", ")}`);
  }
  const parameters = readParameters(text, query);
  const { userinfo, hostAndPort } = splitAuthority(text, authority);
  const address =
    scheme.transport === "tcp"
      ? readTcp(text, hostAndPort, parameters)
      : readUnix(text, hostAndPort, parameters.get("socket"));
  const exportName = decode(text, "the export's name", path.slice(1));
  checkName(text, exportName);
  if (scheme.tls) return { address, exportName, tls: readTls(text, userinfo, parameters) };
  for (const name of parameters.keys()) {
    if (name !== "socket") throw refusal(text, `'${name}' needs TLS; expected the scheme ${secured(scheme.transport)}`);
  }
  if (userinfo !== undefined) {
    throw refusal(text, `a user's name is for TLS; expected the scheme ${secured(scheme.transport)}`);
  }
  return { address, exportName };
}

/**
 * `parseNbdUri` of what this answers gives what was formatted.
 *
 * @throws NbdError ERR_NBD_URI for what no URI can say.
 */
export function formatNbdUri(uri: NbdUri): string {
  const { address, exportName, tls } = uri;
  checkName(exportName, exportName);
  const query: string[] = [];
  const add = (name: Parameter, value: string | undefined): void => {
    if (value !== undefined) query.push(`${name}=${encode(value)}`);
  };
  let authority = tls?.username === undefined ? "" : `${encodeURIComponent(tls.username)}@`;
  if (address.transport === "unix") {
    add("socket", address.path);
  } else {
    authority += formatHost(address.host) + (address.port === NBD_PORT ? "" : `:${address.port}`);
  }
  add("tls-type", tls?.type);
  add("tls-certificates", tls?.certificates);
  add("tls-psk-file", tls?.pskFile);
  add("tls-hostname", tls?.hostname);
  add("tls-verify-peer", tls?.verifyPeer === undefined ? undefined : tls.verifyPeer ? "1" : "0");
  const scheme = (tls === undefined ? "nbd" : "nbds") + (address.transport === "unix" ? "+unix" : "");
  return `${scheme}://${authority}/${encode(exportName)}${query.length === 0 ? "" : `?${query.join("&")}`}`;
}

function readParameters(text: string, query: string): Map<Parameter, string> {
  const parameters = new Map<Parameter, string>();
  for (const field of query === "" ? [] : query.split("&")) {
    const equals = field.indexOf("=");
    const name = equals < 0 ? field : field.slice(0, equals);
    if (!isParameter(name)) {
      throw refusal(text, `the parameter '${name}' is unknown; expected one of ${PARAMETERS.join(", ")}`);
    }
    if (parameters.has(name)) throw refusal(text, `'${name}' is given twice`);
    const value = decode(text, `'${name}'`, equals < 0 ? "" : field.slice(equals + 1));
    if (value === "") throw refusal(text, `'${name}' is empty`);
    parameters.set(name, value);
  }
  return parameters;
}

function isParameter(name: string): name is Parameter {
  return (PARAMETERS as readonly string[]).includes(name);
}

function splitAuthority(text: string, authority: string): { userinfo: string | undefined; hostAndPort: string } {
  const at = authority.indexOf("@");
  if (at < 0) return { userinfo: undefined, hostAndPort: authority };
  const userinfo = authority.slice(0, at);
  if (userinfo.includes(":")) throw refusal(text, "a URI holds no password; expected USER@HOST");
  const user = decode(text, "the user's name", userinfo);
  return { userinfo: user === "" ? undefined : user, hostAndPort: authority.slice(at + 1) };
}

function readTcp(text: string, hostAndPort: string, parameters: Map<Parameter, string>): NbdAddress {
  if (parameters.has("socket")) {
    throw refusal(text, "'socket' is for Unix sockets; expected the scheme nbd+unix or nbds+unix");
  }
  const match = HOST_AND_PORT.exec(hostAndPort);
  if (match === null) throw refusal(text, "expected HOST[:PORT], an IPv6 address in brackets");
  const [, ipv6, name, digits = ""] = match;
  const port = digits === "" ? NBD_PORT : Number(digits);
  if (port < 1 || port > 65535) throw refusal(text, `the port must be from 1 to 65535, not ${digits}`);
  const host = decode(text, "the host", ipv6 ?? name);
  if (ipv6 !== undefined && !isIPv6(host)) throw refusal(text, `'[${ipv6}]' is no IPv6 address`);
  if (host.includes("\0")) throw refusal(text, "a host has no NUL");
  return { transport: "tcp", host: host === "" ? "localhost" : host, port };
}

function readUnix(text: string, hostAndPort: string, socket: string | undefined): NbdAddress {
  if (socket === undefined) throw refusal(text, "expected ?socket=PATH, the path of the Unix socket");
  if (hostAndPort !== "") {
    throw refusal(text, `a Unix socket has no host '${hostAndPort}'; expected three slashes before the export's name`);
  }
  if (socket.lastIndexOf("\0") > 0) throw refusal(text, "'socket' has a NUL inside");
  if (socket === "\0") throw refusal(text, "'socket' is empty");
  return { transport: "unix", path: socket };
}

function readTls(text: string, userinfo: string | undefined, parameters: Map<Parameter, string>): NbdUriTls {
  const type = parameters.get("tls-type");
  if (type !== undefined && type !== "anon" && type !== "x509" && type !== "psk") {
    throw refusal(text, `'tls-type' must be anon, x509 or psk, not '${type}'`);
  }
  const named = parameters.get("tls-username");
  if (named !== undefined && userinfo !== undefined && named !== userinfo) {
    throw refusal(text, `the user's name is '${userinfo}' in one place and '${named}' in another`);
  }
  const certificates = parameters.get("tls-certificates");
  const pskFile = parameters.get("tls-psk-file");
  if (certificates !== undefined && pskFile !== undefined) {
    throw refusal(text, "expected either 'tls-certificates' or 'tls-psk-file'");
  }
  const username = named ?? userinfo;
  const hostname = parameters.get("tls-hostname");
  const verify = parameters.get("tls-verify-peer");
  return {
    ...(type === undefined ? {} : { type }),
    ...(certificates === undefined ? {} : { certificates }),
    ...(pskFile === undefined ? {} : { pskFile }),
    ...(username === undefined ? {} : { username }),
    ...(hostname === undefined ? {} : { hostname }),
    ...(verify === undefined ? {} : { verifyPeer: readBoolean(text, verify) }),
  };
}

/** uri.md has 0 and 1; libnbd's manual has true and false. */
function readBoolean(text: string, value: string): boolean {
  if (value === "1" || value === "true") return true;
  if (value === "0" || value === "false") return false;
  throw refusal(text, `'tls-verify-peer' must be 0 or 1, not '${value}'`);
}

function decode(text: string, what: string, encoded: string): string {
  try {
    return decodeURIComponent(encoded);
  } catch (cause) {
    throw refusal(text, `${what} has a '%' that is not followed by UTF-8 in hexadecimal`, cause);
  }
}

/** Slashes stay: they need no escape in a path or a query, and people read them. */
function encode(value: string): string {
  return encodeURIComponent(value).replaceAll("%2F", "/");
}

function formatHost(host: string): string {
  // A zone's percent sign is escaped inside the brackets (RFC 6874).
  return host.includes(":") ? `[${host.replace("%", "%25")}]` : encodeURIComponent(host);
}

function checkName(text: string, exportName: string): void {
  if (exportName.includes("\0")) throw refusal(text, "an export's name has no NUL");
  // Half of a surrogate pair has no UTF-8.
  if (Buffer.from(exportName).toString() !== exportName) throw refusal(text, "an export's name is Unicode");
  const bytes = Buffer.byteLength(exportName);
  if (bytes > STRING_BYTES_MAX) {
    throw refusal(text, `an export's name has at most ${STRING_BYTES_MAX} bytes, not ${bytes}`);
  }
}

function secured(transport: NbdAddress["transport"]): string {
  return transport === "tcp" ? "nbds" : "nbds+unix";
}

function refusal(text: string, why: string, cause?: unknown): NbdError {
  const shown = text.length > 200 ? `${text.slice(0, 200)}...` : text;
  return new NbdError("ERR_NBD_URI", `parse NBD URI '${shown}': ${why}`, { cause });
}
