/**
 * Character devices: what monitors are spoken to through. One that listens is ready before the daemon goes on; who connects
 * before there is a monitor, or before all of the command line is done, waits: nobody sees half of what was asked for.
 */
import { createServer, type Server, type Socket } from "node:net";
import { Duplex } from "node:stream";
import {
  errnoSentence,
  isIdentifier,
  listenOnUnixSocket,
  type Monitor,
  monitorSocketOptions,
  QmpError,
} from "@heirloom/qmp";

export type ChardevOptions =
  | { readonly type: "unix"; readonly path: string }
  | { readonly type: "inet"; readonly host: string; readonly port: string }
  | { readonly type: "stdio" }
  | { readonly type: "null" };

interface Chardev {
  readonly id: string;
  readonly filename: string;
  readonly server: Server | undefined;
  readonly stdio: boolean;
  monitor: Monitor | undefined;
  readonly waiting: Duplex[];
}

export class Chardevs {
  readonly #chardevs = new Map<string, Chardev>();
  #isOpen = false;

  /** @throws QmpError */
  async add(id: string, options: ChardevOptions): Promise<void> {
    if (!isIdentifier(id)) throw new QmpError("Parameter 'id' expects an identifier");
    if (this.#chardevs.has(id)) {
      throw new QmpError(`attempt to add duplicate property '${id}' to object (type 'container')`);
    }
    const waiting: Duplex[] = [];
    const accept = (socket: Socket): void => {
      const { monitor } = chardev;
      if (monitor === undefined || !this.#isOpen) waiting.push(socket);
      else monitor.accept(socket);
    };
    const server = await listen(options, accept);
    const chardev: Chardev = {
      id,
      filename: filenameOf(options),
      server,
      stdio: options.type === "stdio",
      monitor: undefined,
      waiting,
    };
    this.#chardevs.set(id, chardev);
  }

  /** @throws QmpError where there is none, or another monitor has it */
  attach(id: string, monitor: Monitor): void {
    const chardev = this.#chardevs.get(id);
    if (chardev === undefined) throw new QmpError(`chardev "${id}" not found`);
    if (chardev.monitor !== undefined) throw new QmpError(`Device '${id}' is in use`);
    chardev.monitor = monitor;
    if (this.#isOpen) letIn(chardev);
  }

  /** Clients are spoken to from now on. */
  open(): void {
    this.#isOpen = true;
    for (const chardev of this.#chardevs.values()) letIn(chardev);
  }

  list(): { label: string; filename: string; "frontend-open": boolean }[] {
    return [...this.#chardevs.values()]
      .map(({ id, filename, monitor }) => ({ label: id, filename, "frontend-open": monitor !== undefined }))
      .reverse();
  }

  /** @throws QmpError */
  remove(id: string): void {
    const chardev = this.#chardevs.get(id);
    if (chardev === undefined) throw new QmpError(`Chardev '${id}' not found`);
    if (chardev.monitor !== undefined) throw new QmpError(`Chardev '${id}' is busy`);
    for (const stream of chardev.waiting) stream.destroy();
    chardev.server?.close();
    this.#chardevs.delete(id);
  }

  /** Nobody can connect any more; sockets' files are gone. */
  close(): void {
    for (const { server } of this.#chardevs.values()) server?.close();
  }
}

function letIn({ monitor, waiting, stdio }: Chardev): void {
  if (monitor === undefined) return;
  for (const stream of waiting.splice(0)) monitor.accept(stream);
  if (stdio) monitor.accept(standardStreams());
}

async function listen(options: ChardevOptions, accept: (socket: Socket) => void): Promise<Server | undefined> {
  if (options.type === "unix") {
    try {
      return await listenOnUnixSocket(options.path, accept);
    } catch (error) {
      throw new QmpError((error as Error).message);
    }
  }
  if (options.type !== "inet") return undefined;
  const { host, port } = options;
  if (!/^\d{1,5}$/.test(port)) {
    throw new QmpError(`address resolution failed for ${host}:${port}: Servname not supported for ai_socktype`);
  }
  const server = createServer(monitorSocketOptions, accept);
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error) => reject(new QmpError(`Failed to bind socket: ${errnoSentence(error)}`)));
    server.listen(Number(port), host, resolve);
  });
  return server;
}

function filenameOf(options: ChardevOptions): string {
  switch (options.type) {
    case "unix":
      return `unix:${options.path},server=on`;
    case "inet":
      return `tcp:${options.host}:${options.port},server=on`;
    default:
      return options.type;
  }
}

function standardStreams(): Duplex {
  return Duplex.from({ readable: process.stdin, writable: process.stdout });
}
