/**
 * One address that is listened on. It can stop accepting and go on later, without closing anything: connections then wait
 * in the kernel's queue, where they cost no descriptor and hear no greeting, as with QEMU.
 *
 * Node accepts whatever comes for as long as it watches a listening socket. So the socket is ours, and Node gets a
 * duplicate to watch, which is closed whenever nobody is to be accepted.
 */
import { once } from "node:events";
import { createServer, type Server, type Socket } from "node:net";
import { capabilities, closeFile, duplicateDescriptor, errnoName, errnoText } from "@heirloom/block";
import { descriptorOf } from "./descriptor-of.ts";
import { ListenError } from "./listen-error.ts";
import { BACKLOG, bindUnixSocket } from "./unix-socket.ts";

export type ListenAddress =
  /** Mode 0600. A socket there that nobody listens on is replaced. */
  | { readonly path: string }
  /** An IP address or a name; "::" is every interface, IPv4 included. Port 0 is any that is free. */
  | { readonly host: string; readonly port: number };

/** Where a listener can be reached. */
export type BoundAddress =
  | { readonly path: string }
  | { readonly host: string; readonly port: number; readonly family: "IPv4" | "IPv6" };

/** A socket that was accepted: not read from yet, and its peer's name for people. */
export type AcceptHandler = (socket: Socket, peer: string) => void;

export class Listener {
  readonly address: BoundAddress;
  readonly #fd: number;
  readonly #removeFile: () => void;
  readonly #onAccept: AcceptHandler;
  #watcher: Server | undefined;
  #closed = false;

  private constructor(address: BoundAddress, fd: number, removeFile: () => void, onAccept: AcceptHandler) {
    this.address = address;
    this.#fd = fd;
    this.#removeFile = removeFile;
    this.#onAccept = onAccept;
  }

  /** Listens, and accepts nothing before `resume`. @throws ListenError */
  static async open(address: ListenAddress, onAccept: AcceptHandler): Promise<Listener> {
    if ("path" in address) {
      const { fd, remove } = await bindUnixSocket(address.path);
      return new Listener({ path: address.path }, fd, remove, onAccept);
    }
    const bound = await bindInternetSocket(address.host, address.port);
    return new Listener(bound.address, bound.fd, () => undefined, onAccept);
  }

  /** Accepts, until `pause`. @returns false where the system has no descriptor for it: to be tried again */
  resume(): boolean {
    if (this.#watcher !== undefined || this.#closed) return true;
    const fd = duplicateDescriptor(this.#fd);
    if (fd < 0) return false;
    const watcher = createServer({ pauseOnConnect: true, allowHalfOpen: true });
    watcher.on("connection", (socket: Socket) => this.#onAccept(socket, this.#peerOf(socket)));
    // In a cluster's worker the primary would take the descriptor, which is none of its business.
    watcher.listen({ fd, exclusive: true, backlog: BACKLOG });
    this.#watcher = watcher;
    return true;
  }

  /** Accepts nobody: takes effect before the next connection, also when it is called from within `onAccept`. */
  pause(): void {
    this.#watcher?.close();
    this.#watcher = undefined;
  }

  /** Those who wait are refused by the kernel, and the socket's file goes. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.pause();
    this.#removeFile();
    closeFile(this.#fd);
  }

  #peerOf(socket: Socket): string {
    if ("path" in this.address) return `unix:${this.address.path}`;
    const { remoteAddress = "unknown", remotePort = 0 } = socket;
    return remoteAddress.includes(":") ? `[${remoteAddress}]:${remotePort}` : `${remoteAddress}:${remotePort}`;
  }
}

async function bindInternetSocket(host: string, port: number): Promise<{ fd: number; address: BoundAddress }> {
  const operation = `listen on ${host}:${port}`;
  if (!Number.isInteger(port) || port < 0 || port > 65535 || host === "") {
    const message = `${operation}: expected an address or a name, and a port of 0 (any) to 65535`;
    throw new ListenError("ERR_NBD_LISTEN_ADDRESS", message);
  }
  if (!capabilities().native) {
    const message = `${operation}: serving NBD needs koffi, and ${capabilities().reason ?? "it is missing"}`;
    throw new ListenError("ERR_NBD_LISTEN_UNSUPPORTED", message);
  }
  const server = createServer();
  try {
    server.listen({ host, port, exclusive: true, backlog: BACKLOG });
    await once(server, "listening");
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === "EADDRINUSE") {
      throw new ListenError("ERR_NBD_LISTEN_IN_USE", `${operation}: somebody listens there`, error);
    }
    throw new ListenError("ERR_NBD_LISTEN", `${operation}: ${message}`, error);
  }
  // In the same turn as the event, so that Node has accepted nobody.
  const address = server.address();
  const fd = duplicateDescriptor(descriptorOf(server));
  server.close();
  if (fd < 0) throw new ListenError("ERR_NBD_LISTEN", `${operation}: ${errnoText(-fd)} (${errnoName(-fd)})`);
  if (address === null || typeof address === "string") throw new Error("a TCP socket without an address");
  return { fd, address: { host: address.address, port: address.port, family: address.family as "IPv4" | "IPv6" } };
}
