/** Certificates as certtool of gnutls makes them, in QEMU's layout: once per test file, which removes them. */
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runOrThrow } from "../tool.fixture.ts";

export class Pki {
  readonly directory: string = mkdtempSync(join(tmpdir(), "heirloom-nbd-pki-"));

  remove(): void {
    rmSync(this.directory, { recursive: true, force: true });
  }

  /** A CA: its certificate and key. */
  authority(name: string): void {
    this.#key(name);
    this.#template(name, `cn = "${name}"\nca\ncert_signing_key\ncrl_signing_key\nexpiration_days = 10\n`);
    certtool("--generate-self-signed", ...this.#own(name));
  }

  /** A certificate for whatever the template says. */
  certificate(name: string, authority: string, template: string): void {
    this.#key(name);
    const dates = template.includes("expiration") ? "" : "expiration_days = 10\n";
    this.#template(name, `${template}\nsigning_key\ndigital_signature\n${dates}`);
    certtool("--generate-certificate", ...this.#own(name), ...this.#by(authority));
  }

  /** A list of revoked certificates. */
  revocations(name: string, authority: string, ...revoked: readonly string[]): void {
    this.#template(name, "expiration_days = 10\ncrl_next_update = 10\ncrl_number = 1\n");
    const loaded = revoked.flatMap((each) => ["--load-certificate", this.file(`${each}.pem`)]);
    const template = ["--template", this.file(`${name}.template`)];
    certtool("--generate-crl", ...template, ...loaded, ...this.#by(authority), "--outfile", this.file(`${name}.pem`));
  }

  /** A directory in QEMU's layout with what is named here. */
  layout(name: string, files: Readonly<Record<string, string>>): string {
    const directory = this.file(name);
    mkdirSync(directory);
    for (const [target, source] of Object.entries(files)) copyFileSync(this.file(source), join(directory, target));
    return directory;
  }

  file(name: string): string {
    return join(this.directory, name);
  }

  #key(name: string): void {
    certtool("--generate-privkey", "--key-type", "ecdsa", "--outfile", this.file(`${name}-key.pem`));
  }

  #template(name: string, text: string): void {
    writeFileSync(this.file(`${name}.template`), text);
  }

  #own(name: string): string[] {
    const file = (suffix: string): string => this.file(`${name}${suffix}`);
    return ["--load-privkey", file("-key.pem"), "--template", file(".template"), "--outfile", file(".pem")];
  }

  #by(authority: string): string[] {
    const [certificate, key] = [this.file(`${authority}.pem`), this.file(`${authority}-key.pem`)];
    return ["--load-ca-certificate", certificate, "--load-ca-privkey", key];
  }
}

function certtool(...args: readonly string[]): void {
  runOrThrow("certtool", ...args);
}

/** A CA and another; a server for localhost; clients alice and bob; what is expired, not yet valid, revoked, misplaced. */
export function usualPki(): Pki {
  const pki = new Pki();
  try {
    fill(pki);
  } catch (error) {
    pki.remove();
    throw error;
  }
  return pki;
}

function fill(pki: Pki): void {
  const server = 'dns_name = "localhost"\nip_address = "127.0.0.1"\ntls_www_server';
  pki.authority("ca");
  pki.authority("other-ca");
  pki.certificate("server", "ca", `cn = "server"\n${server}`);
  pki.certificate("other-server", "other-ca", `cn = "server"\n${server}`);
  const expired = 'activation_date = "2020-01-01 00:00:00"\nexpiration_date = "2021-01-01 00:00:00"';
  pki.certificate("expired", "ca", `cn = "expired"\n${server}\n${expired}`);
  const early = 'activation_date = "2090-01-01 00:00:00"\nexpiration_date = "2091-01-01 00:00:00"';
  pki.certificate("early", "ca", `cn = "early"\n${server}\n${early}`);
  pki.certificate(
    "alice",
    "ca",
    'organization = "Example, Org"\ncn = "alice"\ndns_name = "alice.example"\ntls_www_client',
  );
  pki.certificate("bob", "ca", 'cn = "bob"\nemail = "Bob@example.com"\ntls_www_client');
  pki.certificate("stranger", "other-ca", 'cn = "alice"\ntls_www_client');
  pki.certificate("expired-client", "ca", `cn = "alice"\ntls_www_client\n${expired}`);
  pki.revocations("no-bob", "ca", "bob");
}
