import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { BlockError, closeNode, connectNode, type NodeHandle, openNode } from "@heirloom/block";
import { afterEach, expect, test } from "vitest";
import { blockUrl } from "./remote-node.fixture.ts";
import { needTool, run, runOrThrow, scratchDirectory } from "./tool.fixture.ts";

const LENGTH = 1 << 20;
const opened: NodeHandle[] = [];
const daemons: number[] = [];

afterEach(() => {
  opened.splice(0).forEach(closeNode);
  daemons.splice(0).forEach((pid) => process.kill(pid));
});

function image(): string {
  const path = join(scratchDirectory(), "disk.raw");
  writeFileSync(path, new Uint8Array(LENGTH).fill(0x11));
  return path;
}

async function open(filename: string, readOnly: boolean): Promise<NodeHandle> {
  const handle = await openNode({ driver: "file", filename, readOnly });
  opened.push(handle);
  return handle;
}

async function refusal(filename: string, readOnly: boolean): Promise<BlockError> {
  const error: unknown = await openNode({ driver: "file", filename, readOnly }).then(
    closeNode,
    (reason: unknown) => reason,
  );
  if (!(error instanceof BlockError)) throw new Error(`expected a refusal, got ${String(error)}`);
  return error;
}

function daemonArguments(filename: string, writable: boolean): string[] {
  return [
    "--blockdev",
    `file,node-name=f,filename=${filename}${writable ? "" : ",read-only=on"}`,
    "--nbd-server",
    `addr.type=unix,addr.path=${filename}.sock`,
    "--export",
    `nbd,id=e,node-name=f,writable=${writable ? "on" : "off"}`,
  ];
}

/** A storage daemon that has the image open until the test ends. It returns when the export is there. */
function startDaemon(filename: string, writable: boolean): void {
  const pidfile = `${filename}.pid`;
  runOrThrow("qemu-storage-daemon", "--daemonize", "--pidfile", pidfile, ...daemonArguments(filename, writable));
  daemons.push(Number(readFileSync(pidfile, "utf8")));
}

test("a second writer in this process is refused, and the message names the file", async () => {
  const path = image();
  await open(path, false);
  const error = await refusal(path, false);
  expect(error.code).toBe("ERR_IMAGE_LOCKED");
  expect(error.node).toBe(path);
  expect(error.message).toContain(`open '${path}' for writing`);
  expect(error.message).toContain("another process, or this one, has it open");
});

test("readers share an image and exclude writers, in both orders", async () => {
  const path = image();
  await open(path, true);
  await open(path, true);
  expect((await refusal(path, false)).code).toBe("ERR_IMAGE_LOCKED");
  opened.splice(0).forEach(closeNode);
  await open(path, false);
  expect((await refusal(path, true)).code).toBe("ERR_IMAGE_LOCKED");
});

test("a refused open leaves no lock behind", async () => {
  const path = image();
  await open(path, true);
  await refusal(path, false);
  opened.splice(0).forEach(closeNode);
  await open(path, false);
});

test("locking: 'off' takes no lock and looks at none", async () => {
  const path = image();
  await open(path, false);
  opened.push(await openNode({ driver: "file", filename: path, locking: "off" }));
});

test("create with overwrite leaves an image that somebody has open as it is", async () => {
  const path = image();
  await open(path, false);
  const create = openNode({ driver: "file", filename: path, create: { length: 4096, overwrite: true } });
  await expect(create).rejects.toMatchObject({ code: "ERR_IMAGE_LOCKED" });
  expect(readFileSync(path)).toEqual(Buffer.alloc(LENGTH, 0x11));
});

test("another process of ours is refused", async () => {
  const path = image();
  await open(path, false);
  const program = `
    const { openNode } = await import(${JSON.stringify(blockUrl)});
    await openNode({ driver: "file", filename: ${JSON.stringify(path)} })
      .then(() => console.log("opened"), (error) => console.log(error.code));`;
  const child = spawnSync(process.execPath, ["--input-type=module", "-e", program], { encoding: "utf8" });
  expect(child.stdout.trim()).toBe("ERR_IMAGE_LOCKED");
});

