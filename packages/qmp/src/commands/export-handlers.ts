/** The NBD server and its exports. */
import { setTimeout as delay } from "node:timers/promises";
import type { BitmapSource, DiskExport, DiskServer, ExportOptions } from "@heirloom/runtime";
import type { BlockExportOptions, QmpCommands, SocketAddress, SocketAddressLegacy } from "../generated/qmp-types.ts";
import { type GraphNode, isFilter, isReadOnly, isUnwritable } from "../graph/graph-node.ts";
import { isIdentifier } from "../graph/node-name.ts";
import { serverTls } from "./tls-credentials.ts";
import { asQmpError, inQemuWords } from "../graph/qemu-text.ts";
import { QmpError } from "../qmp-error.ts";
import type { Handlers } from "../server/command-set.ts";
import { errnoSentence } from "../server/unix-listener.ts";
import type { CommandContext } from "./context.ts";

type Family = Pick<
  Handlers,
  | "nbd-server-start"
  | "nbd-server-stop"
  | "nbd-server-add"
  | "nbd-server-remove"
  | "block-export-add"
  | "block-export-del"
  | "query-block-exports"
>;
type Done = Readonly<Record<string, never>>;
type StartArguments = QmpCommands["nbd-server-start"]["arguments"];

const nameBytesMax = 4096;
const connectionsDefault = 100;
const handshakeSecondsDefault = 10;
const leavingMs = 100;
const lookMs = 2;

interface Exported {
  readonly id: string;
  readonly node: string;
  readonly exported: DiskExport;
  /** Of the node, also when the node is one that goes before. */
  readonly writers: Set<string>;
  shuttingDown: boolean;
}

export function exportHandlers(context: CommandContext): Family {
  const exports = new Exports(context);
  const { adoptedServer, exclusive } = context;
  if (adoptedServer !== undefined) exports.adopt(adoptedServer);
  const done = (work: () => Promise<void>): Promise<Done> =>
    exclusive(() =>
      inQemuWords(async () => {
        await work();
        return {};
      }),
    );
  return {
    // The command line's address has no level of `data`.
    "nbd-server-start": (args) =>
      done(() => exports.start(args, "data" in args.addr ? flattened(args.addr) : args.addr)),
    "nbd-server-stop": () => done(() => exports.stop()),
    "nbd-server-add": ({ device, name = device, description, writable = false, bitmap }) =>
      done(() => {
        const node = context.graph.get(device);
        return exports.add({
          type: "nbd",
          id: name,
          "node-name": device,
          name,
          ...(description === undefined ? {} : { description }),
          writable: writable && !isReadOnly(node),
          ...(bitmap === undefined ? {} : { bitmaps: [bitmap] }),
        });
      }),
    "nbd-server-remove": ({ name, mode = "safe" }) => done(() => exports.remove(name, mode)),
    "block-export-add": (options) => done(() => exports.add(options)),
    "block-export-del": ({ id, mode = "safe" }) => done(() => exports.remove(id, mode)),
    "query-block-exports": () => exports.list(),
  };
}

class Exports {
  readonly #context: CommandContext;
  readonly #exports = new Map<string, Exported>();
  #server: DiskServer | undefined;
  #credentials: { release: () => void } | undefined;

  constructor(context: CommandContext) {
    this.#context = context;
  }

  /** A server that its program runs. */
  adopt(server: DiskServer): void {
    this.#server = server;
    for (const exported of server.exports) {
      const { id, disk } = exported;
      const writers = this.#context.graph.find(disk)?.writers ?? new Set();
      if (exported.writable) writers.add(id);
      this.#exports.set(id, { id, node: disk, exported, writers, shuttingDown: false });
    }
  }

