/** Everything that can be wrong with files of credentials is said when they are loaded, with the file's name. */
import { X509Certificate } from "node:crypto";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { distinguishedName, isAllowed } from "../../dist/tls/allowed-names.js";
import { loadPskCredentials, loadX509Credentials, x509Credentials } from "../../dist/tls/credentials.js";
import { needTool, runOrThrow, scratchDirectory } from "../tool.fixture.ts";
import { type Pki, usualPki } from "./pki.fixture.ts";

describe("x509", (): void => {
  let pki: Pki | undefined;
  beforeAll(() => {
    try {
      pki = usualPki();
    } catch {
      // certtool is missing: each test says so.
    }
    return () => pki?.remove();
  });
  const files = { "ca-cert.pem": "ca.pem", "server-cert.pem": "server.pem", "server-key.pem": "server-key.pem" };
  let layouts = 0;
  const layout = (changes: Readonly<Record<string, string>> = {}, omit = ""): string => {
    const directory = pki!.layout(`layout-${layouts++}`, { ...files, ...changes });
    if (omit !== "") rmSync(join(directory, omit));
    return directory;
  };
  const pem = (name: string): string => readFileSync(pki!.file(`${name}.pem`), "utf8");

  test("a server's directory in QEMU's layout is loaded", async (context) => {
    needTool(context, "certtool");
    const directory = layout({ "ca-crl.pem": "no-bob.pem" });
    expect(await loadX509Credentials(directory, "server")).toEqual({
      type: "x509",
      ca: pem("ca"),
      certificate: pem("server"),
      key: pem("server-key"),
      crl: pem("no-bob"),
    });
  });

  test("a client needs a CA, and may have a certificate", async (context) => {
    needTool(context, "certtool");
    const bare = pki!.layout("bare-client", { "ca-cert.pem": "ca.pem" });
    expect(await loadX509Credentials(bare, "client")).toMatchObject({ certificate: undefined, key: undefined });
    const full = pki!.layout("full-client", {
      "ca-cert.pem": "ca.pem",
      "client-cert.pem": "alice.pem",
      "client-key.pem": "alice-key.pem",
    });
    expect(await loadX509Credentials(full, "client")).toMatchObject({ certificate: pem("alice") });
  });

  test.for([
    ["no CA", {}, "ca-cert.pem", /ca-cert\.pem: no such file$/],
    ["no certificate", {}, "server-cert.pem", /server-cert\.pem: no such file$/],
    ["no key", {}, "server-key.pem", /server-key\.pem: no such file$/],
    [
      "an expired certificate",
      { "server-cert.pem": "expired.pem" },
      "",
      /server-cert\.pem: "CN=expired" expired on Jan {2}1 .*2021/,
    ],
    ["one that is not valid yet", { "server-cert.pem": "early.pem" }, "", /"CN=early" is not valid before .*2090/],
    [
      "the key of another",
      { "server-key.pem": "alice-key.pem" },
      "",
      /server-key\.pem: is not the key of .*server-cert\.pem/,
    ],
    ["the CA of another", { "ca-cert.pem": "other-ca.pem" }, "", /"CN=server" was not issued by .*ca-cert\.pem/],
    ["a CA that is none", { "ca-cert.pem": "alice.pem" }, "", /ca-cert\.pem: ".*CN=alice" is no CA/],
    [
      "a client's certificate",
      { "server-cert.pem": "alice.pem", "server-key.pem": "alice-key.pem" },
      "",
      /may not be used by a server/,
    ],
    [
      "a key instead of a certificate",
      { "server-cert.pem": "server-key.pem" },
      "",
      /server-cert\.pem: expected certificates in PEM/,
    ],
    [
      "a certificate instead of a key",
      { "server-key.pem": "server.pem" },
      "",
      /server-key\.pem: expected a private key in PEM/,
    ],
    [
      "a revocation list that is none",
      { "ca-crl.pem": "server.pem" },
      "",
      /ca-crl\.pem: expected a certificate revocation list/,
    ],
  ] as const)("%s is refused", async ([, changes, omit, message], context) => {
    needTool(context, "certtool");
    await expect(loadX509Credentials(layout(changes, omit), "server")).rejects.toMatchObject({
      name: "TlsError",
      code: "ERR_NBD_TLS_CREDENTIALS",
      message: expect.stringMatching(message) as string,
    });
  });

  test("a truncated certificate is refused", (context) => {
    needTool(context, "certtool");
    const half = `${pem("server").slice(0, 300)}\n-----END CERTIFICATE-----\n`;
    const texts = { ca: pem("ca"), certificate: half, key: pem("server-key") };
    expect(() => x509Credentials(texts, "server")).toThrow(/the certificate: (not a|expected) certificate/);
  });

  test("a file that cannot be read is refused in the system's words", async (context) => {
    needTool(context, "certtool");
    const directory = layout({}, "ca-cert.pem");
    mkdirSync(join(directory, "ca-cert.pem"));
    await expect(loadX509Credentials(directory, "server")).rejects.toThrow("EISDIR");
  });

  test("texts are checked like files, and must come in pairs", (context) => {
    needTool(context, "certtool");
    const texts = { ca: pem("ca"), certificate: pem("server"), key: pem("server-key") };
    expect(x509Credentials(texts, "server")).toMatchObject({ type: "x509", crl: undefined });
    expect(x509Credentials({}, "client")).toMatchObject({ ca: undefined });
    expect(() => x509Credentials({ ca: pem("ca") }, "server")).toThrow("expected a CA, a certificate and its key");
    expect(() => x509Credentials({ certificate: pem("alice") }, "client")).toThrow(
      "a certificate and its key, or neither",
    );
  });

  test("names that are allowed: the whole distinguished name either way round, the common name, alternative names", (context) => {
    needTool(context, "certtool");
    const alice = new X509Certificate(pem("alice"));
    const bob = new X509Certificate(pem("bob"));
    const name = distinguishedName(alice);
    expect([
      name,
      name
        .split(/(?<!\\),/)
        .toReversed()
        .join(","),
    ]).toContain("CN=alice,O=Example\\, Org");
    for (const allowed of ["CN=alice,O=Example\\, Org", "O=Example\\, Org, CN=alice", "alice", "ALICE.example"]) {
      expect(isAllowed(alice, ["nobody", allowed]), allowed).toBe(true);
      expect(isAllowed(bob, ["nobody", allowed]), allowed).toBe(false);
    }
    expect(isAllowed(bob, ["bob@EXAMPLE.com"])).toBe(true);
    for (const close of [
      "",
      "Alice",
      "alic",
      "CN=alice",
      "O=Example\\, Org",
      "*.example",
      "example",
      "CN=alice,O=Example",
    ]) {
      expect(isAllowed(alice, [close]), close).toBe(false);
    }
    expect(isAllowed(alice, [])).toBe(false);
    const nameless = { subject: undefined, subjectAltName: undefined } as unknown as X509Certificate;
    expect(isAllowed(nameless, [""])).toBe(false);
  });

  test("a name cannot be smuggled in through another's value", () => {
    const crafted = {
      subject: "O=x\\0ACN=root\nCN=eve",
      subjectAltName: 'URI:"http://a, DNS:root.example", DNS:eve.example',
    };
    expect(isAllowed(crafted as X509Certificate, ["root", "root.example", "CN=root"])).toBe(false);
    expect(isAllowed(crafted as X509Certificate, ["eve"])).toBe(true);
    expect(isAllowed(crafted as X509Certificate, ["http://a, DNS:root.example"])).toBe(true);
  });
});

