/** Who may have a socket's name. */
import { lstatSync, mkdirSync, readdirSync, readFileSync, renameSync, symlinkSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { join } from "node:path";
import { closeFile } from "@heirloom/block";
import { expect, onTestFinished, test } from "vitest";
import { bindUnixSocket, type BoundUnixSocket } from "../../dist/server/unix-socket.js";
import { scratchDirectory } from "../tool.fixture.ts";

async function bind(path: string): Promise<BoundUnixSocket> {
  const bound = await bindUnixSocket(path);
  onTestFinished(() => void closeFile(bound.fd));
  return bound;
}

function connects(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path, () => {
      socket.destroy();
      resolve(true);
    });
    socket.on("error", () => resolve(false));
  });
}

/** A socket that nobody listens on: its owner's descriptor is gone, its name is not. */
async function leaveStale(path: string): Promise<void> {
  const bound = await bindUnixSocket(path);
  closeFile(bound.fd);
}

test("the socket listens, with mode 0600 whatever the umask, and goes with its owner", async () => {
  const path = join(scratchDirectory(), "s");
  const umask = process.umask(0);
  onTestFinished(() => void process.umask(umask));
  const bound = await bind(path);
  expect(lstatSync(path).mode & 0o777).toBe(0o600);
  expect(await connects(path)).toBe(true);
  bound.remove();
  expect(() => lstatSync(path)).toThrow("ENOENT");
});

test("a name that somebody else has by now is left to them", async () => {
  const path = join(scratchDirectory(), "s");
  const first = await bind(path);
  renameSync(path, `${path}.old`);
  const second = await bind(path);
  first.remove();
  expect(await connects(path)).toBe(true);
  second.remove();
  expect(readdirSync(join(path, ".."))).toEqual(["s.old"]);
});

test("a stale socket is replaced, and nothing is left beside it", async () => {
  const directory = scratchDirectory();
  const path = join(directory, "s");
  await leaveStale(path);
  expect(await connects(path)).toBe(false);
  await bind(path);
  expect(await connects(path)).toBe(true);
  expect(lstatSync(path).mode & 0o777).toBe(0o600);
  expect(readdirSync(directory)).toEqual(["s"]);
});

test("a live socket is refused and goes on", async () => {
  const path = join(scratchDirectory(), "s");
  const server = createServer((socket) => socket.destroy());
  await new Promise<void>((resolve) => server.listen(path, resolve));
  onTestFinished(() => void server.close());
  await expect(bindUnixSocket(path)).rejects.toMatchObject({
    code: "ERR_NBD_LISTEN_IN_USE",
    message: `listen on unix:${path}: somebody listens there`,
  });
  expect(await connects(path)).toBe(true);
});

test("what is no socket is refused and untouched: a file, a directory, a link", async () => {
  const directory = scratchDirectory();
  writeFileSync(join(directory, "file"), "precious");
  mkdirSync(join(directory, "directory"));
  symlinkSync(join(directory, "elsewhere"), join(directory, "link"));
  for (const name of ["file", "directory", "link"]) {
    await expect(bindUnixSocket(join(directory, name))).rejects.toMatchObject({ code: "ERR_NBD_LISTEN_NOT_A_SOCKET" });
  }
  expect(readdirSync(directory).sort()).toEqual(["directory", "file", "link"]);
  expect(readFileSync(join(directory, "file"), "utf8")).toBe("precious");
});

test("of many who want a stale socket's name at once one gets it, and is reached", async () => {
  const directory = scratchDirectory();
  const path = join(directory, "s");
  await leaveStale(path);
  const results = await Promise.allSettled(Array.from({ length: 8 }, () => bind(path)));
  const got = results.filter((result) => result.status === "fulfilled");
  expect(got).toHaveLength(1);
  for (const result of results) {
    if (result.status === "rejected") expect(result.reason).toMatchObject({ code: "ERR_NBD_LISTEN_IN_USE" });
  }
  expect(await connects(path)).toBe(true);
  expect(readdirSync(directory)).toEqual(["s"]);
});

test.each([
  ["an empty path", "", "ERR_NBD_LISTEN_ADDRESS"],
  ["an abstract name", "\0abstract", "ERR_NBD_LISTEN_ADDRESS"],
  ["a path of 108 bytes", `/tmp/${"x".repeat(103)}`, "ERR_NBD_LISTEN_ADDRESS"],
  ["a directory that is not there", "/tmp/heirloom-nbd-nowhere/s", "ERR_NBD_LISTEN"],
])("%s is refused", async (_, path, code) => {
  await expect(bindUnixSocket(path)).rejects.toMatchObject({ name: "ListenError", code });
});

test("without koffi there is no serving, and the refusal says so", async () => {
  const { promisify } = await import("node:util");
  const { execFile } = await import("node:child_process");
  const module = new URL("../../dist/server/reception.js", import.meta.url).href;
  const program = `
    const { Reception } = await import(${JSON.stringify(module)});
    const reception = new Reception({ directory: {}, onSession() {} });
    for (const address of [{ path: "/tmp/never" }, { host: "127.0.0.1", port: 0 }])
      await reception.listen(address).catch((error) => console.log(error.code, error.message));`;
  const { stdout } = await promisify(execFile)(process.execPath, ["--input-type=module", "-e", program], {
    env: { ...process.env, HEIRLOOM_NO_KOFFI: "1" },
  });
  expect(stdout.match(/ERR_NBD_LISTEN_UNSUPPORTED listen on .*: serving NBD needs koffi/g)).toHaveLength(2);
});
