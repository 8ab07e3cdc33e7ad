/** A reception in a directory of its own, clients that speak bytes, and the count of descriptors before and after. */
import { readdirSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import type { BoundAddress } from "../../dist/server/listener.js";
import type { NewSession } from "../../dist/server/negotiation.js";
import { Reception, type ReceptionOptions, type Refused } from "../../dist/server/reception.js";
import { scratchDirectory } from "../tool.fixture.ts";
import { usualDirectory } from "./handshake.fixture.ts";

export function descriptors(): number {
  return readdirSync("/proc/self/fd").length;
}

export interface Session extends NewSession {
  readonly release: () => void;
}

/** Things that arrive one by one, and those who wait for the next. */
export class Queue<Value> {
  readonly #values: Value[] = [];
  readonly #waiting: ((value: Value) => void)[] = [];

  add(value: Value): void {
    const waiting = this.#waiting.shift();
    if (waiting === undefined) this.#values.push(value);
    else waiting(value);
  }

  get length(): number {
    return this.#values.length;
  }

  next(): Promise<Value> {
    const value = this.#values.shift();
    return value === undefined ? new Promise((resolve) => this.#waiting.push(resolve)) : Promise.resolve(value);
  }
}

export interface Place {
  readonly reception: Reception;
  readonly path: string;
  readonly directory: string;
  readonly sessions: Queue<Session>;
  readonly refused: Queue<Refused>;
}

/** Listens on a Unix path. */
export async function open(options: Partial<ReceptionOptions> = {}): Promise<Place> {
  const directory = scratchDirectory();
  const sessions = new Queue<Session>();
  const refused = new Queue<Refused>();
  const reception = new Reception({
    directory: usualDirectory(),
    onSession: (session, release) => sessions.add({ ...session, release }),
    onRefused: (end) => refused.add(end),
    ...options,
  });
  onTestFinished(() => reception.close());
  const path = join(directory, "nbd.sock");
  await reception.listen({ path });
  return { reception, path, directory, sessions, refused };
}

/** A client that speaks bytes, and reads as many as it asks for. */
export class RawClient {
  readonly socket: Socket;
  readonly closed: Promise<void>;
  #received = Buffer.alloc(0);
  #wake: () => void = () => undefined;
  #ended = false;

  constructor(address: BoundAddress) {
    this.socket = "path" in address ? connect(address.path) : connect(address.port, address.host);
    this.socket.on("data", (bytes) => {
      this.#received = Buffer.concat([this.#received, bytes]);
      this.#wake();
    });
    this.closed = new Promise((resolve) => {
      this.socket.on("close", () => {
        this.#ended = true;
        this.#wake();
        resolve();
      });
    });
    this.socket.on("error", () => this.socket.destroy());
    onTestFinished(() => void this.socket.destroy());
  }

  send(...bytes: readonly Uint8Array[]): void {
    this.socket.write(Buffer.concat(bytes));
  }

  /** Exactly so many bytes. */
  async read(length: number): Promise<Buffer> {
    while (this.#received.length < length) {
      if (this.#ended) throw new Error(`closed after ${this.#received.length} of ${length} bytes`);
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
    const bytes = this.#received.subarray(0, length);
    this.#received = this.#received.subarray(length);
    return bytes;
  }

  /** Everything until the server closes. */
  async readAll(): Promise<Buffer> {
    await this.closed;
    return this.#received;
  }
}
