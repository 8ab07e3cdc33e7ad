/** Tunnels of our own, server against client: who is let in, what passes, and how it ends. */
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { openSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { Socket } from "node:net";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { connect as connectTls } from "node:tls";
import { closeFile, EAGAIN, openSocketPair, receiveBytes, sendBytes } from "@heirloom/block";
import { beforeAll, describe, expect, onTestFinished, test } from "vitest";
import type { PskCredentials, TlsCredentials, X509Credentials } from "../../dist/tls/credentials.js";
import { startTlsTunnel, type Tunnel, type TunnelRequest, TunnelThread } from "../../dist/tls/tunnel.js";
import { needTool } from "../tool.fixture.ts";
import { type Pki, usualPki } from "./pki.fixture.ts";

let pki: Pki | undefined;
beforeAll(() => {
  try {
    pki = usualPki();
  } catch {
    // certtool is missing: each test says so.
  }
  return () => pki?.remove();
});

/** Unchecked, so that sides can show what no server would load. */
function x509(ca: string, own?: string, crl?: string): X509Credentials {
  const pem = (name: string): string => readFileSync(pki!.file(`${name}.pem`), "utf8");
  return {
    type: "x509",
    ca: pem(ca),
    certificate: own === undefined ? undefined : pem(own),
    key: own === undefined ? undefined : pem(`${own}-key`),
    crl: crl === undefined ? undefined : pem(crl),
  };
}

const alicesKey = new Uint8Array(32).fill(7);
function psk(...users: readonly (readonly [string, Uint8Array])[]): PskCredentials {
  return { type: "psk", keys: new Map(users) };
}

function descriptors(): number {
  return readdirSync("/proc/self/fd").length;
}

function realpathOf(link: string): string | undefined {
  try {
    return readlinkSync(link);
  } catch {
    return undefined; // the descriptor of readdir itself
  }
}

function pair(): readonly [number, number] {
  const fds = openSocketPair();
  if (typeof fds === "number") throw new Error(`socketpair: ${fds}`);
  return fds;
}

type Side = Partial<TunnelRequest> & { readonly credentials: TlsCredentials };

function threadOfTest(): TunnelThread {
  const thread = new TunnelThread();
  onTestFinished(() => thread.close());
  return thread;
}

interface Met {
  readonly server: PromiseSettledResult<Tunnel>;
  readonly client: PromiseSettledResult<Tunnel>;
}

/** Both sides over a pair of sockets. What comes of it is the caller's to close. */
async function meet(thread: TunnelThread, server: Side, client: Side): Promise<Met> {
  const [left, right] = pair();
  const [first, second] = await Promise.allSettled([
    startTlsTunnel({ role: "server", fd: left, ...server }, thread),
    startTlsTunnel({ role: "client", fd: right, serverName: "localhost", ...client }, thread),
  ]);
  return { server: first, client: second };
}

interface Up {
  readonly server: Socket;
  readonly client: Socket;
  readonly facts: { readonly server: Tunnel["peer"]; readonly client: Tunnel["peer"] };
}

function wrap({ fd }: { readonly fd: number }): Socket {
  const socket = new Socket({ fd, allowHalfOpen: true });
  onTestFinished(() => void socket.destroy());
  return socket;
}

async function meetAndWrap(thread: TunnelThread, server: Side, client: Side): Promise<Up> {
  const [left, right] = pair();
  const [first, second] = await Promise.all([
    startTlsTunnel({ role: "server", fd: left, ...server }, thread),
    startTlsTunnel({ role: "client", fd: right, serverName: "localhost", ...client }, thread),
  ]);
  return { server: wrap(first), client: wrap(second), facts: { server: first.peer, client: second.peer } };
}

async function readAll(socket: Socket): Promise<Buffer> {
  const parts: Buffer[] = [];
  socket.on("data", (part: Buffer) => parts.push(part));
  await once(socket, "end");
  return Buffer.concat(parts);
}

const refusal = (code: string, message: RegExp): unknown => ({
  status: "rejected",
  reason: expect.objectContaining({
    name: "TlsError",
    code,
    message: expect.stringMatching(message) as string,
  }) as unknown,
});
const anyRefusal = { status: "rejected" };

describe("who is let in", () => {
  test("certificates on both sides, verified: each is told who the other is", async (context) => {
    needTool(context, "certtool");
    const { facts } = await meetAndWrap(
      threadOfTest(),
      { credentials: x509("ca", "server") },
      { credentials: x509("ca", "alice") },
    );
    expect(facts.server).toMatchObject({ protocol: "TLSv1.3", identity: undefined });
    expect(facts.server.subject).toContain("CN=alice");
    expect(facts.client.subject).toBe("CN=server");
    expect(facts.client.cipher).toMatch(/^TLS_/);
  });

  test("by address", async (context) => {
    needTool(context, "certtool");
    const met = await meet(
      threadOfTest(),
      { credentials: x509("ca", "server") },
      { credentials: x509("ca", "alice"), serverName: "127.0.0.1" },
    );
    if (met.client.status !== "fulfilled" || met.server.status !== "fulfilled") throw new Error("not up");
    wrap(met.client.value).destroy();
    wrap(met.server.value).destroy();
  });

  test.for<[string, () => Side, () => Side, unknown]>([
    [
      "no certificate",
      () => ({ credentials: x509("ca", "server") }),
      () => ({ credentials: x509("ca") }),
      refusal("ERR_NBD_TLS_HANDSHAKE", /showed no certificate/),
    ],
    [
      "no certificate where names are allowed, though it is optional",
      () => ({ credentials: x509("ca", "server"), clientCertificates: "optional", allowedNames: ["alice"] }),
      () => ({ credentials: x509("ca") }),
      refusal("ERR_NBD_TLS_HANDSHAKE", /showed no certificate/),
    ],
    [
      "another CA's certificate",
      () => ({ credentials: x509("ca", "server") }),
      () => ({ credentials: x509("ca", "stranger") }),
      refusal("ERR_NBD_TLS_HANDSHAKE", /not valid|closed/),
    ],
    [
      "another CA's certificate, though it is optional",
      () => ({ credentials: x509("ca", "server"), clientCertificates: "optional" }),
      () => ({ credentials: x509("ca", "stranger") }),
      refusal("ERR_NBD_TLS_HANDSHAKE", /not valid|closed/),
    ],
    [
      "an expired certificate",
      () => ({ credentials: x509("ca", "server") }),
      () => ({ credentials: x509("ca", "expired-client") }),
      refusal("ERR_NBD_TLS_HANDSHAKE", /CERT_HAS_EXPIRED/),
    ],
    [
      "a revoked certificate",
      () => ({ credentials: x509("ca", "server", "no-bob") }),
      () => ({ credentials: x509("ca", "bob") }),
      refusal("ERR_NBD_TLS_HANDSHAKE", /CERT_REVOKED/),
    ],
    [
      "a server's certificate",
      () => ({ credentials: x509("ca", "server") }),
      () => ({ credentials: x509("ca", "server") }),
      refusal("ERR_NBD_TLS_HANDSHAKE", /INVALID_PURPOSE/),
    ],
    [
      "a name that is not allowed",
      () => ({ credentials: x509("ca", "server"), allowedNames: ["alice"] }),
      () => ({ credentials: x509("ca", "bob") }),
      refusal("ERR_NBD_TLS_NOT_ALLOWED", /"CN=bob.*" is not allowed/),
    ],
    [
      "nobody is allowed",
      () => ({ credentials: x509("ca", "server"), allowedNames: [] }),
      () => ({ credentials: x509("ca", "alice") }),
      refusal("ERR_NBD_TLS_NOT_ALLOWED", /not allowed/),
    ],
    [
      "a wrong key",
      () => ({ credentials: psk(["alice", alicesKey]) }),
      () => ({ credentials: psk(["alice", new Uint8Array(32)]) }),
      refusal("ERR_NBD_TLS_HANDSHAKE", /./),
    ],
    [
      "an unknown user",
      () => ({ credentials: psk(["alice", alicesKey]) }),
      () => ({ credentials: psk(["eve", alicesKey]) }),
      refusal("ERR_NBD_TLS_HANDSHAKE", /./),
    ],
    [
      "a user that is not allowed",
      () => ({ credentials: psk(["alice", alicesKey]), allowedNames: ["bob"] }),
      () => ({ credentials: psk(["alice", alicesKey]) }),
      refusal("ERR_NBD_TLS_NOT_ALLOWED", /"alice" is not allowed/),
    ],
    [
      "a certificate where a key is wanted",
      () => ({ credentials: psk(["alice", alicesKey]) }),
      () => ({ credentials: x509("ca", "alice") }),
      refusal("ERR_NBD_TLS_HANDSHAKE", /./),
    ],
  ])("not: %s", async ([, server, client, expected], context) => {
    needTool(context, "certtool");
    const thread = threadOfTest();
    const first = await meet(thread, { credentials: x509("ca", "server") }, { credentials: x509("ca", "stranger") });
    if (first.client.status === "fulfilled") closeFile(first.client.value.fd);
    await expect.poll(() => thread.tunnels).toBe(0);
    const before = descriptors();
    const met = await meet(thread, server(), client());
    expect(met.server).toMatchObject(expected as object);
    if (met.client.status === "fulfilled") {
      // In TLS 1.3 a client is done before the server has looked at its certificate. It gets an end and nothing else.
      const client = wrap(met.client.value);
      expect(await readAll(client)).toHaveLength(0);
      client.destroy();
    }
    await expect.poll(descriptors).toBe(before);
  });

  test.for<[string, () => Side, () => Side]>([
    [
      "a client without a certificate, where it is optional",
      () => ({ credentials: x509("ca", "server"), clientCertificates: "optional" }),
      () => ({ credentials: x509("ca") }),
    ],
    [
      "a client without a certificate, where none is wanted",
      () => ({ credentials: x509("ca", "server"), clientCertificates: "none" }),
      () => ({ credentials: x509("ca") }),
    ],
    [
      "a name that is allowed",
      () => ({ credentials: x509("ca", "server"), allowedNames: ["bob", "alice.example"] }),
      () => ({ credentials: x509("ca", "alice") }),
    ],
    [
      "one whose certificate is not on the list of revoked ones",
      () => ({ credentials: x509("ca", "server", "no-bob") }),
      () => ({ credentials: x509("ca", "alice") }),
    ],
    [
      "the right key",
      () => ({ credentials: psk(["bob", new Uint8Array(16)], ["alice", alicesKey]), allowedNames: ["alice"] }),
      () => ({ credentials: psk(["alice", alicesKey]) }),
    ],
    [
      "by a client that believes anybody",
      () => ({ credentials: x509("ca", "other-server") }),
      () => ({ credentials: x509("other-ca", "alice"), verifyPeer: "none", serverName: undefined }),
    ],
    [
      "by a client that does not look at names",
      () => ({ credentials: x509("ca", "server") }),
      () => ({ credentials: x509("ca", "alice"), verifyPeer: "chain", serverName: undefined }),
    ],
  ])("yes: %s", async ([, server, client], context) => {
    needTool(context, "certtool");
    const up = await meetAndWrap(threadOfTest(), server(), client());
    up.server.end("hello");
    expect((await readAll(up.client)).toString()).toBe("hello");
  });

  test("a user with the right key is told by name", async () => {
    const { facts } = await meetAndWrap(
      threadOfTest(),
      { credentials: psk(["alice", alicesKey]) },
      { credentials: psk(["alice", alicesKey]) },
    );
    expect(facts.server).toMatchObject({ identity: "alice", subject: undefined });
    expect(facts.server.cipher).toMatch(/SHA256/);
  });

  test.for<[string, () => Side, () => Side, RegExp]>([
    [
      "a server of another CA",
      () => ({ credentials: x509("ca", "other-server") }),
      () => ({ credentials: x509("ca", "alice") }),
      /unable to|UNABLE_TO/,
    ],
    [
      "a server with an expired certificate",
      () => ({ credentials: x509("ca", "expired") }),
      () => ({ credentials: x509("ca", "alice") }),
      /expired/i,
    ],
    [
      "a server of another name",
      () => ({ credentials: x509("ca", "server") }),
      () => ({ credentials: x509("ca", "alice"), serverName: "example.com" }),
      /example\.com/,
    ],
    [
      "a server at another address",
      () => ({ credentials: x509("ca", "server") }),
      () => ({ credentials: x509("ca", "alice"), serverName: "127.0.0.2" }),
      /127\.0\.0\.2/,
    ],
    [
      "an expired server, by the chain alone",
      () => ({ credentials: x509("ca", "expired") }),
      () => ({ credentials: x509("ca", "alice"), verifyPeer: "chain" }),
      /expired/i,
    ],
    [
      "a server with a certificate, by a client that has a key",
      () => ({ credentials: x509("ca", "server"), clientCertificates: "none" }),
      () => ({ credentials: psk(["alice", alicesKey]) }),
      /./,
    ],
  ])("a client refuses %s", async ([, server, client, message], context) => {
    needTool(context, "certtool");
    const met = await meet(threadOfTest(), server(), client());
    expect(met.client).toMatchObject(refusal("ERR_NBD_TLS_HANDSHAKE", message) as object);
  });

  test("a client that has a key refuses a certificate, whoever it is from", async (context) => {
    needTool(context, "certtool");
    // In a process that believes this CA as it does all the world's.
    const module = new URL("../../dist/tls/tunnel.js", import.meta.url).href;
    const program = `
      import { openSocketPair } from "@heirloom/block";
      const { startTlsTunnel } = await import(${JSON.stringify(module)});
      const meet = async (credentials) => {
        const [left, right] = openSocketPair();
        const server = { credentials: ${JSON.stringify(x509("ca", "server"))}, clientCertificates: "none" };
        const sides = [{ role: "server", fd: left, ...server }, { role: "client", fd: right, serverName: "localhost", credentials }];
        const [, client] = await Promise.allSettled(sides.map((side) => startTlsTunnel(side)));
        console.log(client.status);
      };
      await meet({ type: "x509" });
      await meet({ type: "psk", keys: new Map([["alice", new Uint8Array(32)]]) });
      process.exit();`;
    const { stdout } = await promisify(execFile)(process.execPath, ["--input-type=module", "-e", program], {
      cwd: fileURLToPath(new URL(".", import.meta.url)),
      env: { ...process.env, NODE_EXTRA_CA_CERTS: pki!.file("ca.pem") },
    });
    expect(stdout).toBe("fulfilled\nrejected\n");
  });

  test("a client with certificates and nobody to expect is refused before anything is sent", async (context) => {
    needTool(context, "certtool");
    const before = descriptors();
    const [left, right] = pair();
    await expect(
      startTlsTunnel({ role: "client", fd: left, credentials: x509("ca") }, threadOfTest()),
    ).rejects.toMatchObject({ code: "ERR_NBD_TLS_CREDENTIALS" });
    expect(receiveBytes(right, new Uint8Array(10))).toBe(0);
    closeFile(right);
    expect(descriptors()).toBe(before);
  });

  test("credentials that OpenSSL cannot use fail the tunnel and not the thread", async (context) => {
    needTool(context, "certtool");
    const thread = threadOfTest();
    const broken = { ...x509("ca", "server"), key: "no key" };
    const met = await meet(thread, { credentials: broken }, { credentials: x509("ca", "alice") });
    expect(met).toMatchObject({ server: anyRefusal, client: anyRefusal });
    await meetAndWrap(thread, { credentials: x509("ca", "server") }, { credentials: x509("ca", "alice") });
  });

  test("TLS 1.1 is not spoken", async (context) => {
    needTool(context, "certtool");
    const [left, right] = pair();
    const raw = new Socket({ fd: right });
    const old = connectTls({
      socket: raw,
      minVersion: "TLSv1",
      maxVersion: "TLSv1.1",
      ciphers: "ALL:@SECLEVEL=0",
      rejectUnauthorized: false,
    });
    const failed = once(old, "error");
    old.on("secureConnect", () => old.destroy(new Error("it was spoken")));
    await expect(
      startTlsTunnel({ role: "server", fd: left, credentials: x509("ca", "server") }, threadOfTest()),
    ).rejects.toMatchObject({
      code: "ERR_NBD_TLS_HANDSHAKE",
      message: expect.stringMatching(/version|protocol/) as string,
    });
    expect(String(await failed)).not.toContain("it was spoken");
  });
});

describe("what passes", () => {
  const up = (): Promise<Up> =>
    meetAndWrap(threadOfTest(), { credentials: psk(["alice", alicesKey]) }, { credentials: psk(["alice", alicesKey]) });

  test("16 MiB both ways at once, byte for byte", async () => {
    const { server, client } = await up();
    const [there, back] = [randomBytes(16 << 20), randomBytes(16 << 20)];
    const received = Promise.all([readAll(server), readAll(client)]);
    client.end(there);
    server.end(back);
    const [atServer, atClient] = await received;
    expect(atServer.equals(there)).toBe(true);
    expect(atClient.equals(back)).toBe(true);
  });

  test("a byte is passed on without waiting for more", async () => {
    const { server, client } = await up();
    for (let round = 0; round < 20; round++) {
      client.write("?");
      await once(server, "data");
      server.write("!");
      await once(client, "data");
    }
  });

  test("who does not read stops who writes, with little in between, and nothing is lost", async () => {
    const thread = threadOfTest();
    const credentials = psk(["alice", alicesKey]);
    const met = await meet(thread, { credentials }, { credentials });
    if (met.server.status !== "fulfilled" || met.client.status !== "fulfilled") throw new Error("not up");
    const writer = met.client.value.fd;
    const block = Buffer.alloc(65536, 0xab);
    let sent = 0;
    // Full when no room comes up within a while of asking again and again.
    for (let full = 0; full < 50;) {
      const taken = sendBytes(writer, block);
      if (taken > 0) {
        sent += taken;
        full = 0;
      } else {
        expect(taken).toBe(-EAGAIN);
        full++;
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    }
    expect(sent).toBeLessThan(8 << 20);
    const received = readAll(wrap(met.server.value));
    wrap({ fd: writer }).end();
    expect((await received).length).toBe(sent);
  });

  test("an end in one direction leaves the other open", async () => {
    const { server, client } = await up();
    client.end("the last request");
    expect((await readAll(server)).toString()).toBe("the last request");
    const reply = randomBytes(1 << 20);
    server.end(reply);
    expect((await readAll(client)).equals(reply)).toBe(true);
  });

  test("what was sent last arrives, although its sender has closed", async () => {
    const { server, client } = await up();
    const bytes = randomBytes(1 << 20);
    server.end(bytes, () => server.destroy());
    expect((await readAll(client)).equals(bytes)).toBe(true);
  });
});

describe("how it ends", () => {
  const credentials = psk(["alice", alicesKey]);

  test("when one side closes the other sees an end, and no descriptor is left", async () => {
    const thread = threadOfTest();
    const first = await meetAndWrap(thread, { credentials }, { credentials });
    first.server.destroy();
    first.client.destroy();
    await expect.poll(() => thread.tunnels, { timeout: 10_000 }).toBe(0);
    const before = descriptors();
    for (const closer of ["server", "client"] as const) {
      const up = await meetAndWrap(thread, { credentials }, { credentials });
      up[closer].destroy();
      const other = up[closer === "server" ? "client" : "server"];
      other.resume();
      await once(other, "end");
      other.destroy();
    }
    await expect.poll(() => thread.tunnels, { timeout: 10_000 }).toBe(0);
    await expect.poll(descriptors).toBeLessThanOrEqual(before);
  });

  test("when whoever reads the plaintext is gone, a peer that only listens is not kept for ever", async () => {
    const thread = threadOfTest();
    const up = await meetAndWrap(thread, { credentials }, { credentials });
    up.server.destroy();
    // The client neither writes nor ends: its own tunnel has heard the end, and stays half open.
    up.client.resume();
    await once(up.client, "end");
    await expect.poll(() => thread.tunnels, { timeout: 10_000 }).toBeLessThan(2);
    up.client.destroy();
    await expect.poll(() => thread.tunnels, { timeout: 10_000 }).toBe(0);
  });

  test("a peer that resets the connection ends the plaintext", async () => {
    const [left, right] = pair();
    const raw = new Socket({ fd: right });
    const peer = connectTls({
      socket: raw,
      pskCallback: () => ({ identity: "alice", psk: alicesKey }),
      ciphers: "PSK",
      checkServerIdentity: () => undefined,
    });
    const { fd } = await startTlsTunnel({ role: "server", fd: left, credentials }, threadOfTest());
    const plain = new Socket({ fd });
    plain.resume();
    raw.destroy();
    peer.destroy();
    await once(plain, "end");
  });

  test("a peer that says nothing is given up at the deadline", async () => {
    const thread = threadOfTest();
    const [left, right] = pair();
    await expect(
      startTlsTunnel({ role: "server", fd: left, credentials, timeoutMs: 50 }, thread),
    ).rejects.toMatchObject({
      code: "ERR_NBD_TLS_TIMEOUT",
      message: "start TLS: TLS was not negotiated within 50 ms",
    });
    expect(receiveBytes(right, new Uint8Array(1))).toBe(0);
    closeFile(right);
  });

  test.each(["before", "while"])("a negotiation can be given up %s it goes on", async (when) => {
    const [left, right] = pair();
    const controller = new AbortController();
    if (when === "before") controller.abort();
    const started = startTlsTunnel(
      { role: "server", fd: left, credentials, signal: controller.signal },
      threadOfTest(),
    );
    controller.abort();
    await expect(started).rejects.toMatchObject({ code: "ERR_NBD_TLS_ABORTED" });
    expect(receiveBytes(right, new Uint8Array(1))).toBe(0);
    closeFile(right);
  });

  test("a signal has no effect on a tunnel that is up", async () => {
    const controller = new AbortController();
    const up = await meetAndWrap(threadOfTest(), { credentials, signal: controller.signal }, { credentials });
    controller.abort();
    up.client.end("still here");
    expect((await readAll(up.server)).toString()).toBe("still here");
  });

  test.each([
    ["rubbish", Buffer.from("GET / HTTP/1.1\r\n\r\n")],
    ["options in the clear", Buffer.from("IHAVEOPT\0\0\0\u0003\0\0\0\0")],
    ["a record that is cut off", Buffer.from([0x16, 3, 1, 2, 0, 1, 0])],
  ])("a peer that sends %s gets nothing", async (_, bytes) => {
    const [left, right] = pair();
    const raw = new Socket({ fd: right });
    raw.on("error", () => undefined);
    raw.end(bytes);
    await expect(startTlsTunnel({ role: "server", fd: left, credentials }, threadOfTest())).rejects.toMatchObject({
      code: "ERR_NBD_TLS_HANDSHAKE",
    });
  });

  test("bytes that were read already are part of the negotiation", async () => {
    const [left, right] = pair();
    const raw = new Socket({ fd: right });
    connectTls({
      socket: raw,
      pskCallback: () => ({ identity: "alice", psk: alicesKey }),
      ciphers: "PSK",
      checkServerIdentity: () => undefined,
    }).end("hello");
    const buffer = new Uint8Array(100);
    await expect.poll(() => receiveBytes(left, buffer)).toBe(100);
    const tunnel = await startTlsTunnel({ role: "server", fd: left, credentials, unread: buffer }, threadOfTest());
    expect((await readAll(new Socket({ fd: tunnel.fd }))).toString()).toBe("hello");
  });

  test("a descriptor that is no socket is refused, and closed", async () => {
    const file = fileURLToPath(import.meta.url);
    const fd = openSync(file, "r");
    await expect(startTlsTunnel({ role: "server", fd, credentials }, threadOfTest())).rejects.toMatchObject({
      code: "ERR_NBD_TLS_THREAD",
    });
    // Its number may be another's by now.
    const open = readdirSync("/proc/self/fd").map((each) => realpathOf(`/proc/self/fd/${each}`));
    expect(open).not.toContain(file);
  });
});

describe("the thread", () => {
  const credentials = psk(["alice", alicesKey]);

  test("when it is ended, tunnels end, negotiations fail, no descriptor is left, and the next tunnel starts another", async () => {
    const before = descriptors();
    const thread = new TunnelThread();
    const up = await meetAndWrap(thread, { credentials }, { credentials });
    const [left, right] = pair();
    const waiting = startTlsTunnel({ role: "server", fd: left, credentials }, thread);
    const ended = [up.server, up.client].map(async (side) => {
      side.resume();
      await once(side, "end");
      side.destroy();
    });
    const failed = waiting.catch((error: unknown) => error);
    await thread.close();
    expect(await failed).toMatchObject({ code: "ERR_NBD_TLS_THREAD" });
    await Promise.all(ended);
    closeFile(right);
    expect(thread.tunnels).toBe(0);
    await expect.poll(descriptors).toBe(before);

    const again = await meetAndWrap(thread, { credentials }, { credentials });
    again.client.end("again");
    expect((await readAll(again.server)).toString()).toBe("again");
    await thread.close();
  });

  test("when it dies of a bug, tunnels end, and the next one starts another", async () => {
    const thread = threadOfTest();
    const up = await meetAndWrap(thread, { credentials }, { credentials });
    const ended = Promise.all([once(up.server.resume(), "end"), once(up.client.resume(), "end")]);
    // Something that no caller can pass, and that the thread trips over.
    const fd = "no number" as unknown as number;
    await expect(startTlsTunnel({ role: "server", fd, credentials }, thread)).rejects.toMatchObject({
      code: "ERR_NBD_TLS_THREAD",
    });
    await ended;
    await meetAndWrap(thread, { credentials }, { credentials });
  });

  test("an idle one keeps no process alive", async () => {
    const module = new URL("../../dist/tls/tunnel.js", import.meta.url).href;
    const program = `
      import { openSocketPair, closeFile } from "@heirloom/block";
      const { startTlsTunnel } = await import(${JSON.stringify(module)});
      const [left, right] = openSocketPair();
      closeFile(right);
      const credentials = { type: "psk", keys: new Map([["a", new Uint8Array(16)]]) };
      await startTlsTunnel({ role: "server", fd: left, credentials }).catch((error) => console.log(error.code));`;
    const started = performance.now();
    const { stdout } = await promisify(execFile)(process.execPath, ["--input-type=module", "-e", program], {
      cwd: fileURLToPath(new URL(".", import.meta.url)),
    });
    expect(stdout).toBe("ERR_NBD_TLS_HANDSHAKE\n");
    expect(performance.now() - started).toBeLessThan(8_000);
  });
});
