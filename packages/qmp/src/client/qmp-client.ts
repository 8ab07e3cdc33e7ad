/**
 * The other end: typed commands, events as an async iterable, and connections that are made anew.
 *
 * @example
 * const client = await QmpClient.connect({ path: "/run/backup.qmp" });
 * await client.execute("block-dirty-bitmap-add", { node: "disk", name: "daily" });
 * for await (const event of client.events()) {
 *   if (event.name === "BLOCK_JOB_COMPLETED") break;
 * }
 * client.close();
 */
import { connect, type Socket } from "node:net";
import type { QmpCommands, QmpEvents, VersionInfo } from "../generated/qmp-types.ts";
import { QmpError, type QmpErrorClass } from "../qmp-error.ts";
import { type JsonItem, JsonReader } from "../wire/json-reader.ts";
import type { JsonObject, Writable } from "../wire/json-value.ts";
import { writeJson } from "../wire/json-writer.ts";
import { EventQueue } from "./event-queue.ts";
import { plain } from "./plain-value.ts";

export type QmpAddress = { readonly path: string } | { readonly host: string; readonly port: number };

export interface QmpClientOptions {
  /** A connection that is lost is made anew, this often at most, milliseconds; by default it is not. */
  readonly reconnectEveryMs?: number;
  /** For the greeting and the negotiation, milliseconds; 10 s by default. */
  readonly connectTimeoutMs?: number;
}

/** An event of the other end, or what became of the connection: after it is back, ask anew for what you know. */
export type QmpClientEvent =
  | {
      [Name in keyof QmpEvents]: { readonly name: Name; readonly data: QmpEvents[Name]; readonly at: number };
    }[keyof QmpEvents]
  | { readonly name: "CONNECTION_LOST" | "CONNECTION_BACK"; readonly data: undefined; readonly at: number };

/** The connection was lost before the answer came: whether the command was carried out is not known. */
export class QmpConnectionLost extends Error {
  override readonly name: string = "QmpConnectionLost";
  readonly code: string = "ERR_QMP_CONNECTION_LOST";
}

/** Commands without arguments may leave them out. */
type ArgumentsOf<Name extends keyof QmpCommands> =
  Record<string, never> extends QmpCommands[Name]["arguments"]
    ? readonly [args?: QmpCommands[Name]["arguments"]]
    : readonly [args: QmpCommands[Name]["arguments"]];

interface Pending {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
}

const connectTimeoutDefault = 10_000;

export class QmpClient {
  readonly #address: QmpAddress;
  readonly #options: QmpClientOptions;
  readonly #pending = new Map<number, Pending>();
  readonly #events = new Set<EventQueue<QmpClientEvent>>();
  #socket: Socket | undefined;
  #version: VersionInfo | undefined;
  #nextId = 0;
  #back: Promise<void> | undefined;
  #closed = false;

  private constructor(address: QmpAddress, options: QmpClientOptions) {
    this.#address = address;
    this.#options = options;
  }

  /** Resolves when the other end takes commands. @throws Error of the system, QmpConnectionLost, QmpError */
  static async connect(address: QmpAddress, options: QmpClientOptions = {}): Promise<QmpClient> {
    const client = new QmpClient(address, options);
    await client.#open();
    return client;
  }

