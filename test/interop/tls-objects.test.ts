/** Credentials as objects: clients of QEMU and libnbd come in with theirs, and nobody else does. */
import { spawn, spawnSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createRuntime } from "@heirloom/runtime";
import { type CommandSet, QmpService } from "@heirloom/qmp";
import { expect, onTestFinished, test, type TestContext } from "vitest";
import { needTool, scratchDirectory } from "../../packages/block/src/tool.fixture.ts";
import { Pki } from "../../packages/nbd/src/tls/pki.fixture.ts";

const length = 2 ** 20;

function needTools(context: TestContext, ...tools: readonly string[]): void {
  for (const tool of tools) needTool(context, tool);
}

/** A server with a disk `d`, by these objects; the last of them has its credentials. */
async function serve(...objects: ReadonlyArray<Record<string, unknown>>): Promise<string> {
  const directory = scratchDirectory();
  const runtime = createRuntime();
  const service = new QmpService({ runtime, quit: () => {} });
  onTestFinished(async () => {
    await runtime.close();
    await service.close();
  });
  const run = (command: string, args: Record<string, unknown>): ReturnType<CommandSet["carryOut"]> =>
    service.commands.carryOut(command, args);
  const filename = join(directory, "disk");
  writeFileSync(filename, new Uint8Array(length).fill(7));
  const socket = join(directory, "nbd");
  for (const object of objects) await run("object-add", object);
  const addr = { type: "unix", data: { path: socket } };
  await run("nbd-server-start", { addr, "tls-creds": objects.at(-1)?.id });
  await run("blockdev-add", { driver: "file", "node-name": "d", filename });
  await run("block-export-add", { type: "nbd", id: "e", "node-name": "d", name: "d" });
  return socket;
}

/** Bytes that the tool says the export has; what it said where it could not. */
async function size(tool: string, ...args: readonly string[]): Promise<number | string> {
  const child = spawn(tool, args);
  let told = "";
  child.stdout.on("data", (chunk: Buffer) => (told += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => (told += chunk.toString()));
  const code = await new Promise<number | null>((resolve) => child.once("close", resolve));
  if (code !== 0) return told;
  return Number(/^\d+$/.test(told.trim()) ? told : (JSON.parse(told) as { "virtual-size": number })["virtual-size"]);
}

function asLibnbd(socket: string, query: string, user = ""): Promise<number | string> {
  return size("nbdinfo", "--size", `nbds+unix://${user}/d?socket=${socket}&${query}`);
}
function asQemu(socket: string, object: string): Promise<number | string> {
  const node = `driver=nbd,server.type=unix,server.path=${socket},export=d,tls-creds=c,tls-hostname=localhost`;
  return size("qemu-img", "info", "--output=json", "--object", object, "--image-opts", node);
}

function certificates(): {
  readonly pki: Pki;
  readonly encrypted: string;
  readonly client: string;
  readonly bare: string;
} {
  const pki = new Pki();
  onTestFinished(() => pki.remove());
  pki.authority("ca");
  pki.certificate("server", "ca", 'cn = "localhost"\ndns_name = "localhost"\ntls_www_server');
  pki.certificate("client", "ca", 'cn = "client"\ntls_www_client');
  const encrypted = spawnSync("openssl", [
    ...["pkcs8", "-topk8", "-in", pki.file("server-key.pem"), "-out", pki.file("locked-key.pem")],
    ...["-passout", "pass:open sesame"],
  ]);
  expect(encrypted.status, encrypted.stderr.toString()).toBe(0);
  const files = { "ca-cert.pem": "ca.pem" };
  return {
    pki,
    encrypted: pki.layout("s", { ...files, "server-cert.pem": "server.pem", "server-key.pem": "locked-key.pem" }),
    client: pki.layout("c", { ...files, "client-cert.pem": "client.pem", "client-key.pem": "client-key.pem" }),
    bare: pki.layout("b", files),
  };
}

const x509 = (dir: string): Record<string, unknown> => ({
  "qom-type": "tls-creds-x509",
  id: "c",
  endpoint: "server",
  dir,
  passwordid: "p",
});
const password = (data: string): Record<string, unknown> => ({ "qom-type": "secret", id: "p", data });

test("tls-creds-x509 with a key that a secret opens: clients with certificates come in, others do not", async (context) => {
  needTools(context, "certtool", "openssl", "nbdinfo", "qemu-img");
  const { encrypted, client, bare } = certificates();
  const socket = await serve(password("open sesame"), x509(encrypted));
  expect(await asLibnbd(socket, `tls-certificates=${client}`)).toBe(length);
  expect(await asQemu(socket, `tls-creds-x509,id=c,endpoint=client,dir=${client}`)).toBe(length);
  expect(await asLibnbd(socket, `tls-certificates=${bare}`)).not.toBe(length);
  expect(await asQemu(socket, `tls-creds-x509,id=c,endpoint=client,dir=${bare}`)).not.toBe(length);
  expect(await size("nbdinfo", "--size", `nbd+unix:///d?socket=${socket}`)).toContain("TLS");
});

test("verify-peer=off: a client needs no certificate", async (context) => {
  needTools(context, "certtool", "openssl", "nbdinfo", "qemu-img");
  const { encrypted, bare } = certificates();
  const socket = await serve(password("open sesame"), { ...x509(encrypted), "verify-peer": false });
  expect(await asLibnbd(socket, `tls-certificates=${bare}`)).toBe(length);
  expect(await asQemu(socket, `tls-creds-x509,id=c,endpoint=client,dir=${bare}`)).toBe(length);
});

test("a key whose password is wrong, or nowhere, is told when it is used", async (context) => {
  needTools(context, "certtool", "openssl");
  const { encrypted } = certificates();
  await expect(serve(password("wrong"), x509(encrypted))).rejects.toThrow(/server-key.pem: expected a private key/);
  await expect(serve(x509(encrypted))).rejects.toThrow("No secret with id 'p'");
});

test("tls-creds-psk: who has a key of the file comes in, others do not", async (context) => {
  needTools(context, "nbdinfo", "qemu-img");
  const directory = scratchDirectory();
  const keys = (name: string, key: string): string => {
    mkdirSync(join(directory, name));
    writeFileSync(join(directory, name, "keys.psk"), `qemu:${key.repeat(32)}\n`, { mode: 0o600 });
    return join(directory, name);
  };
  const dir = keys("right", "ab");
  const wrong = keys("wrong", "cd");
  const socket = await serve({ "qom-type": "tls-creds-psk", id: "c", endpoint: "server", dir });
  expect(await asLibnbd(socket, `tls-psk-file=${dir}/keys.psk`, "qemu@")).toBe(length);
  expect(await asQemu(socket, `tls-creds-psk,id=c,endpoint=client,dir=${dir}`)).toBe(length);
  expect(await asLibnbd(socket, `tls-psk-file=${wrong}/keys.psk`, "qemu@")).not.toBe(length);
  expect(await asQemu(socket, `tls-creds-psk,id=c,endpoint=client,dir=${wrong}`)).not.toBe(length);
});
