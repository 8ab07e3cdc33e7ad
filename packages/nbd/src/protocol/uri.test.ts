/** The table of names is uri.md's own; what libnbd makes of a URI is in `client/peers.test.ts`. */
import { formatNbdUri, NBD_PORT, NbdError, type NbdUri, parseNbdUri } from "@heirloom/nbd";
import fc from "fast-check";
import { describe, expect, test } from "vitest";

const tcp = (host: string, port = 10809): NbdUri["address"] => ({ transport: "tcp", host, port });
const unix = (path: string): NbdUri["address"] => ({ transport: "unix", path });

describe("export names, as the specification's table has them", () => {
  test.each([
    ["nbd://example.com/disk", "disk"],
    ["nbd+unix:///disk?socket=sock", "disk"],
    ["nbd://example.com/", ""],
    ["nbd://example.com", ""],
    ["nbd://example.com//disk", "/disk"],
    ["nbd://example.com/hello%20world", "hello world"],
  ])("%s is %j", (uri, name) => {
    expect(parseNbdUri(uri).exportName).toBe(name);
  });
});

describe("what a URI says", () => {
  test.each<[string, NbdUri]>([
    ["nbd://", { address: tcp("localhost"), exportName: "" }],
    ["nbd:///x", { address: tcp("localhost"), exportName: "x" }],
    ["nbd://a.example:/", { address: tcp("a.example"), exportName: "" }],
    ["nbd://a.example:1/", { address: tcp("a.example", 1), exportName: "" }],
    ["NBD://a.example:65535", { address: tcp("a.example", 65535), exportName: "" }],
    ["nbd://[::1]", { address: tcp("::1"), exportName: "" }],
    ["nbd://[fe80::1%25eth0]:99/x", { address: tcp("fe80::1%eth0", 99), exportName: "x" }],
    ["nbd://192.0.2.1/a/b/c", { address: tcp("192.0.2.1"), exportName: "a/b/c" }],
    ["nbd://h/a%3Fb%23c%25", { address: tcp("h"), exportName: "a?b#c%" }],
    ["nbd://h/%E2%82%AC", { address: tcp("h"), exportName: "\u20ac" }],
    ["nbd+unix:///?socket=/run/nbd.sock", { address: unix("/run/nbd.sock"), exportName: "" }],
    ["nbd+unix://?socket=rel+ative%20x", { address: unix("rel+ative x"), exportName: "" }],
    ["nbd+unix:///?socket=%00/abstract", { address: unix("\0/abstract"), exportName: "" }],
    ["nbds://h", { address: tcp("h"), exportName: "", tls: {} }],
    [
      "nbds://alice@h/x?tls-psk-file=/k&tls-type=psk",
      { address: tcp("h"), exportName: "x", tls: { type: "psk", pskFile: "/k", username: "alice" } },
    ],
    ["nbds://h?tls-username=al%40ice", { address: tcp("h"), exportName: "", tls: { username: "al@ice" } }],
    ["nbds://al%40ice@h", { address: tcp("h"), exportName: "", tls: { username: "al@ice" } }],
    [
      "nbds+unix:///?socket=/s&tls-certificates=/pki&tls-hostname=h.example&tls-verify-peer=1",
      {
        address: unix("/s"),
        exportName: "",
        tls: { certificates: "/pki", hostname: "h.example", verifyPeer: true },
      },
    ],
    ["nbds+unix://bob@/?socket=/s", { address: unix("/s"), exportName: "", tls: { username: "bob" } }],
    ["nbds://h?tls-verify-peer=false", { address: tcp("h"), exportName: "", tls: { verifyPeer: false } }],
  ])("%s", (text, uri) => {
    expect(parseNbdUri(text)).toEqual(uri);
    expect(parseNbdUri(formatNbdUri(uri))).toEqual(uri);
  });

  test("the port of NBD is IANA's", () => {
    expect(NBD_PORT).toBe(10809);
  });
});

