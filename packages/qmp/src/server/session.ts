/**
 * One client of one monitor: greeting, negotiation, then commands, answered one at a time in the order in which they came,
 * with events between the answers. Knows no socket: bytes come in by `feed`, lines go out to an `Output`.
 *
 * A client that does not read is not waited for by anybody else. Its commands wait while more than `unsentMax` bytes are
 * unsent; events are kept for it up to `unsentEventsMax`, and then it is dropped: a client that is told some events and
 * not others would be misled.
 */
import { readArguments } from "../schema/read-value.ts";
import { QmpError } from "../qmp-error.ts";
import { type JsonItem, JsonReader, monitorLimits } from "../wire/json-reader.ts";
import type { JsonValue, Writable } from "../wire/json-value.ts";
import { writeJson } from "../wire/json-writer.ts";
import { idOf, readRequest, type Request } from "../wire/request.ts";
import type { CommandSet } from "./command-set.ts";
import type { VersionInfo } from "../generated/qmp-types.ts";

/** Where a session's lines go. */
export interface Output {
  write(text: string): void;
  /** Bytes that the client has not taken. */
  readonly unsent: number;
  /** Resolves when the client has taken them, or is gone. */
  drained(): Promise<void>;
  /** Drops the client. */
  drop(reason: string): void;
  /** Stops and goes on with taking bytes from the client. */
  pause(): void;
  resume(): void;
}

export interface QmpEvent {
  readonly name: string;
  /** Milliseconds since the epoch. */
  readonly at: number;
  readonly data: Writable | undefined;
}

export interface SessionOptions {
  readonly commands: CommandSet;
  readonly version: VersionInfo;
  readonly pretty: boolean;
}

const unsentMax = 1024 * 1024;
const unsentEventsMax = 16 * 1024 * 1024;
/** Commands that are read and wait; then no more is read. */
const waitingMax = 8;
/** Commands that are carried out one after the other while those of others wait, and bytes that are read in one go. */
const turnMax = 32;
const bytesMax = 4096;

export class Session {
  readonly #options: SessionOptions;
  readonly #output: Output;
  readonly #reader = new JsonReader(monitorLimits);
  readonly #waiting = new WaitingItems();
  /** What has come and was not looked at. */
  readonly #unread: Uint8Array[] = [];
  #negotiated = false;
  #outOfBand = false;
  #running = false;
  #ran: Promise<void> = Promise.resolve();
  #closed = false;

  constructor(options: SessionOptions, output: Output) {
    this.#options = options;
    this.#output = output;
    this.#send({ QMP: { version: this.#version(), capabilities: ["oob"] } });
  }

  /** Bytes of the client. */
  feed(chunk: Uint8Array): void {
    this.#unread.push(chunk);
    if (!this.#running) this.#ran = this.#run();
    if (this.#running && !this.#takesMore) this.#output.pause();
  }

  /** Resolves when everything that was read so far is answered. */
  answered(): Promise<void> {
    return this.#ran;
  }

  /** Nobody hears before the negotiation is over. */
  event({ name, at, data }: QmpEvent): void {
    if (!this.#negotiated || this.#closed) return;
    const seconds = Math.floor(at / 1000);
    const microseconds = Math.min(999_999, Math.round((at - seconds * 1000) * 1000));
    this.#send({ timestamp: { seconds, microseconds }, event: name, data });
    if (this.#output.unsent <= unsentEventsMax) return;
    this.close();
    this.#output.drop("it does not read its events");
  }

  /** The client is gone. A command that runs goes on, and nobody hears its answer. */
  close(): void {
    this.#closed = true;
    this.#waiting.clear();
    this.#unread.length = 0;
  }

  get #takesMore(): boolean {
    return this.#unread.length === 0 && this.#waiting.length < waitingMax;
  }

  /** The next command, of which a piece of what has come may have any number. */
  #next(): JsonItem | undefined {
    while (this.#waiting.length === 0) {
      const chunk = this.#unread.shift();
      if (chunk === undefined) break;
      if (chunk.length > bytesMax) this.#unread.unshift(chunk.subarray(bytesMax));
      this.#waiting.add(this.#reader.feed(chunk.subarray(0, bytesMax)));
    }
    return this.#waiting.take();
  }

  async #run(): Promise<void> {
    this.#running = true;
    let turn = 0;
    for (let item = this.#next(); item !== undefined; item = this.#next()) {
      if (++turn % turnMax === 0) await new Promise((resolve) => setImmediate(resolve));
      const answer = this.#answer(item);
      this.#send(answer instanceof Promise ? await answer : answer);
      if (this.#output.unsent > unsentMax) await this.#output.drained();
      if (this.#takesMore && !this.#closed) this.#output.resume();
    }
    this.#running = false;
  }

  #answer(item: JsonItem): Writable | Promise<Writable> {
    if ("error" in item) return failure(new QmpError(item.error), undefined);
    const id = idOf(item.value);
    try {
      const result = this.#execute(readRequest(item.value, this.#outOfBand));
      if (!(result instanceof Promise)) return success(result, id);
      return result.then(
        (value) => success(value, id),
        (error: unknown) => failure(error, id),
      );
    } catch (error) {
      return failure(error, id);
    }
  }

  #execute(request: Request): Writable | Promise<Writable> {
    if (request.command === "qmp_capabilities") return this.#negotiate(request);
    if (this.#negotiated) return this.#options.commands.run(request);
    throw new QmpError("Expecting capabilities negotiation with 'qmp_capabilities'", "CommandNotFound");
  }

  #negotiate(request: Request): Writable {
    if (this.#negotiated) {
      throw new QmpError("Capabilities negotiation is already complete, command ignored", "CommandNotFound");
    }
    const { enable = [] } = readArguments(this.#options.commands.table.qmp_capabilities.arguments, request.arguments);
    this.#outOfBand = (enable as readonly string[]).includes("oob");
    this.#negotiated = true;
    return {};
  }

  #version(): Writable {
    const { qemu, package: name } = this.#options.version;
    const { major, minor, micro } = qemu;
    return { qemu: { major, minor, micro }, package: name };
  }

  #send(message: Writable): void {
    if (this.#closed) return;
    const text = writeJson(message, this.#options.pretty);
    this.#output.write(`${this.#options.pretty ? text.replaceAll("\n", "\r\n") : text}\r\n`);
  }
}

function success(result: Writable, id: JsonValue | undefined): Writable {
  return { return: result, id };
}

/** What is no `QmpError` is a fault of ours or of the system's: the client hears its text all the same. */
function failure(error: unknown, id: JsonValue | undefined): Writable {
  const told = error instanceof QmpError ? error : new QmpError(error instanceof Error ? error.message : String(error));
  return { id, error: { class: told.class, desc: told.desc } };
}

/** First in, first out: one packet can hold tens of thousands. */
class WaitingItems {
  #items: JsonItem[] = [];
  #next = 0;

  get length(): number {
    return this.#items.length - this.#next;
  }

  add(items: JsonItem[]): void {
    this.#items = this.length === 0 ? items : [...this.#items.slice(this.#next), ...items];
    this.#next = 0;
  }

  take(): JsonItem | undefined {
    return this.length === 0 ? undefined : this.#items[this.#next++];
  }

  clear(): void {
    this.#items = [];
    this.#next = 0;
  }
}
