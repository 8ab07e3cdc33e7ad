/**
 * Listening on a Unix socket that only its owner can use: mode 0600 from the first instant. A socket that nobody listens on
 * any more is replaced; one that answers is not taken from whoever has it.
 */
import { existsSync, lstatSync, unlinkSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { dirname, resolve as resolvePath } from "node:path";
import { getSystemErrorMap } from "node:util";
import { monitorSocketOptions } from "./monitor.ts";

/** @throws Error with QEMU's text */
export async function listenOnUnixSocket(path: string, accept: (socket: Socket) => void): Promise<Server> {
  const server = createServer(monitorSocketOptions, accept);
  await bindUnixSocket(server, path);
  return server;
}

/** The same for a server of any protocol. @throws Error with QEMU's text */
export async function bindUnixSocket(server: Server, path: string): Promise<void> {
  await removeStale(path);
  const before = process.umask(0o177);
  try {
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(lasting(path), resolve); // binds before it returns
      process.umask(before);
    });
  } catch (cause) {
    // Node says EACCES where the directory is not there.
    const missing = !existsSync(dirname(path));
    const why = missing ? "No such file or directory" : errnoSentence(cause);
    throw new Error(`Failed to bind socket to ${path}: ${why}`, { cause });
  } finally {
    process.umask(before);
  }
}

/** sun_path holds so many bytes beside its final zero. */
const pathBytesMax = 107;

/** Node takes the file away at the end by the name that it was given, and a daemon leaves the directory that it began in. */
function lasting(path: string): string {
  const absolute = resolvePath(path);
  return Buffer.byteLength(absolute) <= pathBytesMax ? absolute : path;
}

async function removeStale(path: string): Promise<void> {
  const status = lstatSync(path, { throwIfNoEntry: false });
  if (status === undefined || !status.isSocket()) return;
  if (await answers(path)) throw new Error(`Failed to bind socket to ${path}: Address already in use`);
  try {
    unlinkSync(path);
  } catch (cause) {
    throw new Error(`Failed to unlink socket ${path}: ${errnoSentence(cause)}`, { cause });
  }
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect(path);
    probe.once("connect", () => {
      probe.destroy();
      resolve(true);
    });
    // Only a refusal says that nobody is there: a full backlog, or a right that we lack, does not.
    probe.once("error", (error: NodeJS.ErrnoException) => resolve(error.code !== "ECONNREFUSED"));
  });
}

const sentences: Readonly<Record<string, string>> = {
  EADDRINUSE: "Address already in use",
  EACCES: "Permission denied",
  ENOENT: "No such file or directory",
  ENOTDIR: "Not a directory",
  EROFS: "Read-only file system",
};

/** As strerror has it. */
export function errnoSentence(error: unknown): string {
  const { code, errno, message } = error as NodeJS.ErrnoException;
  if (code !== undefined && Object.hasOwn(sentences, code)) return sentences[code];
  return (errno === undefined ? undefined : getSystemErrorMap().get(errno)?.[1]) ?? message;
}
