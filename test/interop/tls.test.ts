/** Data through TLS: keys that both sides have, and certificates on both sides; who has neither gets nothing. */
import { type ExecFileSyncOptions, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { loadPskCredentials, loadX509Credentials } from "@heirloom/nbd";
import { createRuntime } from "@heirloom/runtime";
import { describe, expect, onTestFinished, test, type TestContext } from "vitest";
import { needTool, scratchDirectory } from "../../packages/block/src/tool.fixture.ts";
import { attempt, firstDifference, MiB, noise, run } from "./interop.fixture.ts";

type Kind = "keys" | "certificates";

interface Secrets {
  readonly kind: Kind;
  /** The file of keys, or the directory of certificates. */
  readonly path: string;
}

interface TlsServer {
  readonly name: string;
  readonly tool?: string;
  /** Until the test ends. */
  readonly start: (socket: string, file: string, secrets: Secrets) => Promise<void>;
}

const servers: readonly TlsServer[] = [
  {
    name: "nbdkit's file plugin",
    tool: "nbdkit",
    async start(socket, file, { kind, path }) {
      const tls = kind === "keys" ? [`--tls-psk=${path}`] : [`--tls-certificates=${path}`, "--tls-verify-peer"];
      const pid = `${socket}.pid`;
      const options = ["--foreground", "--tls=require", ...tls, "--unix", socket, "--pidfile", pid];
      const child = spawn("nbdkit", [...options, "file", file], { stdio: "ignore" });
      const ended = once(child, "close");
      onTestFinished(async () => {
        child.kill();
        await ended;
      });
      while (!existsSync(pid) && child.exitCode === null) await new Promise((resolve) => setTimeout(resolve, 2));
    },
  },
  {
    name: "heirloom",
    async start(socket, file, { kind, path }) {
      const runtime = createRuntime();
      onTestFinished(() => runtime.close());
      const credentials = await (kind === "keys"
        ? loadPskCredentials(path, "server")
        : loadX509Credentials(path, "server"));
      const server = await runtime.serveNbd({ listen: [{ path: socket }], tls: { credentials } });
      const disk = await runtime.attach({ driver: "file", filename: file }, { name: "disk" });
      await server.add({ disk, writable: true });
    },
  },
];

const length = 6 * MiB;

describe.for(servers)("$name over TLS", ({ tool, start }) => {
  test.for<Kind>(["keys", "certificates"])("copies in and out with %s on both sides", async (kind, context) => {
    for (const each of [tool ?? "nbdcopy", "nbdcopy", "qemu-img", "qemu-io", "openssl"]) needTool(context, each);
    const { scratch, secrets, socket, file, content } = await scene(context, kind, start);
    const uri = `nbds+unix://${kind === "keys" ? "alice@" : ""}/disk?socket=${socket}&${kind === "keys" ? "tls-psk-file" : "tls-certificates"}=${secrets.path}`;
    const copy = join(scratch, "copy.raw");
    await run("nbdcopy", ["--connections=4", uri, copy]);
    expect(firstDifference(readFileSync(copy), content)).toBe(-1);
    const other = noise(length, 2);
    writeFileSync(copy, other);
    await run("nbdcopy", ["--connections=4", "--flush", copy, uri]);
    expect(firstDifference(readFileSync(file), other)).toBe(-1);

    const { object, node } = asQemu(secrets, socket);
    const again = join(scratch, "again.raw");
    await run("qemu-img", ["convert", "--object", object, "--image-opts", node, "-O", "raw", again]);
    expect(firstDifference(readFileSync(again), other)).toBe(-1);
    // Longer than any record of TLS, at an odd place.
    await run("qemu-io", ["--object", object, "--image-opts", "-c", "write -P 9 1000001 2000003", node]);
    other.fill(9, 1_000_001, 3_000_004);
    expect(firstDifference(readFileSync(file), other)).toBe(-1);
  });

  test("who asks without TLS, or with another key, is told no", async (context) => {
    for (const each of [tool ?? "nbdinfo", "nbdinfo"]) needTool(context, each);
    const { scratch, socket } = await scene(context, "keys", start);
    const plain = await attempt("nbdinfo", ["--size", `nbd+unix:///disk?socket=${socket}`]);
    expect(plain).toMatchObject({ status: 1, output: "" });
    const wrong = join(scratch, "wrong.psk");
    writeFileSync(wrong, `alice:${"cd".repeat(32)}\n`, { mode: 0o600 });
    const uri = `nbds+unix://alice@/disk?socket=${socket}&tls-psk-file=${wrong}`;
    expect(await attempt("nbdinfo", ["--size", uri])).toMatchObject({ status: 1, output: "" });
  });
});

interface TlsScene {
  readonly scratch: string;
  readonly secrets: Secrets;
  readonly socket: string;
  readonly file: string;
  readonly content: Buffer;
}

async function scene(context: TestContext, kind: Kind, start: TlsServer["start"]): Promise<TlsScene> {
  const scratch = scratchDirectory();
  const secrets = { kind, path: kind === "keys" ? keys(scratch) : certificates(context, scratch) };
  const socket = join(scratch, "sock");
  const file = join(scratch, "disk.raw");
  const content = noise(length, 1);
  writeFileSync(file, content);
  await start(socket, file, secrets);
  return { scratch, secrets, socket, file, content };
}

function keys(scratch: string): string {
  // QEMU wants it by this name.
  const path = join(scratch, "keys.psk");
  writeFileSync(path, `alice:${"ab".repeat(32)}\n`, { mode: 0o600 });
  return path;
}

/** An authority, a server and a client, as libnbd, nbdkit and QEMU name their files. */
function certificates(context: TestContext, scratch: string): string {
  needTool(context, "openssl");
  const directory = join(scratch, "pki");
  mkdirSync(directory);
  const options: ExecFileSyncOptions = { cwd: directory, stdio: "ignore" };
  const openssl = (...args: string[]): void => void execFileSync("openssl", args, options);
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
  openssl("req", "-x509", ...key, "-subj", "/CN=authority", "-keyout", "ca-key.pem", "-out", "ca-cert.pem");
  writeFileSync(join(directory, "names"), "subjectAltName=DNS:localhost\n");
  for (const [serial, name] of ["server", "client"].entries()) {
    openssl("req", ...key, "-subj", `/CN=${name}`, "-keyout", `${name}-key.pem`, "-out", `${name}.csr`);
    const signer = ["-CA", "ca-cert.pem", "-CAkey", "ca-key.pem", "-set_serial", String(serial + 2)];
    openssl("x509", "-req", "-in", `${name}.csr`, ...signer, "-extfile", "names", "-out", `${name}-cert.pem`);
  }
  return directory;
}

function asQemu({ kind, path }: Secrets, socket: string): { object: string; node: string } {
  const object =
    kind === "keys"
      ? `tls-creds-psk,id=tls,endpoint=client,username=alice,dir=${join(path, "..")}`
      : `tls-creds-x509,id=tls,endpoint=client,dir=${path}`;
  const host = kind === "keys" ? "" : ",tls-hostname=localhost";
  return { object, node: `driver=nbd,server.type=unix,server.path=${socket},export=disk,tls-creds=tls${host}` };
}
