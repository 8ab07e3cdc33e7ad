/** TLS on both sides: our server before other people's clients, and disks behind other people's servers. */
import { execFile, execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { loadPskCredentials, loadX509Credentials } from "@heirloom/nbd";
import { expect, test } from "vitest";
import { nbdkit } from "./nbdkit.fixture.ts";
import { ended, firstDifference, inScene, MiB, type Scene } from "./scene.fixture.ts";
import { needTool } from "./tool.fixture.ts";

const length = 2 * MiB;

/** A file of keys, as GnuTLS has it. */
function keys(scene: Scene, name: string, byte: number): string {
  const path = scene.path(name);
  writeFileSync(path, `me:${Buffer.alloc(32, byte).toString("hex")}\n`, { mode: 0o600 });
  return path;
}

/** CA, server and client in QEMU's layout. */
function certificates(scene: Scene): string {
  const openssl = (...args: string[]): void =>
    void execFileSync("openssl", args, { stdio: "ignore", cwd: scene.directory });
  const key = ["-newkey", "rsa:2048", "-nodes"];
  openssl("req", "-x509", ...key, "-subj", "/CN=ca", "-keyout", "ca-key.pem", "-out", "ca-cert.pem");
  writeFileSync(scene.path("ext"), "subjectAltName=DNS:localhost\n");
  for (const [name, serial] of [
    ["server", "1"],
    ["client", "2"],
  ]) {
    openssl("req", ...key, "-subj", `/CN=${name}`, "-keyout", `${name}-key.pem`, "-out", "req.pem");
    const ca = ["-CA", "ca-cert.pem", "-CAkey", "ca-key.pem", "-set_serial", serial];
    openssl("x509", "-req", "-in", "req.pem", ...ca, "-extfile", "ext", "-out", `${name}-cert.pem`);
  }
  return scene.directory;
}

/** Beside our event loop, which serves it. */
function run(tool: string, ...args: string[]): Promise<{ readonly ok: boolean; readonly output: string }> {
  return new Promise((resolve) => {
    execFile(tool, args, { timeout: 20_000 }, (error, output, errors) =>
      resolve({ ok: error === null, output: output + errors }),
    );
  });
}

test("a server with certificates: other people's clients come in with theirs, and nobody without", (context) =>
  inScene(async (scene) => {
    needTool(context, "openssl");
    needTool(context, "nbdinfo");
    const directory = certificates(scene);
    const disk = await scene.disk("a", length, 1);
    const path = scene.path("h.sock");
    const credentials = await loadX509Credentials(directory, "server");
    const server = await scene.runtime.serveNbd({
      listen: [{ path }],
      tls: { credentials, allowedNames: ["CN=client"] },
    });
    const { uris } = await server.add({ disk, name: "vm", writable: true });
    expect(uris).toEqual([`nbds+unix:///vm?socket=${path}`]);
    const uri = `${uris[0]}&tls-certificates=${directory}`;
    expect(await run("nbdinfo", "--size", uri)).toEqual({ ok: true, output: `${length}\n` });
    await scene.event("NBD_CLIENT_CONNECTED");
    expect(await run("nbdinfo", "--size", `nbd+unix:///vm?socket=${path}`)).toMatchObject({ ok: false });
    await scene.event("NBD_CLIENT_REFUSED");
    const backup = await scene.runtime.attach({ driver: "nbd", uri }, { name: "again" });
    const job = await scene.runtime.backup({ disk: backup, target: scene.target(length) });
    expect(await ended(job)).toMatchObject({ status: "completed" });
    expect(firstDifference(scene.bytes("target0.raw"), scene.bytes("a.raw"))).toBe(-1);
    await backup.detach();
    await server.close();
  }));

test("a target behind TLS with a key that both sides have; another key is refused when the job is asked for", (context) =>
  inScene(async (scene) => {
    const file = keys(scene, "keys.psk", 7);
    const wrong = keys(scene, "wrong.psk", 8);
    const args = ["--tls=require", `--tls-psk=${file}`, "memory", String(length)];
    const peer = await nbdkit(context, scene, "nbd.sock", args);
    const uri = (with_: string): string => `nbds+unix://me@/?socket=${peer.path}&tls-type=psk&tls-psk-file=${with_}`;
    const disk = await scene.disk("a", length, 1);
    await disk.bitmaps.add("daily");
    const target = (with_: string) => ({ driver: "nbd", uri: uri(with_) });
    await expect(scene.runtime.backup({ disk, target: target(wrong), bitmap: "daily" })).rejects.toThrow(/TLS/);
    expect(disk.bitmaps.get("daily").busy).toBe(false);
    expect(await ended(await scene.runtime.backup({ disk, target: target(file) }))).toMatchObject({
      status: "completed",
    });
    const back = await scene.runtime.attach(target(file), { name: "back" });
    const bytes = new Uint8Array(length);
    await back.read(bytes, 0);
    expect(firstDifference(bytes, scene.bytes("a.raw"))).toBe(-1);
  }));

test("a server with keys: a client that has none hears that TLS is needed", () =>
  inScene(async (scene) => {
    const credentials = await loadPskCredentials(keys(scene, "keys.psk", 7), "server");
    const disk = await scene.disk("a", length, 1);
    const path = scene.path("h.sock");
    const server = await scene.runtime.serveNbd({ listen: [{ path }], tls: { credentials } });
    await server.add({ disk, name: "" });
    await expect(scene.runtime.attach({ driver: "nbd", path })).rejects.toThrow(/TLS/);
    const uri = `nbds+unix://me@/?socket=${path}&tls-type=psk&tls-psk-file=${scene.path("keys.psk")}`;
    const far = await scene.runtime.attach({ driver: "nbd", uri });
    expect(far.length).toBe(length);
    await far.detach();
    await server.close();
  }));
