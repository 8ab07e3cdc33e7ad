/** What `heirloom serve` refuses: with which status and words, and with nothing left behind. */
import { createServer } from "node:net";
import { once } from "node:events";
import { existsSync, mkdirSync, readdirSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { needTool, peer, type Ran, runHeirloom, scratchDirectory, Serve } from "../command.fixture.ts";

function image(directory: string, name = "vm.raw"): string {
  writeFileSync(join(directory, name), "");
  truncateSync(join(directory, name), 2 ** 20);
  return name;
}

/** Run in a directory of its own, with images `vm.raw` and `other.raw`. Nothing else may be there afterwards. */
async function refused(args: readonly string[], prepare: (directory: string) => void = () => undefined): Promise<Ran> {
  const directory = scratchDirectory();
  image(directory);
  image(directory, "other.raw");
  prepare(directory);
  const before = readdirSync(directory).sort();
  const ran = await runHeirloom(["serve", ...args], { cwd: directory });
  expect(readdirSync(directory).sort()).toEqual(before);
  expect(ran.output).toBe("");
  expect(ran.errors).not.toMatch(/\n\s+at /);
  return ran;
}

const usage: Record<string, [args: string[], says: string, prepare?: (directory: string) => void]> = {
  "no image": [[], "Expected at least 1 argument(s) for IMAGE but found none"],
  "an empty image": [["", "-s", "s"], "expected the path of an image, and it is empty"],
  "a misspelt option": [["vm.raw", "--sokcet", "s"], "--sokcet, did you mean --socket?"],
  "an option without its value": [["vm.raw", "--socket"], "Expected input for flag --socket"],
  "two images of one name": [
    ["vm.raw", "sub/vm.raw", "-s", "s"],
    "'vm.raw' and 'sub/vm.raw' would both be exported as 'vm.raw'",
  ],
  "two names that are one": [["vm.raw=a", "other.raw=a", "-s", "s"], "would both be exported as 'a'"],
  "the same image twice": [["vm.raw", "./vm.raw=b", "-s", "s"], "'vm.raw' and './vm.raw' are the same image"],
  "the same image through a link": [
    ["vm.raw", "link", "-s", "s"],
    "'vm.raw' and 'link' are the same image",
    (directory) => symlinkSync("vm.raw", join(directory, "link")),
  ],
  "an image that could be two": [
    ["vm.raw=b", "-s", "s"],
    "'vm.raw=b' and 'vm.raw' both exist, so it is not clear which one is meant",
    (directory) => image(directory, "vm.raw=b"),
  ],
  "a name for two": [["vm.raw", "other.raw", "--name", "a", "-s", "s"], "--name is for a single image"],
  "a bitmap without a name": [["vm.raw", "-s", "s", "-b", ""], "the name is empty"],
  "a bitmap's option that is none": [
    ["vm.raw", "-s", "s", "-b", "a,size=3"],
    "'size=3' is unknown; expected granularity=SIZE",
  ],
  "a granularity of no power of two": [
    ["vm.raw", "-s", "s", "-b", "a,granularity=65537"],
    "expected a power of two from 512 to 2G",
  ],
  "a granularity that is too small": [
    ["vm.raw", "-s", "s", "-b", "a,granularity=256"],
    "expected a power of two from 512 to 2G",
  ],
  "a granularity that is too large": [
    ["vm.raw", "-s", "s", "-b", "a,granularity=4G"],
    "expected a power of two from 512 to 2G",
  ],
  "a granularity in words": [["vm.raw", "-s", "s", "-b", "a,granularity=big"], "the granularity 'big' is none"],
  "two granularities": [["vm.raw", "-s", "s", "-b", "a,granularity=1k,granularity=2k"], "granularity is given twice"],
  "a bitmap twice": [["vm.raw", "-s", "s", "-b", "a", "-b", "a,granularity=1M"], "--bitmap a is given twice"],
  "a bitmap of what nobody can write": [
    ["vm.raw", "-s", "s", "-r", "-b", "a"],
    "--bitmap records what is written, and --read-only refuses writes",
  ],
  "a format that is not served": [["vm.raw", "-s", "s", "-f", "qcow2"], 'Expected "qcow2" to be one of (raw)'],
  "an address without a host": [["vm.raw", "-l", ":10809"], "':10809' is no address; expected HOST:PORT"],
  "a port that is none": [["vm.raw", "-l", "localhost:66000"], "the port 66000 is none"],
  "an address with too many colons": [["vm.raw", "-l", "::1:10809"], "is no address"],
  "brackets around a name": [["vm.raw", "-l", "[localhost]:10809"], "'[localhost]' is no IPv6 address"],
  "no connections": [["vm.raw", "-s", "s", "--max-connections", "0"], "'0' is no number of connections"],
  "a time that is none": [["vm.raw", "-s", "s", "--stop-timeout", "soon"], "'soon' is no time; expected seconds"],
  "JSON that is none": [["json:{driver}", "-s", "s"], "'json:{driver}' is no description of a node"],
  "JSON without a driver": [['json:{"size":3}', "-s", "s"], "is no description of a node"],
};

for (const [what, [args, says, prepare]] of Object.entries(usage)) {
  test(`${what} makes no sense: status 2`, async () => {
    const ran = await refused(args, (directory) => {
      mkdirSync(join(directory, "sub"));
      image(join(directory, "sub"));
      prepare?.(directory);
    });
    expect(ran.errors).toContain(says);
    expect(ran.status).toBe(2);
  });
}

const failures: Record<string, [args: string[], says: string[], prepare?: (directory: string) => void]> = {
  "an image that is not there": [
    ["nowhere.raw", "-s", "s"],
    ["heirloom: open 'nowhere.raw': No such file or directory (ENOENT)", "truncate -s 10G nowhere.raw"],
  ],
  "the second image that is not there": [["vm.raw", "nowhere.raw", "-s", "s"], ["No such file or directory"]],
  "a directory": [["sub", "-s", "s"], ["open 'sub'"], (directory) => mkdirSync(join(directory, "sub"))],
  "an empty image": [
    ["empty", "-s", "s"],
    ["'empty' is empty: a disk of no bytes"],
    (directory) => writeFileSync(join(directory, "empty"), ""),
  ],
  "a bitmap with too fine a granularity": [
    ['json:{"driver":"null-co","size":1099511627776000}', "-s", "s", "-b", "a,granularity=512"],
    ["heirloom: "],
  ],
  "a driver that is none": [['json:{"driver":"nothing"}', "-s", "s"], ["unknown driver 'nothing'"]],
  "a socket in a directory that is not there": [
    ["vm.raw", "-s", "nowhere/s"],
    ["No such file or directory (ENOENT)", "Expected a directory that exists"],
  ],
  "a socket's path that holds a file": [["vm.raw", "-s", "other.raw"], ["there is something that is no socket"]],
  "a socket's path that is too long": [["vm.raw", "-s", "s".repeat(120)], ["expected a path of 1 to 107 bytes"]],
  "a socket's path that is empty": [["vm.raw", "-s", ""], ["expected a path of 1 to 107 bytes"]],
  "a host that is none": [["vm.raw", "-l", "no-such-host.invalid:0"], ["listen on no-such-host.invalid:0"]],
  "a PID file that cannot be": [
    ["vm.raw", "-s", "s", "--pid-file", "nowhere/pid"],
    ["write the PID file 'nowhere/pid'"],
  ],
};

for (const [what, [args, says, prepare]] of Object.entries(failures)) {
  test(`${what} is a failure: status 1`, async () => {
    const ran = await refused(args, prepare);
    for (const words of says) expect(ran.errors).toContain(words);
    expect(ran.status).toBe(1);
  });
}

test("an image that QEMU has open is refused, and its user named as far as can be", async (context) => {
  needTool(context, "qemu-nbd");
  const directory = scratchDirectory();
  const path = join(directory, image(directory));
  const pid = join(directory, "pid");
  await peer("qemu-nbd", "--fork", "-f", "raw", "-k", join(directory, "q.sock"), "--pid-file", pid, "-t", path);
  onTestFinished(async () => void process.kill(Number(await peer("cat", pid)), "SIGKILL"));
  const ran = await runHeirloom(["serve", path, "-s", join(directory, "s.sock")]);
  expect(ran).toMatchObject({ status: 1, output: "" });
  expect(ran.errors).toContain(`open '${path}' for writing: another process`);
  expect(ran.errors).toContain(`'lsof ${path}' names it`);
  expect(existsSync(join(directory, "s.sock"))).toBe(false);
});

test("a live socket is refused, and goes on serving", async () => {
  const directory = scratchDirectory();
  const socket = join(directory, "s.sock");
  const serve = new Serve([join(directory, image(directory)), "-s", socket]);
  await serve.ready();
  const ran = await runHeirloom(["serve", join(directory, image(directory, "other.raw")), "-s", socket]);
  expect(ran).toMatchObject({ status: 1, output: "" });
  expect(ran.errors).toContain(`listen on unix:${socket}: somebody listens there`);
  expect(ran.errors).toContain("Choose another --socket or --listen");
  expect(await serve.end("SIGTERM")).toMatchObject({ status: 0 });
});

test("a port in use is refused, and the Unix socket beside it is gone again", async () => {
  const directory = scratchDirectory();
  const taken = createServer().listen(0, "127.0.0.1");
  onTestFinished(() => void taken.close());
  await once(taken, "listening");
  const { port } = taken.address() as { port: number };
  const socket = join(directory, "s.sock");
  const args = ["serve", join(directory, image(directory)), "-s", socket, "-l", `127.0.0.1:${port}`];
  const ran = await runHeirloom(args);
  expect(ran).toMatchObject({ status: 1, output: "" });
  expect(ran.errors).toContain(`listen on 127.0.0.1:${port}: somebody listens there`);
  expect(existsSync(socket)).toBe(false);
});

test("without an address and without a directory of one's own nothing is guessed", async (context) => {
  if (process.getuid?.() !== 0) context.skip("only root can become somebody else");
  const { execFile } = await import("node:child_process");
  const { XDG_RUNTIME_DIR: _, ...env } = process.env;
  const { heirloom } = await import("../command.fixture.ts");
  const errors = await new Promise<string>((resolve) => {
    execFile(process.execPath, [heirloom, "serve", "vm.raw"], { uid: 65534, gid: 65534, env }, (error, __, text) =>
      resolve(`${text} ${String(error?.code)}`),
    );
  });
  // Somebody else may not even read the program where it lies in root's home; then there is nothing to see here.
  if (errors.includes("EACCES") || errors.includes("Cannot find module"))
    context.skip("the build is not readable for others");
  expect(errors).toContain("XDG_RUNTIME_DIR is not set");
});

test("without koffi serving is refused in a sentence", async () => {
  const directory = scratchDirectory();
  const env = { ...process.env, HEIRLOOM_NO_KOFFI: "1" };
  const args = ["serve", `json:{"driver":"memory","size":1048576}`, "-s", join(directory, "s.sock")];
  const ran = await runHeirloom(args, { env });
  expect(ran).toMatchObject({ status: 1, output: "" });
  expect(ran.errors).toContain("serving NBD needs koffi, and HEIRLOOM_NO_KOFFI is 1");
});
