/** `heirloom pull` from servers of others and from our own, into files that others compare. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync, readFileSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { heirloom, needTool, peer, runHeirloom, scratchDirectory, Serve } from "../command.fixture.ts";

const MiB = 2 ** 20;

interface Result {
  readonly length: number;
  readonly bytesCopied: number;
  readonly bytesZeroed: number;
  readonly sourceWritable: boolean;
  readonly extents: readonly { readonly offset: number; readonly length: number }[];
}

/** A server of somebody else on a Unix socket, until the test ends. */
async function start(tool: string, socket: string, args: readonly string[]): Promise<void> {
  const child = spawn(tool, args, { stdio: "ignore" });
  onTestFinished(() => void child.kill("SIGKILL"));
  for (;;) {
    const answers = await new Promise<boolean>((resolve) => {
      const probe = connect(socket, () => {
        resolve(true);
        probe.destroy();
      });
      probe.once("error", () => resolve(false));
    });
    if (answers) return;
    if (child.exitCode !== null) throw new Error(`${tool} ended with ${child.exitCode}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** A qcow2 disk of 8 MiB whose bitmap `daily` has what was written after its base. */
async function qcow2WithBitmap(directory: string): Promise<string> {
  const path = join(directory, "vm.qcow2");
  await peer("qemu-img", "create", "-q", "-f", "qcow2", path, "8M");
  await peer("qemu-io", "-f", "qcow2", "-c", "write -P 65 1M 1M", "-c", "write -P 66 4M 256k", path);
  await peer("qemu-img", "convert", "-f", "qcow2", "-O", "raw", path, join(directory, "base.raw"));
  await peer("qemu-img", "bitmap", "--add", "-g", "65536", path, "daily");
  await peer(
    "qemu-io",
    "-f",
    "qcow2",
    "-c",
    "write -P 67 1100k 10k",
    "-c",
    "write -z 4M 64k",
    "-c",
    "write -P 68 6M 64k",
    path,
  );
  return path;
}

test("all of an export of nbdkit's, with holes where it is zero", async (context) => {
  needTool(context, "nbdkit", "cmp");
  const directory = scratchDirectory();
  const socket = join(directory, "s.sock");
  await start("nbdkit", socket, ["-f", "-r", "-U", socket, "sparse-random", "size=64M", "seed=7", "percent=5"]);
  const target = join(directory, "copy.raw");
  const uri = `nbd+unix:///?socket=${socket}`;
  const ran = await runHeirloom(["pull", uri, target, "--json"]);
  expect(ran).toMatchObject({ status: 0, errors: "" });
  const result = JSON.parse(ran.output) as Result;
  expect(result).toMatchObject({ length: 64 * MiB, sourceWritable: false, extents: [{ offset: 0, length: 64 * MiB }] });
  expect(result.bytesCopied + result.bytesZeroed).toBe(64 * MiB);
  expect(await peer("qemu-img", "compare", "-f", "raw", "-F", "raw", target, uri)).toContain("identical");
  expect(statSync(target).blocks * 512).toBeLessThan(16 * MiB);
  expect(readdirSync(directory).sort()).toEqual(["copy.raw", "s.sock"]);
});

test("what a bitmap of QEMU's says changed brings an older copy up to date", async (context) => {
  needTool(context, "qemu-nbd", "qemu-img", "qemu-io");
  const directory = scratchDirectory();
  const path = await qcow2WithBitmap(directory);
  const socket = join(directory, "s.sock");
  await start("qemu-nbd", socket, ["-r", "-t", "-f", "qcow2", "-B", "daily", "-x", "vm", "-k", socket, path]);
  const uri = `nbd+unix:///vm?socket=${socket}`;
  const args = ["pull", uri, join(directory, "base.raw"), "--bitmap", "daily", "--update", "--json"];
  const ran = await runHeirloom(args);
  expect(ran).toMatchObject({ status: 0, errors: "" });
  expect(JSON.parse(ran.output)).toMatchObject({
    extents: [
      { offset: 17 * 65536, length: 65536 },
      { offset: 4 * MiB, length: 65536 },
      { offset: 6 * MiB, length: 65536 },
    ],
    bytesCopied: 2 * 65536,
    bytesZeroed: 65536,
  });
  expect(
    await peer("qemu-img", "compare", "-f", "raw", "-F", "qcow2", "-U", join(directory, "base.raw"), path),
  ).toContain("identical");
});

test("changes alone are a file whose data is what changed, zeroes included", async (context) => {
  needTool(context, "qemu-nbd", "qemu-img", "qemu-io");
  const directory = scratchDirectory();
  const path = await qcow2WithBitmap(directory);
  const socket = join(directory, "s.sock");
  await start("qemu-nbd", socket, ["-r", "-t", "-f", "qcow2", "-B", "daily", "-k", socket, path]);
  const changes = join(directory, "changes.raw");
  const full = await runHeirloom(["pull", `nbd+unix:///?socket=${socket}`, changes, "-b", "qemu:dirty-bitmap:daily"]);
  expect(full).toMatchObject({ status: 0, errors: "" });
  expect(full.output).toContain(": what qemu:dirty-bitmap:daily says of 8 MiB: 128 KiB of data, 64 KiB of zeroes");
  const map = JSON.parse(await peer("qemu-img", "map", "--output=json", "-f", "raw", changes)) as {
    start: number;
    length: number;
    data: boolean;
  }[];
  expect(map.filter(({ data }) => data).map(({ start, length }) => [start, length])).toEqual([
    [17 * 65536, 65536],
    [4 * MiB, 65536],
    [6 * MiB, 65536],
  ]);
});

test("from our own export, over several connections; that it is writable is told", async () => {
  const directory = scratchDirectory();
  const disk = join(directory, "vm.raw");
  writeFileSync(disk, Buffer.alloc(5 * MiB + 512, "heirloom"));
  truncateSync(disk, 20 * MiB + 512);
  const serve = new Serve([disk, "-s", join(directory, "s.sock")]);
  const target = join(directory, "copy.raw");
  const ran = await runHeirloom(["pull", await serve.uri(), target, "--connections", "3"]);
  expect(ran).toMatchObject({ status: 0 });
  expect(ran.output).toMatch(/copy\.raw: all of 20 MiB: 5 MiB of data, 15 MiB of zeroes \(\d+\.\d s, .*\/s\)\n$/);
  expect(ran.errors).toContain("The export is writable");
  expect(readFileSync(target).equals(readFileSync(disk))).toBe(true);
});

const usage: Record<string, [args: string[], says: string]> = {
  "no target": [["nbd://localhost/"], "Expected argument for TARGET"],
  "a URI that is none": [["nbd:localhost", "t"], "expected nbd://HOST[:PORT]/EXPORT or nbd+unix:///EXPORT?socket=PATH"],
  "a parameter that is misspelt": [["nbd+unix:///a?sock=b", "t"], "the parameter 'sock' is unknown"],
  "a URI as target": [["nbd://localhost/", "nbd://localhost/b"], "is a URI; expected the path of a file"],
  "an empty target": [["nbd://localhost/", ""], "expected the path of a file, and it is empty"],
  "an empty bitmap": [["nbd://localhost/", "t", "-b", ""], "--bitmap: expected a name, and it is empty"],
  "too many connections": [
    ["nbd://localhost/", "t", "--connections", "17"],
    "'17' is no number of connections; expected 1 to 16",
  ],
};
for (const [what, [args, says]] of Object.entries(usage)) {
  test(`${what} makes no sense: status 2`, async () => {
    const directory = scratchDirectory();
    const ran = await runHeirloom(["pull", ...args], { cwd: directory });
    expect(ran).toMatchObject({ status: 2, output: "" });
    expect(ran.errors).toContain(says);
    expect(readdirSync(directory)).toEqual([]);
  });
}

/** Nothing but the server's socket and what was there before may be there after a failure. */
async function refused(uri: string, directory: string, ...args: readonly string[]): Promise<string> {
  const before = readdirSync(directory).sort();
  const { status, output, errors } = await runHeirloom(["pull", uri, ...args], { cwd: directory });
  expect({ status, output }).toEqual({ status: 1, output: "" });
  expect(errors).not.toMatch(/^ +at /m);
  expect(readdirSync(directory).sort()).toEqual(before);
  return errors;
}

test("what cannot be pulled is refused with what to do next, and leaves nothing", async () => {
  const directory = scratchDirectory();
  writeFileSync(join(directory, "vm.raw"), Buffer.alloc(MiB, 1));
  writeFileSync(join(directory, "there.raw"), "precious");
  const socket = join(directory, "s.sock");
  const serve = new Serve([join(directory, "vm.raw"), "-s", socket]);
  const uri = await serve.uri();
  expect(await refused(uri, directory, "there.raw")).toContain(
    "'there.raw' exists already\n  Give a new name; or --update",
  );
  expect(await refused(uri, directory, "there.raw", "--update")).toContain(
    "'there.raw' has 8 bytes, and the export has 1048576",
  );
  expect(readFileSync(join(directory, "there.raw"), "utf8")).toBe("precious");
  expect(await refused(uri, directory, "t", "-b", "daily")).toContain("the export 'vm.raw' has no bitmap 'daily'");
  expect(await refused(uri, directory, "nowhere/t")).toContain("No such file or directory");
  expect(await refused(uri, directory, "t", "--update")).toContain("open 't': No such file or directory");
  writeFileSync(join(directory, "u.partial"), "precious");
  expect(await refused(uri, directory, "u")).toContain("'u.partial' exists already\n  Another command is at it");
  expect(readFileSync(join(directory, "u.partial"), "utf8")).toBe("precious");
  // The disk itself: the image lock is in the way, and not the name.
  expect(await refused(uri, directory, "vm.raw", "--update")).toContain("another process, or this one, has it open");
  const other = uri.replace("vm.raw", "other");
  expect(await refused(other, directory, "t")).toContain("export 'other' not present");
  expect(await refused(`nbd+unix:///?socket=${directory}/none`, directory, "t")).toContain(
    "Expected a server that listens there",
  );
});

test("a source that fails leaves no target; one that was brought up to date is said to be no copy", async (context) => {
  needTool(context, "nbdkit");
  const directory = scratchDirectory();
  const socket = join(directory, "s.sock");
  const failing = ["--filter=error", "pattern", "size=16M", "error-pread=EIO", "error-pread-rate=30%"];
  await start("nbdkit", socket, ["-f", "-r", "-U", socket, ...failing]);
  const uri = `nbd+unix:///?socket=${socket}`;
  expect(await refused(uri, directory, "t")).toMatch(/^heirloom: read/);
  writeFileSync(join(directory, "old.raw"), Buffer.alloc(16 * MiB));
  expect(await refused(uri, directory, "old.raw", "-u")).toContain(
    "'old.raw' is partly updated: it is no copy of any instant",
  );
});

test("a target without room fails, and gives back the room that it took", async (context) => {
  if (process.getuid?.() !== 0) context.skip("only root can mount a file system of its own size");
  needTool(context, "mount");
  const directory = scratchDirectory();
  const small = scratchDirectory();
  await peer("mount", "-t", "tmpfs", "-o", "size=2M", "tmpfs", small);
  onTestFinished(async () => void (await peer("umount", small)));
  writeFileSync(join(directory, "vm.raw"), Buffer.alloc(4 * MiB, 1));
  const serve = new Serve([join(directory, "vm.raw"), "-r", "-s", join(directory, "s.sock")]);
  expect(await refused(await serve.uri(), small, "t")).toContain("ENOSPC");
});

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  test(`${signal} ends a pull from a server that does not answer, and leaves nothing`, async (context) => {
    needTool(context, "nbdkit");
    const directory = scratchDirectory();
    const socket = join(directory, "s.sock");
    const slow = ["--filter=delay", "pattern", "size=16M", "rdelay=1000"];
    await start("nbdkit", socket, ["-f", "-r", "-U", socket, ...slow]);
    const target = join(directory, "t");
    const child = spawn(process.execPath, [heirloom, "pull", `nbd+unix:///?socket=${socket}`, target]);
    onTestFinished(() => void child.kill("SIGKILL"));
    const closed = once(child, "close");
    let errors = "";
    child.stderr.setEncoding("utf8").on("data", (text: string) => (errors += text));
    while (!existsSync(`${target}.partial`)) await new Promise((resolve) => setImmediate(resolve));
    child.kill(signal);
    await closed;
    expect({ code: child.exitCode, errors }).toEqual({ code: 1, errors: `heirloom: stopped by ${signal}\n` });
    expect(readdirSync(directory)).toEqual(["s.sock"]);
  });
}

test("a terminal gets a bar in place, and the result below it", async (context) => {
  needTool(context, "nbdkit", "script", "stty");
  const directory = scratchDirectory();
  const socket = join(directory, "s.sock");
  await start("nbdkit", socket, ["-f", "-r", "-U", socket, "--filter=rate", "pattern", "size=8M", "rate=50M"]);
  const command = `stty cols 100; exec ${process.execPath} ${heirloom} pull 'nbd+unix:///?socket=${socket}' t`;
  const child = spawn("script", ["-qefc", command, "/dev/null"], {
    cwd: directory,
    env: { ...process.env, TERM: "xterm" },
  });
  onTestFinished(() => void child.kill("SIGKILL"));
  let output = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => (output += text));
  await once(child, "close");
  expect(child.exitCode).toBe(0);
  expect(output).toMatch(/━+.*\d+ %, [\d.]+ MiB copied, .*\/s, \d+ s left/);
  expect(output.trimEnd().split("\n").at(-1)).toMatch(/t: all of 8 MiB: 8 MiB of data/);
});
