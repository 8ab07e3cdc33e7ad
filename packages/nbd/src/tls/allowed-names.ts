/**
 * Which peers may come in, by the names that their CA has given them. An allowed name is one of
 *
 *     CN=alice,O=Example Org        a whole distinguished name, in either order of its parts
 *     alice                         a common name
 *     backup.example.com            a DNS name, an e-mail address, a URI or an IP address among the alternative names
 *
 * and is compared as a whole: there are no wildcards, and case matters but in DNS names and e-mail addresses.
 */
import type { X509Certificate } from "node:crypto";

type CertificateNames = Pick<X509Certificate, "subject" | "subjectAltName">;

/** The distinguished name in one line, in the order of the certificate; "" where it has none. */
export function distinguishedName(certificate: Pick<X509Certificate, "subject">): string {
  return partsOf(certificate.subject).join(",");
}

export function isAllowed(certificate: CertificateNames, allowed: readonly string[]): boolean {
  const parts = partsOf(certificate.subject);
  const names = new Set<string>([parts.join(","), parts.toReversed().join(",")]);
  for (const part of parts) if (part.startsWith("CN=")) names.add(part.slice(3));
  const folded = new Set<string>();
  for (const { type, value } of alternativeNames(certificate.subjectAltName)) {
    if (type === "DNS" || type === "email") folded.add(value.toLowerCase());
    else names.add(value);
  }
  names.delete("");
  return allowed.some((name) => names.has(spelled(name)) || folded.has(name.toLowerCase()));
}

/** Node writes a part per line, with RFC 2253's escapes, so that no value can look like two parts. */
function partsOf(subject: string | undefined): string[] {
  return (subject ?? "").split("\n").filter((part) => part !== "");
}

/** A distinguished name as Node spells it: no blanks around its commas. */
function spelled(name: string): string {
  return name.includes("=") ? name.replaceAll(/(?<!\\)\s*,\s*/g, ",") : name;
}

/** "DNS:a, URI:\"b, c\"": values with anything unusual in them are JSON strings. */
function* alternativeNames(text: string | undefined): Iterable<{ type: string; value: string }> {
  for (const [, type, quoted, plain] of (text ?? "").matchAll(/(?:^|, )([^:,"]+):(?:("(?:[^"\\]|\\.)*")|([^,"]*))/g)) {
    const value = quoted === undefined ? plain : (JSON.parse(quoted) as string);
    if (value !== "") yield { type, value };
  }
}
