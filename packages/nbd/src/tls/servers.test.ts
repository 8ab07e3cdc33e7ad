/** Our client's side of TLS against nbdkit and qemu-nbd: STARTTLS, the tunnel, and options through it. */
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { connect, Socket } from "node:net";
import { join } from "node:path";
import { duplicateDescriptor } from "@heirloom/block";
import { beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { descriptorOf } from "../../dist/server/descriptor-of.js";
import { loadPskCredentials, loadX509Credentials, type TlsCredentials } from "../../dist/tls/credentials.js";
import { startTlsTunnel, type Tunnel, type TunnelRequest, TunnelThread } from "../../dist/tls/tunnel.js";
import { clientFlags, opt, option, parseReplies, tell } from "../server/option-wire.fixture.ts";
import { startPeer } from "../peer.fixture.ts";
import { needTool, scratchDirectory } from "../tool.fixture.ts";
import { type Pki, usualPki } from "./pki.fixture.ts";

/** Everything up to TLS, in the clear. @returns the descriptor of the connection */
async function startTls(path: string): Promise<number> {
  const socket = connect(path);
  let received = Buffer.alloc(0);
  socket.on("data", (bytes) => (received = Buffer.concat([received, bytes])));
  socket.write(Buffer.concat([clientFlags(), option(opt.startTls)]));
  while (received.length < 38) await once(socket, "data");
  expect(tell(parseReplies(received.subarray(18)))).toEqual(["ack"]);
  const fd = duplicateDescriptor(descriptorOf(socket));
  socket.destroy();
  return fd;
}

/** LIST and ABORT through a tunnel. */
async function list({ fd }: Tunnel): Promise<string[]> {
  const socket = new Socket({ fd });
  socket.end(Buffer.concat([option(opt.list), option(opt.abort)]));
  const parts: Buffer[] = [];
  for await (const part of socket) parts.push(part as Buffer);
  return tell(parseReplies(Buffer.concat(parts)));
}

async function tunnelTo(path: string, credentials: TlsCredentials, more: Partial<TunnelRequest> = {}): Promise<Tunnel> {
  const thread = new TunnelThread();
  onTestFinished(() => thread.close());
  const fd = await startTls(path);
  return startTlsTunnel({ role: "client", fd, credentials, serverName: "localhost", ...more }, thread);
}

describe("certificates", () => {
  let pki: Pki | undefined;
  beforeAll(() => {
    try {
      pki = usualPki();
      const server = { "ca-cert.pem": "ca.pem", "server-cert.pem": "server.pem", "server-key.pem": "server-key.pem" };
      pki.layout("server-dir", server);
      pki.layout("expired-dir", { ...server, "server-cert.pem": "expired.pem", "server-key.pem": "expired-key.pem" });
      pki.layout("alice-dir", {
        "ca-cert.pem": "ca.pem",
        "client-cert.pem": "alice.pem",
        "client-key.pem": "alice-key.pem",
      });
    } catch {
      // certtool is missing: each test says so.
    }
    return () => pki?.remove();
  });
  const alice = (): Promise<TlsCredentials> => loadX509Credentials(pki!.file("alice-dir"), "client");
  const nbdkit = (socket: string, directory: string): Promise<ChildProcess> =>
    startPeer(
      socket,
      "nbdkit",
      "-f",
      "-U",
      socket,
      "--tls=require",
      `--tls-certificates=${pki!.file(directory)}`,
      "--tls-verify-peer",
      "null",
      "1M",
    );

  test("nbdkit lets us in and answers", async (context) => {
    for (const tool of ["certtool", "nbdkit"]) needTool(context, tool);
    const socket = join(scratchDirectory(), "s");
    await nbdkit(socket, "server-dir");
    const tunnel = await tunnelTo(socket, await alice());
    expect(tunnel.peer).toMatchObject({ protocol: "TLSv1.3", subject: "CN=server" });
    expect(await list(tunnel)).toEqual(["server : ", "ack", "ack"]);
  });

  test("qemu-nbd lets us in and answers", async (context) => {
    for (const tool of ["certtool", "qemu-nbd"]) needTool(context, tool);
    const directory = scratchDirectory();
    const socket = join(directory, "s");
    const image = join(directory, "disk.raw");
    writeFileSync(image, Buffer.alloc(4096));
    const creds = `tls-creds-x509,id=tls0,endpoint=server,verify-peer=on,dir=${pki!.file("server-dir")}`;
    await startPeer(
      socket,
      "qemu-nbd",
      "-t",
      "-k",
      socket,
      "-x",
      "disk",
      "-f",
      "raw",
      "--object",
      creds,
      "--tls-creds",
      "tls0",
      image,
    );
    expect(await list(await tunnelTo(socket, await alice()))).toEqual(["server disk: ", "ack", "ack"]);
  });

  test.for([
    ["of another name", "server-dir", { serverName: "example.com" }],
    ["whose certificate has expired", "expired-dir", {}],
  ] as const)("a server %s is not believed", async ([, directory, more], context) => {
    for (const tool of ["certtool", "nbdkit"]) needTool(context, tool);
    const socket = join(scratchDirectory(), "s");
    await nbdkit(socket, directory);
    await expect(tunnelTo(socket, await alice(), more)).rejects.toMatchObject({ code: "ERR_NBD_TLS_HANDSHAKE" });
  });
});

describe("pre-shared keys", () => {
  const hex = "00112233445566778899aabbccddeeff";

  test.for([
    ["the right key", hex, true],
    ["a wrong key", `${hex}00`, false],
  ] as const)("nbdkit, with %s", async ([, key, good], context) => {
    needTool(context, "nbdkit");
    const directory = scratchDirectory();
    const socket = join(directory, "s");
    writeFileSync(join(directory, "theirs"), `alice:${hex}\n`);
    writeFileSync(join(directory, "ours"), `alice:${key}\n`);
    await startPeer(
      socket,
      "nbdkit",
      "-f",
      "-U",
      socket,
      "--tls=require",
      `--tls-psk=${join(directory, "theirs")}`,
      "null",
      "1M",
    );
    const tunnel = tunnelTo(socket, await loadPskCredentials(join(directory, "ours"), "client", "alice"));
    if (good) expect(await list(await tunnel)).toEqual(["server : ", "ack", "ack"]);
    else await expect(tunnel).rejects.toMatchObject({ code: "ERR_NBD_TLS_HANDSHAKE" });
  });

  test("qemu-nbd", async (context) => {
    needTool(context, "qemu-nbd");
    const directory = scratchDirectory();
    const socket = join(directory, "s");
    const image = join(directory, "disk.raw");
    writeFileSync(image, Buffer.alloc(4096));
    writeFileSync(join(directory, "keys.psk"), `qemu:${hex}\n`);
    const creds = `tls-creds-psk,id=tls0,endpoint=server,dir=${directory}`;
    await startPeer(
      socket,
      "qemu-nbd",
      "-t",
      "-k",
      socket,
      "-x",
      "disk",
      "-f",
      "raw",
      "--object",
      creds,
      "--tls-creds",
      "tls0",
      image,
    );
    const tunnel = await tunnelTo(socket, await loadPskCredentials(join(directory, "keys.psk"), "client"));
    expect(tunnel.peer).toMatchObject({ identity: "qemu", protocol: "TLSv1.3" });
    expect(await list(tunnel)).toEqual(["server disk: ", "ack", "ack"]);
  });
});