  /** Who answers. */
  get version(): VersionInfo {
    if (this.#version === undefined) throw new QmpConnectionLost("no greeting was seen");
    return this.#version;
  }

  /** @throws QmpError with the class and the text of the answer; QmpConnectionLost */
  execute<Name extends keyof QmpCommands>(
    command: Name,
    ...[args]: ArgumentsOf<Name>
  ): Promise<QmpCommands[Name]["result"]> {
    return this.executeAny<QmpCommands[Name]["result"]>(
      command,
      args as Readonly<Record<string, Writable>> | undefined,
    );
  }

  /** A command that is not in the table, for other servers. */
  async executeAny<Result = unknown>(command: string, args?: Readonly<Record<string, Writable>>): Promise<Result> {
    if (this.#closed) throw new QmpConnectionLost(`${command}: the client is closed`);
    await this.#back;
    return (await this.#send(command, args)) as Result;
  }

  /** From now on, until the client is closed, the loop is left or the signal is aborted. */
  events(options: { readonly signal?: AbortSignal } = {}): AsyncIterableIterator<QmpClientEvent> {
    const queue = new EventQueue<QmpClientEvent>(() => this.#events.delete(queue), options.signal);
    if (this.#closed) queue.end();
    else this.#events.add(queue);
    return queue;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#socket?.destroy();
    this.#failPending("the client was closed");
    for (const queue of this.#events) queue.end();
  }
  [Symbol.dispose](): void {
    this.close();
  }

  #send(command: string, args: Readonly<Record<string, Writable>> | undefined): Promise<unknown> {
    const socket = this.#socket;
    if (socket === undefined) return Promise.reject(new QmpConnectionLost(`${command}: there is no connection`));
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#pending.set(id, { resolve, reject });
      socket.write(`${writeJson({ execute: command, arguments: args, id })}\n`);
    });
  }

  async #open(): Promise<void> {
    const socket =
      "path" in this.#address ? connect(this.#address.path) : connect(this.#address.port, this.#address.host);
    const reader = new JsonReader();
    let greeted: () => void = () => {};
    let failed: (error: Error) => void = () => {};
    const greeting = new Promise<void>((resolve, reject) => {
      greeted = resolve;
      failed = reject;
    });
    const timer = setTimeout(
      () => socket.destroy(new QmpConnectionLost("no greeting in time: another client may be connected")),
      this.#options.connectTimeoutMs ?? connectTimeoutDefault,
    );
    socket.on("data", (chunk: Buffer) => {
      for (const item of reader.feed(chunk)) this.#take(item, greeted);
    });
    socket.on("error", (error) => failed(error));
    socket.on("close", () => {
      failed(new QmpConnectionLost("the connection was closed before the greeting"));
      this.#lost(socket);
    });
    try {
      this.#socket = socket;
      await greeting;
      await this.#send("qmp_capabilities", undefined);
    } catch (error) {
      if (this.#socket === socket) this.#socket = undefined;
      socket.destroy();
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  #take(item: JsonItem, greeted: () => void): void {
    // What is no JSON cannot be answered; the connection goes on, as QEMU's does.
    if (!("value" in item) || !(item.value instanceof Map)) return;
    const message = item.value;
    if (message.has("QMP")) {
      const { QMP } = plain(message) as { QMP: { version: VersionInfo } };
      this.#version = QMP.version;
      greeted();
    } else if (message.has("event")) this.#tell(eventOf(message));
    else this.#answer(message);
  }

  #answer(message: JsonObject): void {
    const id = message.get("id");
    const pending = typeof id === "number" ? this.#pending.get(id) : undefined;
    if (pending === undefined) return;
    this.#pending.delete(id as number);
    if (message.has("return")) pending.resolve(plain(message.get("return") ?? null));
    else {
      const error = plain(message.get("error") ?? null) as { class: QmpErrorClass; desc: string };
      pending.reject(new QmpError(error.desc, error.class));
    }
  }

  #lost(socket: Socket): void {
    if (this.#socket !== socket || this.#closed) return;
    this.#socket = undefined;
    this.#failPending("the connection was lost");
    this.#tell({ name: "CONNECTION_LOST", data: undefined, at: Date.now() });
    const every = this.#options.reconnectEveryMs;
    if (every === undefined) {
      for (const queue of this.#events) queue.end();
      return;
    }
    this.#back = this.#reconnect(every).finally(() => (this.#back = undefined));
  }

  async #reconnect(everyMs: number): Promise<void> {
    while (!this.#closed) {
      try {
        await this.#open();
        this.#tell({ name: "CONNECTION_BACK", data: undefined, at: Date.now() });
        return;
      } catch {
        await new Promise((resolve) => setTimeout(resolve, everyMs).unref());
      }
    }
  }

  #failPending(why: string): void {
    for (const { reject } of this.#pending.values()) reject(new QmpConnectionLost(why));
    this.#pending.clear();
  }

  #tell(event: QmpClientEvent): void {
    for (const queue of this.#events) queue.push(event);
  }
}

function eventOf(message: JsonObject): QmpClientEvent {
  const { event, data, timestamp } = plain(message) as {
    event: keyof QmpEvents;
    data?: unknown;
    timestamp: { seconds: number; microseconds: number };
  };
  const at = timestamp.seconds * 1000 + timestamp.microseconds / 1000;
  return { name: event, data: data ?? {}, at } as QmpClientEvent;
}
