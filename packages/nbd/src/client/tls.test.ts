/** TLS with servers that use GnuTLS (nbdkit, QEMU): keys of both sides, certificates, and what must not be accepted. */
import { randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { once } from "node:events";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { type BlockNode, closeNode, connectNode, type NodeHandle, openNode } from "@heirloom/block";
import { NbdClient, nbdNode } from "@heirloom/nbd";
import { describe, expect, onTestFinished, test, type TestContext } from "vitest";
import { rawServer } from "./lying-server.fixture.ts";
import { needTool, nbdkit, type Peer, qemuNbd, run, scratchDirectory } from "./peers.fixture.ts";
import { NodeThread } from "./thread.fixture.ts";
import { ACK, bytes, greeting, reply } from "./wire.fixture.ts";

const MIB = 1024 * 1024;

async function roundTrip(uri: string): Promise<NbdClient> {
  const client = await NbdClient.connect(uri, { connections: 2 });
  onTestFinished(() => client.destroy());
  expect(client.features.tls).toBe(true);
  const data = randomBytes(MIB);
  await client.write(data, 4096);
  const back = new Uint8Array(MIB);
  await client.read(back, 4096);
  expect(Buffer.compare(back, data)).toBe(0);
  await client.flush();
  return client;
}

const secured = (peer: Peer, query: string): string => `nbds+unix:///?socket=${peer.socket}&${query}`;

describe("a key that both sides have", () => {
  const keyFile = (): string => {
    const file = join(scratchDirectory(), "keys");
    writeFileSync(file, `alice:${randomBytes(32).toString("hex")}\nbob:${randomBytes(32).toString("hex")}\n`);
    return file;
  };

  test("nbdkit and we read and write through it", async (context) => {
    const keys = keyFile();
    const peer = await nbdkit(context, ["--tls=require", `--tls-psk=${keys}`, "memory", "4M"]);
    const client = await roundTrip(secured(peer, `tls-psk-file=${keys}&tls-username=alice`));
    await client.close();
    expect(await NbdClient.list(secured(peer, `tls-psk-file=${keys}&tls-username=bob`))).toMatchObject([{ name: "" }]);
  });

  test("qemu-nbd and we read and write through it", async (context) => {
    const directory = scratchDirectory();
    writeFileSync(join(directory, "keys.psk"), `qemu:${randomBytes(32).toString("hex")}\n`);
    const image = join(directory, "disk");
    writeFileSync(image, Buffer.alloc(4 * MIB));
    const credentials = `tls-creds-psk,id=tls0,dir=${directory},endpoint=server`;
    const peer = await qemuNbd(context, ["--object", credentials, "--tls-creds", "tls0", "-f", "raw", image]);
    await roundTrip(secured(peer, `tls-psk-file=${join(directory, "keys.psk")}&tls-username=qemu`));
  });

  test("a key that is another, and a user that is unknown, are no way in", async (context) => {
    const keys = keyFile();
    const peer = await nbdkit(context, ["--tls=require", `--tls-psk=${keys}`, "memory", "4M"]);
    const others = keyFile();
    await expect(NbdClient.connect(secured(peer, `tls-psk-file=${others}&tls-username=alice`))).rejects.toMatchObject({
      code: "ERR_NBD_TLS",
    });
    await expect(NbdClient.connect(secured(peer, `tls-psk-file=${keys}&tls-username=eve`))).rejects.toMatchObject({
      code: "ERR_NBD_TLS",
      message: expect.stringContaining("'eve:...'"),
    });
    await expect(NbdClient.connect(secured(peer, "tls-psk-file=/nowhere"))).rejects.toMatchObject({
      code: "ERR_NBD_TLS",
    });
  });
});

/** An authority, and what it signed for a server called `name` and for a client. */
function certificates(context: TestContext, name: string): { server: string; client: string; stranger: string } {
  needTool(context, "certtool");
  const make = (owner: string): { key: string; cert: string } => {
    const directory = scratchDirectory();
    const key = join(directory, `${owner}.key`);
    run("certtool", "--generate-privkey", "--ecc", "--outfile", key);
    return { key, cert: join(directory, `${owner}.pem`) };
  };
  const template = (text: string): string => {
    const file = join(scratchDirectory(), "template");
    writeFileSync(file, text);
    return file;
  };
  const authority = (): { key: string; cert: string } => {
    const made = make("ca");
    const words = template("cn = Authority\nca\ncert_signing_key\n");
    run("certtool", "--generate-self-signed", "--load-privkey", made.key, "--template", words, "--outfile", made.cert);
    return made;
  };
  const ca = authority();
  const sign = (owner: string, text: string): { key: string; cert: string } => {
    const made = make(owner);
    const from = ["--load-ca-certificate", ca.cert, "--load-ca-privkey", ca.key, "--load-privkey", made.key];
    run("certtool", "--generate-certificate", ...from, "--template", template(text), "--outfile", made.cert);
    return made;
  };
  const directoryOf = (
    role: "server" | "client",
    pair: { key: string; cert: string },
    authorityCert: string,
  ): string => {
    const directory = scratchDirectory();
    run("cp", authorityCert, join(directory, "ca-cert.pem"));
    run("cp", pair.cert, join(directory, `${role}-cert.pem`));
    run("cp", pair.key, join(directory, `${role}-key.pem`));
    return directory;
  };
  const usage = "signing_key\nencryption_key\n";
  const server = sign("server", `cn = ${name}\ndns_name = ${name}\nip_address = 127.0.0.1\ntls_www_server\n${usage}`);
  const client = sign("client", `cn = client\ntls_www_client\n${usage}`);
  return {
    server: directoryOf("server", server, ca.cert),
    client: directoryOf("client", client, ca.cert),
    // Trusts somebody else.
    stranger: directoryOf("client", client, authority().cert),
  };
}

describe("certificates", () => {
  test("a server that is called as it should be, and wants to know its client", async (context) => {
    const { server, client } = certificates(context, "localhost");
    const peer = await nbdkit(context, [
      "--tls=require",
      `--tls-certificates=${server}`,
      "--tls-verify-peer",
      "memory",
      "4M",
    ]);
    await roundTrip(secured(peer, `tls-certificates=${client}`));
  });

  test("another name, when it is asked for", async (context) => {
    const { server, client } = certificates(context, "disks.example");
    const peer = await nbdkit(context, ["--tls=require", `--tls-certificates=${server}`, "memory", "4M"]);
    await roundTrip(secured(peer, `tls-certificates=${client}&tls-hostname=disks.example`));
    // On a Unix socket it would have to be localhost.
    await expect(NbdClient.connect(secured(peer, `tls-certificates=${client}`))).rejects.toMatchObject({
      code: "ERR_NBD_TLS",
      message: expect.stringContaining("localhost"),
    });
  });

  test("over TCP the name is the host's, an address too", async (context) => {
    const { server, client } = certificates(context, "localhost");
    const peer = await nbdkit(context, ["--tls=require", `--tls-certificates=${server}`, "memory", "4M"]);
    const { connect } = await import("node:net");
    const relay = createServer((socket: Socket) => {
      socket
        .pipe(connect(peer.socket).on("error", () => undefined))
        .pipe(socket)
        .on("error", () => undefined);
    });
    relay.listen(0, "127.0.0.1");
    await once(relay, "listening");
    onTestFinished(() => void relay.close());
    const { port } = relay.address() as { port: number };
    for (const host of ["localhost", "127.0.0.1"]) {
      await (await roundTrip(`nbds://${host}:${port}/?tls-certificates=${client}`)).close();
    }
  });

  test("a server that an unknown authority speaks for is refused, unless anybody will do", async (context) => {
    const { server, stranger } = certificates(context, "localhost");
    const peer = await nbdkit(context, ["--tls=require", `--tls-certificates=${server}`, "memory", "4M"]);
    await expect(NbdClient.connect(secured(peer, `tls-certificates=${stranger}`))).rejects.toMatchObject({
      code: "ERR_NBD_TLS",
    });
    await roundTrip(secured(peer, `tls-certificates=${stranger}&tls-verify-peer=0`));
  });

  test("without a certificate of its own a client is not let in where the server wants one", async (context) => {
    const { server, client } = certificates(context, "localhost");
    const anonymous = scratchDirectory();
    run("cp", join(client, "ca-cert.pem"), join(anonymous, "ca-cert.pem"));
    const peer = await nbdkit(context, [
      "--tls=require",
      `--tls-certificates=${server}`,
      "--tls-verify-peer",
      "memory",
      "4M",
    ]);
    await expect(NbdClient.connect(secured(peer, `tls-certificates=${anonymous}`))).rejects.toMatchObject({
      code: "ERR_NBD_TLS",
    });
  });
});

describe("as a block node", () => {
  const keyFile = (): string => {
    const file = join(scratchDirectory(), "keys");
    writeFileSync(file, `alice:${randomBytes(32).toString("hex")}\n`);
    return file;
  };

  async function open(uri: string): Promise<NodeHandle> {
    const handle = await openNode(nbdNode({ uri, reconnectDelayMs: 20_000 }));
    onTestFinished(() => closeNode(handle));
    return handle;
  }

  function expectRoundTrip(node: BlockNode): void {
    const data = randomBytes(MIB);
    expect(node.write(data, 4096)).toBe(0);
    expect(node.flush()).toBe(0);
    const back = new Uint8Array(MIB);
    expect(node.read(back, 4096)).toBe(0);
    expect(Buffer.compare(back, data)).toBe(0);
  }

  test("verbs of several threads go through it, with keys", async (context) => {
    const keys = keyFile();
    const peer = await nbdkit(context, ["--tls=require", `--tls-psk=${keys}`, "memory", "4M"]);
    const handle = await open(secured(peer, `tls-psk-file=${keys}&tls-username=alice`));
    expectRoundTrip(connectNode(handle));
    const threads = await Promise.all([NodeThread.start(handle), NodeThread.start(handle)]);
    expect(await Promise.all(threads.map((thread) => thread.write(new SharedArrayBuffer(65536), 0)))).toEqual([0, 0]);
    // Connections are not their threads'.
    await Promise.all(threads.map((thread) => thread.die()));
    expectRoundTrip(connectNode(handle));
    expect(connectNode(handle).flush()).toBe(0);
  });

  test("and with certificates, of QEMU's server, which is killed and comes back", async (context) => {
    const { server, client } = certificates(context, "localhost");
    const image = join(scratchDirectory(), "disk");
    writeFileSync(image, Buffer.alloc(4 * MIB));
    const credentials = `tls-creds-x509,id=tls0,dir=${server},endpoint=server,verify-peer=on`;
    const args = ["--object", credentials, "--tls-creds", "tls0", "-f", "raw", image];
    const peer = await qemuNbd(context, args);
    const handle = await open(secured(peer, `tls-certificates=${client}`));
    expectRoundTrip(connectNode(handle));
    await peer.kill();
    run("rm", peer.socket);
    await qemuNbd(context, args, peer.socket);
    expectRoundTrip(connectNode(handle));
  });

  test("a key that is another, a name that is another, and files that are not there, are no way in", async (context) => {
    const keys = keyFile();
    const peer = await nbdkit(context, ["--tls=require", `--tls-psk=${keys}`, "memory", "4M"]);
    const other = secured(peer, `tls-psk-file=${keyFile()}&tls-username=alice`);
    await expect(openNode(nbdNode({ uri: other }))).rejects.toMatchObject({
      code: "ERR_NODE_OPEN",
      message: expect.stringContaining("TLS"),
    });
    const nowhere = secured(peer, "tls-psk-file=/nowhere");
    await expect(openNode(nbdNode({ uri: nowhere }))).rejects.toThrow("/nowhere: no such file");
    const { server, client } = certificates(context, "disks.example");
    const named = await nbdkit(context, ["--tls=require", `--tls-certificates=${server}`, "memory", "4M"]);
    await expect(openNode(nbdNode({ uri: secured(named, `tls-certificates=${client}`) }))).rejects.toThrow("localhost");
    await open(secured(named, `tls-certificates=${client}&tls-hostname=disks.example`));
  });

  test("a server that never negotiates TLS is left at its time", async () => {
    const program = `
      const net = require("node:net"), { parentPort, workerData } = require("node:worker_threads");
      net.createServer((socket) => {
        socket.on("error", () => undefined).write(Buffer.from(workerData));
      }).listen("\\0heirloom-silent-" + process.pid, () => parentPort.postMessage("listens"));`;
    const silent = new Worker(program, { eval: true, workerData: bytes(greeting(), reply(5, ACK)) });
    onTestFinished(async () => {
      await silent.terminate();
    });
    await once(silent, "message");
    const uri = `nbds+unix:///?socket=%00heirloom-silent-${process.pid}&tls-verify-peer=0`;
    const begun = performance.now();
    await expect(openNode(nbdNode({ uri, openTimeoutMs: 400 }))).rejects.toMatchObject({ code: "ERR_NODE_OPEN" });
    expect(performance.now() - begun).toBeLessThan(4000);
  });

  test("where nobody has started the thread for it, that is said", async (context) => {
    const keys = keyFile();
    const peer = await nbdkit(context, ["--tls=require", `--tls-psk=${keys}`, "memory", "4M"]);
    const program = `
      import { openNode } from ${JSON.stringify(import.meta.resolve("@heirloom/block"))};
      import { nbdDriver } from ${JSON.stringify(import.meta.resolve("@heirloom/nbd"))};
      const uri = ${JSON.stringify(secured(peer, `tls-psk-file=${keys}`))};
      const error = await openNode({ driver: nbdDriver, uri, openTimeoutMs: 500 }).catch((error) => error);
      console.log(error.message);`;
    expect(run(process.execPath, "--input-type=module", "-e", program)).toContain("expected a call of startNbdTls");
  });
});

describe("never in the clear", () => {
  test("a server without TLS is left where TLS was asked for, before it hears the export's name", async (context) => {
    const peer = await nbdkit(context, ["--tls=off", "memory", "4M"]);
    await expect(NbdClient.connect(secured(peer, "tls-verify-peer=0"))).rejects.toMatchObject({ code: "ERR_NBD_TLS" });
  });

  test("a server that wants TLS is named as the reason to a client without", async (context) => {
    const { server } = certificates(context, "localhost");
    const peer = await nbdkit(context, ["--tls=require", `--tls-certificates=${server}`, "memory", "4M"]);
    await expect(NbdClient.connect(peer.uri())).rejects.toMatchObject({
      code: "ERR_NBD_TLS",
      message: expect.stringContaining("nbds"),
    });
  });

  test("a server that agrees to TLS and then speaks in the clear gets no word", async () => {
    const heard: Buffer[] = [];
    const server = await rawServer((socket) => {
      socket.on("data", (more: Buffer) => heard.push(more));
      socket.write(bytes(greeting(), reply(5, ACK), reply(11, ACK)));
    });
    const uri = server.uri.replace("nbd+unix", "nbds+unix").replace("///", "///secret");
    await expect(NbdClient.connect(uri)).rejects.toMatchObject({ code: "ERR_NBD_TLS" });
    expect(Buffer.concat(heard).includes("secret")).toBe(false);
  });
});