describe("a URI that is wrong is refused with what was expected", () => {
  test.each([
    ["", "expected nbd://HOST"],
    ["disk", "expected nbd://HOST"],
    ["nbd:localhost:10809", "expected nbd://HOST"],
    ["http://h/x", "'http' is unknown; expected one of nbd, nbds, nbd+unix, nbds+unix"],
    ["nbd+vsock://2/x", "'nbd+vsock' is unknown"],
    ["toString://h", "'toString' is unknown"],
    ["nbd://h/x#y", "%23"],
    ["nbd://h:0", "from 1 to 65535, not 0"],
    ["nbd://h:65536", "from 1 to 65535, not 65536"],
    ["nbd://h:12x", "expected HOST[:PORT]"],
    ["nbd://::1/", "an IPv6 address in brackets"],
    ["nbd://[h]/", "no IPv6 address"],
    ["nbd://[::1]x/", "expected HOST[:PORT]"],
    ["nbd://a:b@h/", "no password"],
    ["nbd://a@h/", "expected the scheme nbds"],
    ["nbd+unix://a@/?socket=s", "expected the scheme nbds+unix"],
    ["nbd+unix:///x", "?socket=PATH"],
    ["nbd+unix:///x?socket=", "'socket' is empty"],
    ["nbd+unix:///x?socket", "'socket' is empty"],
    ["nbd+unix:///x?socket=%00", "'socket' is empty"],
    ["nbd+unix:///x?socket=a%00b", "a NUL inside"],
    ["nbd+unix:///x?socket=a&socket=b", "'socket' is given twice"],
    ["nbd+unix://host/x?socket=a", "a Unix socket has no host 'host'"],
    ["nbd://h/x?socket=a", "expected the scheme nbd+unix"],
    ["nbd://h/x?tls-psk-file=a", "'tls-psk-file' needs TLS; expected the scheme nbds"],
    ["nbds://h/x?Socket=a", "the parameter 'Socket' is unknown; expected one of socket, tls-type"],
    ["nbds://h/x?x-own=a", "the parameter 'x-own' is unknown"],
    ["nbds://h/x?tls-type=none", "anon, x509 or psk, not 'none'"],
    ["nbds://h/x?tls-verify-peer=2", "0 or 1, not '2'"],
    ["nbds://a@h/x?tls-username=b", "'a' in one place and 'b' in another"],
    ["nbds://h/x?tls-certificates=a&tls-psk-file=b", "expected either"],
    ["nbd://h/%zz", "UTF-8 in hexadecimal"],
    ["nbd://h/%ff", "UTF-8 in hexadecimal"],
    ["nbd://h/a%00b", "no NUL"],
  ])("%s", (text, expected) => {
    expect(() => parseNbdUri(text)).toThrow(NbdError);
    expect(() => parseNbdUri(text)).toThrow(expected);
    expect(() => parseNbdUri(text)).toThrow(expect.objectContaining({ code: "ERR_NBD_URI" }));
  });

  test("a name of more than 4096 bytes", () => {
    const text = `nbd://h/${"%E2%82%AC".repeat(1366)}`;
    expect(() => parseNbdUri(text)).toThrow("at most 4096 bytes, not 4098");
  });

  test("a name that no URI can say is not formatted", () => {
    const address = tcp("h");
    for (const exportName of ["a\0b", "\ud800", "x".repeat(4097)]) {
      expect(() => formatNbdUri({ address, exportName })).toThrow(expect.objectContaining({ code: "ERR_NBD_URI" }));
    }
  });
});

describe("properties", () => {
  const word = fc.string({ unit: "grapheme", minLength: 1, maxLength: 20 }).filter((text) => !text.includes("\0"));
  const port = fc.integer({ min: 1, max: 65535 });
  const address = fc.oneof(
    fc.record({ transport: fc.constant("tcp" as const), host: fc.oneof(fc.domain(), fc.ipV4(), fc.ipV6()), port }),
    fc.record({ transport: fc.constant("unix" as const), path: word }),
    fc.record({ transport: fc.constant("unix" as const), path: word.map((name) => `\0${name}`) }),
  );
  const credentials = fc.oneof(fc.record({ certificates: word }), fc.record({ pskFile: word }), fc.constant({}));
  const tls = fc
    .tuple(
      credentials,
      fc.record(
        {
          type: fc.constantFrom("anon" as const, "x509" as const, "psk" as const),
          username: word,
          hostname: word,
          verifyPeer: fc.boolean(),
        },
        { requiredKeys: [] },
      ),
    )
    .map(([first, second]) => ({ ...first, ...second }));
  const name = fc.string({ unit: "grapheme", maxLength: 60 }).filter((text) => !text.includes("\0"));
  const uri = fc.record({ address, exportName: name, tls }, { requiredKeys: ["address", "exportName"] });

  test("what is formatted is parsed as it was", () => {
    fc.assert(
      fc.property(uri, (value) => {
        expect(parseNbdUri(formatNbdUri(value))).toEqual(value);
      }),
      { numRuns: 1000 },
    );
  });

  test("what is formatted is a URI for others too: the WHATWG parser finds the same parts", () => {
    fc.assert(
      fc.property(uri, (value) => {
        // It takes a user only with a host, and resolves dots as in the path of a file.
        fc.pre(value.address.transport === "tcp" || value.tls === undefined || !("username" in value.tls));
        fc.pre(!value.exportName.split("/").some((segment) => segment === "." || segment === ".."));
        const url = new URL(formatNbdUri(value));
        expect(decodeURIComponent(url.pathname.slice(1))).toBe(value.exportName);
        if (value.address.transport === "unix") expect(url.search).toContain("socket=");
        else expect(url.port).toBe(value.address.port === 10809 ? "" : String(value.address.port));
      }),
    );
  });

  test("any text is parsed or refused with a typed error", () => {
    const piece = fc.constantFrom(
      "nbd",
      "s",
      "+unix",
      "://",
      "/",
      "?",
      "socket=",
      "&",
      "@",
      ":",
      "[",
      "]",
      "%",
      "%00",
      "#",
    );
    const text = fc
      .array(fc.oneof(piece, fc.string({ maxLength: 4 })), { maxLength: 12 })
      .map((parts) => parts.join(""));
    fc.assert(
      fc.property(text, (value) => {
        try {
          const parsed = parseNbdUri(value);
          expect(parseNbdUri(formatNbdUri(parsed))).toEqual(parsed);
        } catch (error) {
          expect(error).toMatchObject({ name: "NbdError", code: "ERR_NBD_URI" });
        }
      }),
      { numRuns: 2000 },
    );
  });
});
