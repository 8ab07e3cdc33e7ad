/**
 * Unix sockets that belong to us alone: mode 0600 from their first instant, never in place of anything but a socket that
 * nobody listens on, and gone when we are, unless somebody else has put another there.
 *
 * The mode is that of the socket before it is bound (Linux makes the file with it), so that there is no instant with a
 * wider one, and the process's umask is left alone. Binding is exclusive: the kernel makes the file or says EADDRINUSE.
 *
 * A socket is stale when a connection to it is refused. One that is refused between somebody's bind and listen is not,
 * which is why we ask several times. A stale one is renamed away and looked at again before it is removed: if two servers
 * start at once, one may have bound after the other asked, and then its file is put back.
 */
import { randomBytes } from "node:crypto";
import { fchmodSync, linkSync, lstatSync, renameSync, unlinkSync } from "node:fs";
import { connect } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import {
  AF_UNIX,
  bindSocket,
  capabilities,
  closeFile,
  type Errno,
  errnoName,
  errnoNumber,
  errnoText,
  listenSocket,
  openSocket,
  unixAddress,
} from "@heirloom/block";
import { ListenError } from "./listen-error.ts";

/** Connections that may wait until they are accepted; the kernel takes net.core.somaxconn at most. */
export const BACKLOG = 511;

/** sun_path holds 108 bytes with the final zero. */
const PATH_BYTES_MAX = 107;
const BIND_TRIES = 3;
const PROBES = 3;
const PROBE_INTERVAL_MS = 20;

/**
 * Which file it is: a name can be given to another, and so can the number of an inode, at once on many file systems. The
 * time of its making goes with it: renaming leaves that alone, and what we compare was made at least 40 ms apart.
 */
interface FileIdentity {
  readonly dev: bigint;
  readonly ino: bigint;
  readonly mtimeNs: bigint;
}

export interface BoundUnixSocket {
  /** Listens already. */
  readonly fd: number;
  /** Removes the file, if it is still the one that was bound. */
  readonly remove: () => void;
}

/** @throws ListenError */
export async function bindUnixSocket(path: string): Promise<BoundUnixSocket> {
  const operation = `listen on unix:${path}`;
  const address = path === "" || path.includes("\0") ? undefined : unixAddress(path);
  if (address === undefined) {
    const message = `${operation}: expected a path of 1 to ${PATH_BYTES_MAX} bytes, the most that a Unix socket's name can be`;
    throw new ListenError("ERR_NBD_LISTEN_ADDRESS", message);
  }
  for (let attempt = 1; ; attempt++) {
    const bound = tryToBind(operation, path, address);
    if (typeof bound !== "number") return bound;
    if (bound !== errnoNumber("EADDRINUSE")) throw systemError(operation, bound);
    if (attempt === BIND_TRIES) {
      throw new ListenError("ERR_NBD_LISTEN_IN_USE", `${operation}: others are binding and removing it at this moment`);
    }
    await removeIfStale(operation, path);
  }
}

function tryToBind(operation: string, path: string, address: Uint8Array): BoundUnixSocket | Errno {
  const fd = openSocket(AF_UNIX);
  if (fd < 0) throw systemError(operation, -fd);
  try {
    fchmodSync(fd, 0o600);
    const errno = bindSocket(fd, address);
    if (errno !== 0) {
      closeFile(fd);
      return errno;
    }
    const identity = identityOf(path);
    const remove = (): void => removeSame(path, identity);
    const listening = listenSocket(fd, BACKLOG);
    if (listening === 0) return { fd, remove };
    remove();
    throw systemError(operation, listening);
  } catch (error) {
    closeFile(fd);
    throw error;
  }
}

/** Returns where the name is free, as far as that can be known. @throws ListenError where it is not */
async function removeIfStale(operation: string, path: string): Promise<void> {
  const stats = lstatSync(path, { bigint: true, throwIfNoEntry: false });
  if (stats === undefined) return;
  if (!stats.isSocket()) {
    const message = `${operation}: there is something that is no socket; remove it or choose another path`;
    throw new ListenError("ERR_NBD_LISTEN_NOT_A_SOCKET", message);
  }
  for (let probe = 1; probe <= PROBES; probe++) {
    const answer = await tryToConnect(path);
    if (answer === "ENOENT") return;
    if (answer !== "ECONNREFUSED") {
      const why =
        answer === undefined ? "somebody listens there" : `cannot tell whether somebody listens there (${answer})`;
      throw new ListenError("ERR_NBD_LISTEN_IN_USE", `${operation}: ${why}`);
    }
    if (probe < PROBES) await delay(PROBE_INTERVAL_MS);
  }
  const aside = `${path}.${randomBytes(6).toString("hex")}`;
  try {
    renameSync(path, aside);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return;
    throw new ListenError("ERR_NBD_LISTEN", `${operation}: cannot replace the socket that nobody listens on`, error);
  }
  if (!isSame(aside, stats)) {
    // Somebody else bound it after we asked: back it goes, under the name that its clients know.
    try {
      linkSync(aside, path);
    } catch {
      // A third has the name by now. Nothing can be done for the second that would not take it from the third.
    }
  }
  unlinkSync(aside);
}

/** The code of the error, or undefined where somebody answers. */
function tryToConnect(path: string): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once("connect", () => {
      socket.destroy();
      resolve(undefined);
    });
    socket.once("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
  });
}

function identityOf(path: string): FileIdentity | undefined {
  return lstatSync(path, { bigint: true, throwIfNoEntry: false });
}

function isSame(path: string, { dev, ino, mtimeNs }: FileIdentity): boolean {
  const now = identityOf(path);
  return now?.dev === dev && now.ino === ino && now.mtimeNs === mtimeNs;
}

function removeSame(path: string, identity: FileIdentity | undefined): void {
  try {
    if (identity !== undefined && isSame(path, identity)) unlinkSync(path);
  } catch {
    // Its directory is gone, or not ours any more: then so is the socket.
  }
}

function systemError(operation: string, errno: Errno): ListenError {
  if (!capabilities().native) {
    const message = `${operation}: serving NBD needs koffi, and ${capabilities().reason ?? "it is missing"}`;
    return new ListenError("ERR_NBD_LISTEN_UNSUPPORTED", message);
  }
  return new ListenError("ERR_NBD_LISTEN", `${operation}: ${errnoText(errno)} (${errnoName(errno)})`);
}
