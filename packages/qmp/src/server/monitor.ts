/**
 * A monitor: one client at a time. Who connects while another is served waits, without a greeting, until that one has gone;
 * who gives up meanwhile is forgotten.
 */
import type { Duplex } from "node:stream";
import { type Output, type QmpEvent, Session, type SessionOptions } from "./session.ts";

/** More are turned away. */
const waitingMax = 64;

/** For commands that a client has left behind, milliseconds. */
const lastAnswersMs = 1000;

export type MonitorLog = (message: string) => void;

export class Monitor {
  readonly #options: SessionOptions;
  readonly #log: MonitorLog;
  #present: { readonly stream: Duplex; readonly session: Session; readonly output: StreamOutput } | undefined;
  readonly #waiting: Duplex[] = [];
  #closed = false;

  constructor(options: SessionOptions, log: MonitorLog = () => {}) {
    this.#options = options;
    this.#log = log;
  }

  /** A client. Sockets must not be read before. */
  accept(stream: Duplex): void {
    stream.on("error", () => {}); // `close` follows, and is what counts
    stream.on("close", () => this.#gone(stream));
    if (this.#closed || this.#waiting.length >= waitingMax) {
      stream.destroy();
      return;
    }
    this.#waiting.push(stream);
    this.#next();
  }

  event(event: QmpEvent): void {
    this.#present?.session.event(event);
  }

  /** Sends what is left to the present client, for a bounded time, and lets everybody go. */
  async close(timeoutMs: number = 200): Promise<void> {
    this.#closed = true;
    for (const stream of this.#waiting.splice(0)) stream.destroy();
    const present = this.#present;
    if (present === undefined) return;
    const { stream, output } = present;
    output.flush();
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, timeoutMs);
      stream.end(() => {
        clearTimeout(timer);
        resolve();
      });
    });
    present.session.close();
    stream.destroy();
  }

  #next(): void {
    if (this.#present !== undefined || this.#closed) return;
    const stream = this.#waiting.shift();
    if (stream === undefined) return;
    const output = new StreamOutput(stream, this.#log);
    const session = new Session(this.#options, output);
    this.#present = { stream, session, output };
    stream.on("data", (chunk: Buffer) => session.feed(chunk));
    // It has said everything that it wants to, or is gone: from here the two look the same. What runs is answered before it
    // goes, and the next client does not wait for longer than that may take.
    stream.on("end", () => {
      let timer: NodeJS.Timeout | undefined;
      const late = new Promise<void>((resolve) => (timer = setTimeout(resolve, lastAnswersMs)));
      void Promise.race([session.answered(), late]).then(() => {
        clearTimeout(timer);
        output.flush();
        stream.end();
      });
    });
    stream.resume();
  }

  #gone(stream: Duplex): void {
    const index = this.#waiting.indexOf(stream);
    if (index >= 0) this.#waiting.splice(index, 1);
    if (this.#present?.stream !== stream) return;
    this.#present.session.close();
    this.#present = undefined;
    this.#next();
  }
}

/** Lines of one turn of the event loop go out in one write: a job has eight events, and the kernel's call is the dear part. */
class StreamOutput implements Output {
  readonly #stream: Duplex;
  readonly #log: MonitorLog;
  #gathered = "";

  constructor(stream: Duplex, log: MonitorLog) {
    this.#stream = stream;
    this.#log = log;
  }

  get unsent(): number {
    return this.#stream.writableLength + this.#gathered.length;
  }

  write(text: string): void {
    if (this.#gathered === "") setImmediate(() => this.flush());
    this.#gathered += text;
  }

  flush(): void {
    const text = this.#gathered;
    this.#gathered = "";
    if (text !== "" && this.#stream.writable) this.#stream.write(text);
  }

  async drained(): Promise<void> {
    this.flush();
    const stream = this.#stream;
    if (stream.destroyed || !stream.writableNeedDrain) return;
    await new Promise<void>((resolve) => {
      const done = (): void => {
        stream.off("drain", done);
        stream.off("close", done);
        resolve();
      };
      stream.on("drain", done);
      stream.on("close", done);
    });
  }

  drop(reason: string): void {
    this.#log(`a client of the monitor was dropped: ${reason}`);
    this.#stream.destroy();
  }

  pause(): void {
    this.#stream.pause();
  }
  resume(): void {
    if (this.#stream.isPaused()) this.#stream.resume();
  }
}

/** For `net.createServer`: nothing is read from a client that waits, so that its bytes stay with it. */
export const monitorSocketOptions: { readonly pauseOnConnect: true; readonly allowHalfOpen: true } = {
  pauseOnConnect: true,
  allowHalfOpen: true,
};