describe("pre-shared keys", () => {
  const hex = "00112233445566778899aabbccddeeff";
  const file = (text: string): string => {
    const path = join(scratchDirectory(), "keys.psk");
    writeFileSync(path, text);
    return path;
  };

  test("a server has all keys, a client its own", async () => {
    const path = file(`alice:${hex}\r\n\nqemu:${hex.toUpperCase()}00\n#626f623a31:${hex}`);
    const { keys } = await loadPskCredentials(path, "server");
    expect([...keys.keys()]).toEqual(["alice", "qemu", "bob:1"]);
    expect(Buffer.from(keys.get("alice")!).toString("hex")).toBe(hex);
    expect([...(await loadPskCredentials(path, "client")).keys.keys()]).toEqual(["qemu"]);
    expect([...(await loadPskCredentials(path, "client", "alice")).keys.keys()]).toEqual(["alice"]);
    await expect(loadPskCredentials(path, "client", "eve")).rejects.toThrow('there is no user "eve"');
  });

  test("what psktool writes is read", async (context) => {
    needTool(context, "psktool");
    const path = join(scratchDirectory(), "keys.psk");
    runOrThrow("psktool", "-u", "alice", "-p", path);
    expect((await loadPskCredentials(path, "client", "alice")).keys.get("alice")).toHaveLength(32);
  });

  test.each([
    ["an empty file", "", "there are no keys"],
    ["no colon", "alice", "line 1: expected user:hexkey"],
    ["no user", `:${hex}`, "line 1: expected user:hexkey"],
    ["half a byte", `alice:${hex}0`, "line 1: expected user:hexkey"],
    ["no hexadecimal", "alice:secret", "line 1: expected user:hexkey"],
    ["a short key", "ok:" + hex + "\nalice:0011", "line 2: expected a key of 16 to 256 bytes, found 2"],
    ["a long key", `alice:${"00".repeat(257)}`, "found 257"],
    ["a long user", `${"a".repeat(129)}:${hex}`, "expected a user of at most 128 bytes"],
    ["a user that is no hexadecimal", `#zz:${hex}`, "expected a user"],
    ["a user twice", `a:${hex}\na:${hex}`, 'line 2: the user "a" is there twice'],
  ])("%s is refused, and no key is told", async (_, text, message) => {
    const error = await loadPskCredentials(file(text), "server").catch((thrown: unknown) => thrown as Error);
    expect(error).toMatchObject({
      code: "ERR_NBD_TLS_CREDENTIALS",
      message: expect.stringContaining(message) as string,
    });
    expect((error as Error).message).not.toMatch(/0011|secret/);
  });

  test("no file is refused", async () => {
    await expect(loadPskCredentials("/nowhere/keys.psk", "server")).rejects.toThrow("/nowhere/keys.psk: no such file");
  });
});
