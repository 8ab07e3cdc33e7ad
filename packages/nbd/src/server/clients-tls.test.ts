/** QEMU's tools and nbdinfo through our TLS: who gets in, and who is told no. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { loadPskCredentials, loadX509Credentials } from "../../dist/tls/credentials.js";
import { tlsStarter, type ServerTls } from "../../dist/server/tls-starter.js";
import { TunnelThread } from "../../dist/tls/tunnel.js";
import { runPeer, type Ran } from "../peer.fixture.ts";
import { type Pki, usualPki } from "../tls/pki.fixture.ts";
import { needTool, scratchDirectory } from "../tool.fixture.ts";
import { Directory, offerOf } from "./handshake.fixture.ts";
import { pattern, serveFromMemory } from "./memory-session.fixture.ts";
import { clientFlags, exportName, info, opt, option, parseReplies, tell } from "./option-wire.fixture.ts";
import { descriptors, open, type Place, RawClient } from "./reception.fixture.ts";

interface Secure extends Place {
  readonly port: number;
  readonly thread: TunnelThread;
  readonly peers: unknown[];
}

async function serve(tls: ServerTls, timeoutMs?: number): Promise<Secure> {
  const thread = new TunnelThread();
  const peers: unknown[] = [];
  const place = await open({
    directory: new Directory(offerOf("disk", { description: "the guest's disk" })),
    startTls: tlsStarter(tls, thread),
    handshakeTimeoutMs: timeoutMs,
    onSession: (session, release) => {
      peers.push(session.tls);
      serveFromMemory(session, release);
    },
  });
  onTestFinished(async () => {
    await place.reception.close();
    await thread.close();
  });
  const address = await place.reception.listen({ host: "127.0.0.1", port: 0 });
  if (!("port" in address)) throw new Error("no port");
  return { ...place, port: address.port, thread, peers };
}

describe("certificates", () => {
  let pki: Pki | undefined;
  beforeAll(() => {
    try {
      pki = usualPki();
      pki.layout("server-dir", {
        "ca-cert.pem": "ca.pem",
        "server-cert.pem": "server.pem",
        "server-key.pem": "server-key.pem",
      });
      pki.layout("nobody-dir", { "ca-cert.pem": "ca.pem" });
      pki.layout("wrong-ca-dir", {
        "ca-cert.pem": "other-ca.pem",
        "client-cert.pem": "alice.pem",
        "client-key.pem": "alice-key.pem",
      });
      for (const name of ["alice", "bob", "stranger", "expired-client"]) {
        pki.layout(`${name}-dir`, {
          "ca-cert.pem": "ca.pem",
          "client-cert.pem": `${name}.pem`,
          "client-key.pem": `${name}-key.pem`,
        });
      }
    } catch {
      // certtool is missing: each test says so.
    }
    return () => pki?.remove();
  });
  const server = async (tls: Partial<ServerTls> = {}): Promise<Secure> =>
    serve({ credentials: await loadX509Credentials(pki!.file("server-dir"), "server"), ...tls });
  const qemuList = (port: number, name: string): Promise<Ran> =>
    runPeer(
      ...(["qemu-nbd", "--list", "-b", "127.0.0.1", "-p", String(port), "--tls-creds", "tls0", "--object"] as const),
      `tls-creds-x509,id=tls0,endpoint=client,dir=${pki!.file(`${name}-dir`)}`,
    );
  const nbdinfo = (port: number, name: string): Promise<Ran> =>
    runPeer("nbdinfo", "--json", `nbds://127.0.0.1:${port}/disk?tls-certificates=${pki!.file(`${name}-dir`)}`);

  test("qemu-nbd lists, nbdinfo reads, and the session knows who they are", async (context) => {
    for (const tool of ["certtool", "qemu-nbd", "nbdinfo"]) needTool(context, tool);
    const { port, peers } = await server();
    const listed = await qemuList(port, "alice");
    expect(listed).toMatchObject({ status: 0, errors: "" });
    expect(listed.output).toContain("export: 'disk'");
    const read = await nbdinfo(port, "alice");
    expect(read.status, read.errors).toBe(0);
    expect(JSON.parse(read.output)).toMatchObject({
      TLS: true,
      exports: [{ "export-name": "disk", "export-size": 1048576 }],
    });
    expect(peers).toEqual([
      expect.objectContaining({
        protocol: "TLSv1.3",
        subject: expect.stringContaining("CN=alice") as string,
      }) as unknown,
    ]);
  });

  test("qemu-io reads what the disk holds, also on a Unix socket with the name of the server given", async (context) => {
    for (const tool of ["certtool", "qemu-io"]) needTool(context, tool);
    const { port, path } = await server();
    const creds = `tls-creds-x509,id=tls0,endpoint=client,dir=${pki!.file("alice-dir")}`;
    for (const where of [
      `server.type=inet,server.host=127.0.0.1,server.port=${port}`,
      `server.type=unix,server.path=${path},tls-hostname=localhost`,
    ]) {
      const image = `driver=nbd,export=disk,tls-creds=tls0,${where}`;
      const command = `read -v 0 ${pattern.length}`;
      const { output } = await runPeer("qemu-io", "--object", creds, "-r", "--image-opts", "-c", command, image);
      expect(output, where).toContain("the.first.bytes");
    }
  });

  test("names that are allowed get in, others do not", async (context) => {
    for (const tool of ["certtool", "nbdinfo"]) needTool(context, tool);
    const { port, refused } = await server({ allowedNames: ["alice.example"] });
    expect((await nbdinfo(port, "alice")).status).toBe(0);
    expect((await nbdinfo(port, "bob")).status).toBe(1);
    expect(await refused.next()).toMatchObject({
      code: "ERR_NBD_TLS",
      reason: expect.stringMatching(/"CN=bob.*not allowed/) as string,
    });
  });

  test.for([
    ["without a certificate", "nobody", /showed no certificate/],
    ["with another CA's certificate", "stranger", /showed no certificate|not valid/],
    ["with an expired certificate", "expired-client", /CERT_HAS_EXPIRED|not negotiated/],
    ["that believes another CA", "wrong-ca", /not negotiated/],
  ] as const)("a client %s does not get in", async ([, name, reason], context) => {
    for (const tool of ["certtool", "nbdinfo"]) needTool(context, tool);
    const { port, refused, peers, reception, thread } = await server();
    expect((await nbdinfo(port, name)).status).toBe(1);
    expect(await refused.next()).toMatchObject({
      code: "ERR_NBD_TLS",
      reason: expect.stringMatching(reason) as string,
    });
    expect(peers).toEqual([]);
    expect([reception.connections, thread.tunnels]).toEqual([0, 0]);
  });

  test("a client without a certificate gets in where it is optional", async (context) => {
    for (const tool of ["certtool", "nbdinfo"]) needTool(context, tool);
    const { port, peers } = await server({ clientCertificates: "optional" });
    expect((await nbdinfo(port, "nobody")).status).toBe(0);
    expect(peers).toMatchObject([{ subject: undefined }]);
  });

  test("clients without TLS are refused in words", async (context) => {
    for (const tool of ["certtool", "nbdinfo", "qemu-nbd", "qemu-img"]) needTool(context, tool);
    const { port, peers } = await server();
    const results = [
      await runPeer("nbdinfo", `nbd://127.0.0.1:${port}/disk`),
      await runPeer("qemu-nbd", "--list", "-b", "127.0.0.1", "-p", String(port)),
      await runPeer("qemu-img", "info", `nbd://127.0.0.1:${port}/disk`),
    ];
    // libnbd has no word for it.
    for (const [index, { status, errors }] of results.entries()) {
      expect(status).toBe(1);
      expect(errors).toMatch(index === 0 ? /not supported/ : /TLS/);
    }
    expect(peers).toEqual([]);
  });

  test("a client that wants TLS is refused by a server that has none", async (context) => {
    for (const tool of ["certtool", "nbdinfo"]) needTool(context, tool);
    const place = await open();
    const uri = `nbds+unix:///disk?socket=${place.path}&tls-certificates=${pki!.file("alice-dir")}`;
    // All that libnbd says of it, to qemu-nbd as well, is that the connection is closed: it hung up, or said so before.
    expect((await runPeer("nbdinfo", uri)).status).toBe(1);
    const code = expect.stringMatching(/^ERR_NBD_(DISCONNECTED|ABORTED)$/) as unknown;
    expect(await place.refused.next()).toMatchObject({ code });
  });
});

describe("pre-shared keys", () => {
  const keys = "alice:00112233445566778899aabbccddeeff\nqemu:ffeeddccbbaa99887766554433221100\n";
  const wrong = "alice:11112233445566778899aabbccddeeff\nqemu:11eeddccbbaa99887766554433221100\n";
  const server = async (timeoutMs?: number): Promise<Secure & { keysFile: string; wrongFile: string }> => {
    const directory = scratchDirectory();
    const [keysFile, wrongFile] = [join(directory, "keys.psk"), join(directory, "wrong.psk")];
    writeFileSync(keysFile, keys);
    writeFileSync(wrongFile, wrong);
    return {
      ...(await serve({ credentials: await loadPskCredentials(keysFile, "server") }, timeoutMs)),
      keysFile,
      wrongFile,
    };
  };

  test("nbdinfo gets in with the right key, by either kind of socket", async (context) => {
    needTool(context, "nbdinfo");
    const { port, path, keysFile, peers } = await server();
    for (const uri of [
      `nbds://alice@127.0.0.1:${port}/disk?tls-psk-file=${keysFile}`,
      `nbds+unix://alice@/disk?socket=${path}&tls-psk-file=${keysFile}`,
    ]) {
      const { status, errors, output } = await runPeer("nbdinfo", "--json", uri);
      expect(status, errors).toBe(0);
      expect(JSON.parse(output)).toMatchObject({ TLS: true });
    }
    expect(peers).toMatchObject([{ identity: "alice", protocol: "TLSv1.3" }, { identity: "alice" }]);
  });

  test("qemu-nbd lists with its usual user", async (context) => {
    needTool(context, "qemu-nbd");
    const { path, keysFile } = await server();
    const creds = `tls-creds-psk,id=tls0,endpoint=client,dir=${join(keysFile, "..")}`;
    const { status, output, errors } = await runPeer(
      "qemu-nbd",
      "--list",
      "-k",
      path,
      "--object",
      creds,
      "--tls-creds",
      "tls0",
    );
    expect(status, errors).toBe(0);
    expect(output).toContain("export: 'disk'");
  });

  test("TLS 1.2 is spoken with clients that know no other", async (context) => {
    needTool(context, "qemu-nbd");
    const { path, keysFile } = await server();
    const priority = "NORMAL:-VERS-TLS1.3:+ECDHE-PSK:+DHE-PSK:+PSK";
    const creds = `tls-creds-psk,id=tls0,endpoint=client,dir=${join(keysFile, "..")},priority=${priority}`;
    const { status, errors } = await runPeer(
      "qemu-nbd",
      "--list",
      "-k",
      path,
      "--object",
      creds,
      "--tls-creds",
      "tls0",
    );
    expect(status, errors).toBe(0);
  });

  test.for([
    ["a wrong key", "alice", "wrongFile"],
    ["an unknown user", "eve", "keysFile"],
  ] as const)("%s does not get in", async ([, user, file], context) => {
    needTool(context, "nbdinfo");
    const place = await server();
    writeFileSync(join(place.directory, "eve"), "eve:00112233445566778899aabbccddeeff\n");
    const psk = user === "eve" ? join(place.directory, "eve") : place[file];
    const { status } = await runPeer("nbdinfo", `nbds://${user}@127.0.0.1:${place.port}/disk?tls-psk-file=${psk}`);
    expect(status).toBe(1);
    expect(await place.refused.next()).toMatchObject({ code: "ERR_NBD_TLS" });
    expect(place.peers).toEqual([]);
  });

  test("options in the clear get ERR_TLS_REQD, and EXPORT_NAME an end", async () => {
    const { path } = await server();
    const client = new RawClient({ path });
    client.send(clientFlags(), option(opt.list), info(opt.go, "disk"), option(opt.abort));
    expect(tell(parseReplies((await client.readAll()).subarray(18)))).toEqual([
      "errTlsReqd Option 0x3 not permitted before TLS",
      "errTlsReqd Option 0x7 not permitted before TLS",
      "ack",
    ]);
    const old = new RawClient({ path });
    old.send(clientFlags(), exportName("disk"));
    expect(await old.readAll()).toHaveLength(18);
  });

  test("options injected behind STARTTLS are not read, neither at once nor after its acknowledgement", async () => {
    const { path, refused } = await server();
    const atOnce = new RawClient({ path });
    atOnce.send(clientFlags(), option(opt.startTls), info(opt.go, "disk"));
    expect(await atOnce.readAll()).toHaveLength(18);
    expect(await refused.next()).toMatchObject({ code: "ERR_NBD_PROTOCOL" });
    const later = new RawClient({ path });
    later.send(clientFlags(), option(opt.startTls));
    expect(tell(parseReplies((await later.read(38)).subarray(18)))).toEqual(["ack"]);
    later.send(info(opt.go, "disk"));
    await later.closed;
    expect(await refused.next()).toMatchObject({ code: "ERR_NBD_TLS" });
  });

  test("one that stops after STARTTLS is shown out at the deadline of the whole handshake, and leaves nothing", async () => {
    const { path, refused, thread, reception } = await server(150);
    const before = descriptors();
    const started = performance.now();
    const client = new RawClient({ path });
    client.send(clientFlags(), option(opt.startTls));
    await client.read(38);
    expect(await refused.next()).toMatchObject({ code: "ERR_NBD_TIMEOUT" });
    expect(performance.now() - started).toBeLessThan(2_000);
    await client.closed;
    expect(reception.connections).toBe(0);
    await expect.poll(() => thread.tunnels).toBe(0);
    // The thread's own descriptors stay with it.
    await thread.close();
    await expect.poll(descriptors).toBe(before);
  });
});