test("QEMU's tools are refused an image that we write, and get it once it is closed", async (context) => {
  needTool(context, "qemu-io");
  needTool(context, "qemu-img");
  const path = image();
  const copy = `${path}.copy`;
  const node = connectNode(await open(path, false));
  expect(node.write(new Uint8Array(4096).fill(0x5a), 8192)).toBe(0);

  const write = run("qemu-io", "-f", "raw", "-c", "write 0 512", path);
  expect(write.text).toContain('Failed to get "write" lock');
  expect(write.status).not.toBe(0);
  const from = run("qemu-img", "convert", "-f", "raw", "-O", "raw", path, copy);
  expect(from.text).toContain('Failed to get shared "write" lock');
  writeFileSync(copy, new Uint8Array(LENGTH));
  const onto = run("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", copy, path);
  expect(onto.text).toContain('Failed to get "write" lock');
  const bench = run("qemu-img", "bench", "-w", "-c", "1", "-f", "raw", path);
  expect(bench.text).toContain('Failed to get "write" lock');

  opened.splice(0).forEach(closeNode);
  expect(run("qemu-io", "-f", "raw", "-c", "write -P 0x33 0 512", path).status).toBe(0);
  const read = run("qemu-io", "-r", "-f", "raw", "-c", "read -P 0x5a 8192 4096", "-c", "read -P 0x11 512 7680", path);
  expect(read.text).not.toContain("Pattern verification failed");
  expect(read.status).toBe(0);
});

test("qemu-nbd and qemu-storage-daemon are refused to write an image that we read or write", async (context) => {
  needTool(context, "qemu-nbd");
  needTool(context, "qemu-storage-daemon");
  const path = image();
  for (const readOnly of [true, false]) {
    await open(path, readOnly);
    // In the foreground: one that is refused as a daemon may hold its locks a little longer than its parent lives.
    const nbd = run("timeout", "10", "qemu-nbd", "-f", "raw", "-k", `${path}.sock`, path);
    expect(nbd.text).toContain('Failed to get "write" lock');
    const daemon = run("timeout", "10", "qemu-storage-daemon", ...daemonArguments(path, true));
    expect(daemon.text).toContain('Failed to get "write" lock');
    opened.splice(0).forEach(closeNode);
  }
});

test("QEMU's readers share an image with our reader", async (context) => {
  needTool(context, "qemu-io");
  needTool(context, "qemu-img");
  const path = image();
  await open(path, true);
  expect(run("qemu-io", "-r", "-f", "raw", "-c", "read -P 0x11 0 512", path).status).toBe(0);
  expect(run("qemu-img", "convert", "-f", "raw", "-O", "raw", path, `${path}.copy`).status).toBe(0);
  expect(run("qemu-io", "-f", "raw", "-c", "write 0 512", path).text).toContain('Failed to get "write" lock');
});

test("qemu-img info looks at an image that we write, as it does at a running guest's", async (context) => {
  needTool(context, "qemu-img");
  const path = image();
  await open(path, false);
  expect(run("qemu-img", "info", "-f", "raw", path).text).toContain("virtual size: 1 MiB");
});

test("we are refused an image that a storage daemon writes, for writing and for reading", async (context) => {
  needTool(context, "qemu-storage-daemon");
  const path = image();
  startDaemon(path, true);
  expect((await refusal(path, false)).code).toBe("ERR_IMAGE_LOCKED");
  expect((await refusal(path, true)).code).toBe("ERR_IMAGE_LOCKED");
});

test("we share an image with a storage daemon that only reads it, for reading alone", async (context) => {
  needTool(context, "qemu-storage-daemon");
  const path = image();
  startDaemon(path, false);
  expect((await refusal(path, false)).code).toBe("ERR_IMAGE_LOCKED");
  await open(path, true);
});
