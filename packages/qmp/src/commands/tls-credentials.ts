/** Credentials of an object, read when they are used. */
import { join } from "node:path";
import { loadPskCredentials, loadX509Credentials, type NbdUri, type ServerTls } from "@heirloom/nbd";
import { QmpError } from "../qmp-error.ts";
import type { Credentials } from "./object-store.ts";

/** @param secret by id @throws QmpError */
export async function serverTls(options: Credentials, secret: (id: string) => Uint8Array): Promise<ServerTls> {
  const { dir = "", "verify-peer": verify = true } = options;
  try {
    if (options["qom-type"] === "tls-creds-psk") {
      return { credentials: await loadPskCredentials(join(dir, "keys.psk"), "server") };
    }
    const { passwordid } = options;
    const passphrase = passwordid === undefined ? undefined : Buffer.from(secret(passwordid)).toString();
    const credentials = await loadX509Credentials(dir, "server", passphrase);
    return { credentials, clientCertificates: verify ? "required" : "none" };
  } catch (error) {
    throw error instanceof QmpError ? error : new QmpError((error as Error).message);
  }
}

/** For an NBD node: it reads the files itself. */
export function clientTls(options: Credentials, hostname: string | undefined): NonNullable<NbdUri["tls"]> {
  const { dir = "", "verify-peer": verifyPeer = true } = options;
  const name = hostname === undefined ? {} : { hostname };
  if (options["qom-type"] === "tls-creds-psk") {
    return { type: "psk", pskFile: join(dir, "keys.psk"), username: options.username ?? "qemu", ...name };
  }
  return { type: "x509", certificates: dir, verifyPeer, ...name };
}