  async start(args: Omit<StartArguments, "addr">, addr: SocketAddress): Promise<void> {
    if (this.#server !== undefined) throw new QmpError("NBD server already running");
    const creds = args["tls-creds"];
    const { objects } = this.#context;
    const tls =
      creds === undefined
        ? undefined
        : await serverTls(objects.credentials(creds, "server"), (id) => objects.secret(id));
    if (args["tls-authz"] !== undefined) throw new QmpError("tls-authz is not supported");
    const listen = listenAddress(addr);
    const { "max-connections": most = connectionsDefault, "handshake-max-seconds": seconds = handshakeSecondsDefault } =
      args;
    try {
      this.#server = await this.#context.runtime.serveNbd({
        listen: [listen],
        ...(tls === undefined ? {} : { tls }),
        ...(most === 0 ? {} : { connectionsMax: most }),
        ...(seconds === 0 ? {} : { handshakeTimeoutMs: seconds * 1000 }),
      });
    } catch (error) {
      throw new QmpError(listenText(listen, error));
    }
    if (creds !== undefined) this.#credentials = this.#context.objects.use(creds);
  }

  async stop(): Promise<void> {
    const server = this.#running();
    this.#server = undefined;
    for (const exported of this.#exports.values()) exported.shuttingDown = true;
    await server.close({ force: true });
    this.#credentials?.release();
    this.#credentials = undefined;
    const gone = [...this.#exports.values()];
    this.#exports.clear();
    for (const entry of gone) await this.#forget(entry);
  }

  async add(options: BlockExportOptions): Promise<void> {
    const { id, "node-name": name } = options;
    if (!isIdentifier(id)) throw new QmpError("Invalid block export id");
    if (this.#exports.has(id)) throw new QmpError(`Block export id '${id}' is already in use`);
    const node = this.#context.graph.find(name);
    if (node === undefined) throw new QmpError(`Cannot find device='' nor node-name='${name}'`);
    const { iothread } = options;
    if (iothread !== undefined && !this.#context.objects.isIothread(iothread))
      throw new QmpError(`iothread "${iothread}" not found`);
    if (options.writable === true && isReadOnly(node)) throw new QmpError("Cannot export read-only node as writable");
    if (options.writable === true && isUnwritable(node)) throw new QmpError("Block node is read-only");
    const server = this.#running();
    const exportName = options.name ?? name;
    refuseLength("export name", exportName);
    if (options.description !== undefined) refuseLength("description", options.description);
    const { locks } = this.#context.graph;
    await locks.take(node, options.writable === true ? "write" : "watch");
    let exported: DiskExport;
    try {
      exported = await server.add(this.#request(options, node, exportName));
    } catch (error) {
      await locks.settle();
      throw error;
    }
    if (options.writable === true) node.writers.add(id);
    const entry: Exported = { id, node: name, exported, writers: node.writers, shuttingDown: false };
    this.#exports.set(id, entry);
  }

  /** Answered when it is gone: whoever asked finds its bitmaps free. */
  async remove(id: string, mode: "safe" | "hard"): Promise<void> {
    const entry = this.#exports.get(id);
    if (entry === undefined) throw new QmpError(`Export '${id}' is not found`);
    if (entry.shuttingDown) throw new QmpError(`Export '${id}' is already shutting down`);
    entry.shuttingDown = true;
    try {
      // A client that has left is noticed a moment later than by whoever waited for its process to end.
      const lookUntil = performance.now() + leavingMs;
      while (mode === "safe" && entry.exported.clients > 0 && performance.now() < lookUntil) await delay(lookMs);
      await entry.exported.remove({ force: mode === "hard" });
    } catch (error) {
      entry.shuttingDown = false;
      throw asQmpError(error);
    }
    this.#exports.delete(id);
    await this.#forget(entry);
  }

  async #forget({ id, writers }: Exported): Promise<void> {
    writers.delete(id);
    await this.#context.graph.locks.settle();
  }

  list(): { id: string; type: "nbd"; "node-name": string; "shutting-down": boolean }[] {
    return [...this.#exports.values()]
      .map(({ id, node, shuttingDown }) => ({
        id,
        type: "nbd" as const,
        "node-name": node,
        "shutting-down": shuttingDown,
      }))
      .reverse();
  }

  #request(options: BlockExportOptions, node: GraphNode, name: string): ExportOptions {
    const bitmaps = (options.bitmaps ?? []).map((bitmap) => {
      if (typeof bitmap === "string") return bitmapUnder(node, bitmap, options.writable ?? false);
      const other = this.#context.graph.find(bitmap.node);
      if (other === undefined) throw new QmpError(`Node '${bitmap.node}' not found`);
      return { disk: other.disk, name: bitmap.name };
    });
    return {
      disk: node.disk,
      id: options.id,
      name,
      writable: options.writable ?? false,
      bitmaps,
      allocationDepth: options["allocation-depth"] ?? false,
      ...(options.description === undefined ? {} : { description: options.description }),
    };
  }

  #running(): DiskServer {
    if (this.#server === undefined) throw new QmpError("NBD server not running");
    return this.#server;
  }
}

/** A bitmap by its name alone: the node's, or that of a node which filters stand on. */
function bitmapUnder(node: GraphNode, name: string, writable: boolean): BitmapSource {
  for (let at = node; ; [at] = at.children) {
    const found = at.disk.bitmaps.list().find((bitmap) => bitmap.name === name);
    if (found === undefined && isFilter(at)) continue;
    if (found === undefined || at.disk === node.disk) return name;
    if (found.recording && !writable && !isReadOnly(node)) {
      throw new QmpError(`Enabled bitmap '${name}' incompatible with readonly export`);
    }
    return { disk: at.disk, name };
  }
}

function flattened({ type, data }: SocketAddressLegacy): SocketAddress {
  return { type, ...data } as SocketAddress;
}

type Listen = { readonly path: string } | { readonly host: string; readonly port: number };

function listenAddress(addr: SocketAddress): Listen {
  if (addr.type === "unix") {
    if (addr.abstract === true) throw new QmpError("abstract sockets are not supported");
    return { path: addr.path };
  }
  if (addr.type !== "inet") throw new QmpError(`sockets of type '${addr.type}' are not supported`);
  const port = Number(addr.port);
  if (!/^\d{1,5}$/.test(addr.port) || port > 65535) {
    throw new QmpError(
      `address resolution failed for ${addr.host}:${addr.port}: Servname not supported for ai_socktype`,
    );
  }
  return { host: addr.host, port };
}

function refuseLength(what: string, text: string): void {
  if (Buffer.byteLength(text) > nameBytesMax) throw new QmpError(`${what} '${text}' too long`);
}

/** The errno that the message names, in QEMU's sentence. */
function listenText(listen: Listen, error: unknown): string {
  const { code, message } = error as { code?: string; message: string };
  const errno = code === "ERR_NBD_LISTEN_IN_USE" ? "EADDRINUSE" : /\((E[A-Z]+)\)/.exec(message)?.[1];
  if (errno === undefined) return message;
  const where = "path" in listen ? ` to ${listen.path}` : "";
  return `Failed to bind socket${where}: ${errnoSentence({ code: errno, message })}`;
}
