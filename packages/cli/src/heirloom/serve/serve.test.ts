/** `heirloom serve` with the programs of others as its clients. */
import { existsSync, readFileSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { createConnection } from "node:net";
import { once } from "node:events";
import { join } from "node:path";
import { expect, test } from "vitest";
import { needTool, peer, run, runHeirloom, scratchDirectory, Serve } from "../command.fixture.ts";

const MiB = 2 ** 20;

function image(directory: string, name: string, length = 8 * MiB): string {
  const path = join(directory, name);
  writeFileSync(path, "");
  truncateSync(path, length);
  return path;
}

test("one line puts a disk on a socket, as nbdinfo sees it", async (context) => {
  needTool(context, "nbdinfo");
  const directory = scratchDirectory();
  const socket = join(directory, "s.sock");
  const serve = new Serve([image(directory, "vm.raw"), "--socket", socket, "--bitmap", "daily"]);
  const uri = await serve.uri();
  expect(uri).toBe(`nbd+unix:///vm.raw?socket=${socket}`);
  expect(statSync(socket).mode & 0o777).toBe(0o600);
  const { exports } = JSON.parse(await peer("nbdinfo", "--json", uri)) as { exports: Record<string, unknown>[] };
  expect(exports).toHaveLength(1);
  expect(exports[0]).toMatchObject({
    "export-name": "vm.raw",
    "export-size": 8 * MiB,
    contexts: ["base:allocation", "qemu:dirty-bitmap:daily"],
    is_read_only: false,
    can_multi_conn: true,
  });
  expect(await serve.end("SIGTERM")).toEqual({ status: 0, errors: "" });
  expect(existsSync(socket)).toBe(false);
});

test("what a client writes is in the file and in the bitmap, by its granularity", async (context) => {
  needTool(context, "qemu-io", "qemu-img");
  const directory = scratchDirectory();
  const path = image(directory, "vm.raw");
  const socket = join(directory, "s.sock");
  const bitmaps = ["--bitmap", "coarse,granularity=1M", "-b", "fine,granularity=4096"];
  const serve = new Serve([path, "-s", socket, ...bitmaps]);
  await peer("qemu-io", "-f", "raw", "-c", "write -P 65 3000k 8k", await serve.uri());
  const dirty = async (bitmap: string): Promise<number[][]> => {
    const options = `driver=nbd,server.type=unix,server.path=${socket},export=vm.raw,x-dirty-bitmap=qemu:dirty-bitmap:${bitmap}`;
    const map = JSON.parse(await peer("qemu-img", "map", "--output=json", "--image-opts", options)) as {
      start: number;
      length: number;
      data: boolean;
    }[];
    return map.filter(({ data }) => !data).map(({ start, length }) => [start, length]);
  };
  expect(await dirty("coarse")).toEqual([[2 * MiB, MiB]]);
  expect(await dirty("fine")).toEqual([[3000 * 1024, 8192]]);
  expect(await serve.end("SIGINT")).toMatchObject({ status: 0 });
  expect(readFileSync(path).indexOf("A")).toBe(3000 * 1024);
  expect(readFileSync(path).lastIndexOf("A")).toBe(3008 * 1024 - 1);
});

test("several images are several exports, named by their files or as the command line says", async (context) => {
  needTool(context, "nbdinfo");
  const directory = scratchDirectory();
  const equals = image(directory, "a=b.raw", MiB);
  const images = [image(directory, "one.raw", MiB), `${image(directory, "two.raw", 2 * MiB)}=second`, equals];
  const serve = new Serve([...images, `${image(directory, "three.raw", 3 * MiB)}=`, "-s", join(directory, "s.sock")]);
  await serve.ready();
  const list = JSON.parse(await peer("nbdinfo", "--list", "--json", await serve.uri(""))) as {
    exports: Record<string, unknown>[];
  };
  expect(list.exports.map((one) => [one["export-name"], one["export-size"]])).toEqual([
    ["one.raw", MiB],
    ["second", 2 * MiB],
    ["a=b.raw", MiB],
    ["", 3 * MiB],
  ]);
});

test("--name names a single one, and all of the argument is its path then", async (context) => {
  needTool(context, "nbdinfo");
  const directory = scratchDirectory();
  image(directory, "a", MiB);
  const serve = new Serve([image(directory, "a=b", 2 * MiB), "--name", "disk one", "-s", join(directory, "s.sock")]);
  const uri = await serve.uri("disk one");
  expect(uri).toContain("nbd+unix:///disk%20one?");
  expect(await peer("nbdinfo", "--size", uri)).toBe(`${2 * MiB}\n`);
});

test("several addresses: Unix sockets and TCP, with a port that is free", async (context) => {
  needTool(context, "nbdinfo");
  const directory = scratchDirectory();
  const sockets = [join(directory, "1.sock"), join(directory, "2.sock")];
  const listen = ["-s", sockets[0], "--socket", sockets[1], "--listen", "127.0.0.1:0", "-l", "localhost:0"];
  const serve = new Serve([image(directory, "vm.raw"), ...listen]);
  const { exports, addresses } = await serve.ready();
  expect(addresses).toHaveLength(4);
  const [{ uris }] = exports;
  expect(uris).toHaveLength(4);
  for (const uri of uris) expect(await peer("nbdinfo", "--size", uri)).toBe(`${8 * MiB}\n`);
});

test("without an address it is a socket in the user's own directory", async (context) => {
  needTool(context, "nbdinfo");
  const directory = scratchDirectory();
  const env = { ...process.env, XDG_RUNTIME_DIR: directory };
  const serve = new Serve([image(directory, "vm.raw")], { env });
  expect((await serve.ready()).addresses).toEqual([{ path: join(directory, "heirloom", "vm.raw.sock") }]);
  expect(statSync(join(directory, "heirloom")).mode & 0o777).toBe(0o700);
  expect(await peer("nbdinfo", "--size", await serve.uri())).toBe(`${8 * MiB}\n`);
});

test("a read-only image is opened for reading, beside other readers, and its clients cannot write", async (context) => {
  needTool(context, "qemu-io", "qemu-img");
  const directory = scratchDirectory();
  const path = image(directory, "golden.raw");
  const serve = new Serve([path, "--read-only", "-s", join(directory, "1.sock")]);
  const twin = new Serve([path, "-r", "-s", join(directory, "2.sock")]);
  for (const uri of [await serve.uri(), await twin.uri()]) {
    expect(await run("qemu-io", ["-f", "raw", "-c", "write 0 512", uri])).toMatchObject({ status: 1 });
    expect(await peer("qemu-img", "compare", "-f", "raw", "-F", "raw", path, uri)).toContain("identical");
  }
});

test("a node as JSON is a disk: one in memory, behind a throttle", async (context) => {
  needTool(context, "qemu-io");
  const directory = scratchDirectory();
  const node = { driver: "throttle", file: { driver: "memory", size: MiB }, requestsPerSecond: 1000 };
  const serve = new Serve([`json:${JSON.stringify(node)}=scratch`, "-s", join(directory, "s.sock")]);
  const output = await peer(
    "qemu-io",
    "-f",
    "raw",
    "-c",
    "write -P 7 1k 4k",
    "-c",
    "read -P 7 1k 4k",
    await serve.uri(),
  );
  expect(output).toContain("read 4096/4096 bytes at offset 1024");
  expect((await serve.ready()).exports[0].name).toBe("scratch");
});

test("a qcow2 image is not served as if it were a disk, unless its bytes are meant", async (context) => {
  needTool(context, "qemu-img");
  const directory = scratchDirectory();
  for (const format of ["qcow2", "qed", "vmdk", "vhdx", "vpc", "vdi"]) {
    const path = join(directory, `vm.${format}`);
    const socket = join(directory, "s.sock");
    await peer("qemu-img", "create", "-q", "-f", format, path, "64M");
    const refused = await runHeirloom(["serve", path, "-s", socket]);
    expect(refused).toMatchObject({ status: 1, output: "" });
    expect(refused.errors).toContain(`'${path}' looks like a ${format} image, and only raw disks are served`);
    expect(refused.errors).toContain(`qemu-img convert -O raw ${path} ${path}.raw`);
    if (format !== "qcow2") continue;
    const serve = new Serve([path, "--format", "raw", "-s", socket]);
    expect(await peer("qemu-img", "compare", "-f", "raw", "-F", "raw", path, await serve.uri())).toContain("identical");
    await serve.end("SIGTERM");
  }
});

test("clients that come, go, and are turned away are told as they happen", async (context) => {
  needTool(context, "qemu-io");
  const directory = scratchDirectory();
  const socket = join(directory, "s.sock");
  const serve = new Serve([image(directory, "vm.raw"), "-s", socket]);
  await peer("qemu-io", "-f", "raw", "-c", "write 0 512", "-c", "read 0 512", await serve.uri());
  expect(await serve.until("connected")).toMatchObject({ connection: 1, export: "vm.raw" });
  // A write, a read, a flush at the end, a goodbye: as qemu-io's trace has it.
  expect(await serve.until("disconnected")).toMatchObject({ connection: 1, requests: 4 });
  const stranger = createConnection(socket);
  stranger.on("error", () => undefined);
  await once(stranger, "data");
  stranger.write("GET / HTTP/1.1\r\n\r\n");
  expect(await serve.until("refused")).toMatchObject({ code: "ERR_NBD_PROTOCOL" });
  stranger.destroy();
  await serve.end("SIGTERM");
  expect(serve.events.map(({ event }) => event)).toEqual([
    "ready",
    "connected",
    "disconnected",
    "refused",
    "stopping",
    "stopped",
  ]);
});

test("--max-connections makes the next client wait for its turn", async (context) => {
  needTool(context, "nbdinfo");
  const directory = scratchDirectory();
  const socket = join(directory, "s.sock");
  const serve = new Serve([image(directory, "vm.raw"), "-s", socket, "--max-connections", "1"]);
  const uri = await serve.uri();
  expect(await run("nbdinfo", ["--can", "multi-conn", uri])).toMatchObject({ status: 2 });
  const first = createConnection(socket);
  await once(first, "data");
  const second = run("nbdinfo", ["--size", uri]);
  const winner = await Promise.race([second.then(() => "served"), once(first, "close").then(() => "left")]);
  // The server's patience with a client that says nothing while others wait.
  expect(winner).toBe("left");
  expect(await second).toMatchObject({ status: 0, output: `${8 * MiB}\n` });
});

test("the PID file has the process's number while clients can connect, and is gone afterwards", async () => {
  const directory = scratchDirectory();
  const pidFile = join(directory, "pid");
  writeFileSync(pidFile, "1\n");
  const serve = new Serve([image(directory, "vm.raw"), "-s", join(directory, "s.sock"), "--pid-file", pidFile]);
  const { pid } = await serve.ready();
  expect(readFileSync(pidFile, "utf8")).toBe(`${pid}\n`);
  expect(pid).toBe(serve.child.pid);
  await serve.end("SIGTERM");
  expect(existsSync(pidFile)).toBe(false);
});
