/**
 * Files of pre-shared keys: a line per user, `user:hexkey`, as psktool writes them. A user that begins with '#' is the name
 * in hexadecimal, which is how names with a colon are written.
 */
import { TlsError } from "./tls-error.ts";

/** 128 bits: what can be guessed is no key. psktool makes 256. */
const KEY_BYTES_MIN = 16;
/** The most that OpenSSL takes. */
const KEY_BYTES_MAX = 256;
const IDENTITY_BYTES_MAX = 128;

/** @param name of the file, for errors, which tell no keys @throws TlsError */
export function parsePskFile(text: string, name: string): ReadonlyMap<string, Uint8Array> {
  const keys = new Map<string, Uint8Array>();
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    if (line === "") continue;
    const wrong = (what: string): TlsError =>
      new TlsError("ERR_NBD_TLS_CREDENTIALS", `TLS credentials: ${name}, line ${index + 1}: ${what}`);
    const [, written = "", hex = ""] = /^([^:]+):([0-9a-fA-F]+)$/.exec(line) ?? [];
    if (hex === "" || hex.length % 2 !== 0) throw wrong("expected user:hexkey");
    const user = written.startsWith("#") ? decodeUser(written.slice(1)) : written;
    if (user === undefined || Buffer.byteLength(user) > IDENTITY_BYTES_MAX) {
      throw wrong(`expected a user of at most ${IDENTITY_BYTES_MAX} bytes, in hexadecimal after '#'`);
    }
    const key = Buffer.from(hex, "hex");
    if (key.length < KEY_BYTES_MIN || key.length > KEY_BYTES_MAX) {
      throw wrong(`expected a key of ${KEY_BYTES_MIN} to ${KEY_BYTES_MAX} bytes, found ${key.length}`);
    }
    if (keys.has(user)) throw wrong(`the user ${JSON.stringify(user)} is there twice`);
    keys.set(user, new Uint8Array(key));
  }
  if (keys.size === 0) throw new TlsError("ERR_NBD_TLS_CREDENTIALS", `TLS credentials: ${name}: there are no keys`);
  return keys;
}

function decodeUser(hex: string): string | undefined {
  return /^(?:[0-9a-fA-F]{2})+$/.test(hex) ? Buffer.from(hex, "hex").toString("utf8") : undefined;
}
