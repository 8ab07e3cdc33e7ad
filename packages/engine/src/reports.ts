/**
 * What a long task says before it ends. It comes by its thread's own port and is told apart by a number: a port for each
 * task would cost both sides more than most tasks do, and V8 keeps a closed port, with all that it knows, until it collects
 * everything.
 */
import { parentPort } from "node:worker_threads";

interface Message {
  readonly reporter: number;
  readonly report: unknown;
}

/** On the task's thread. */
export function report(reporter: number, said: unknown): void {
  parentPort?.postMessage({ reporter, report: said } satisfies Message);
}

/** The main thread's side of one task. */
export interface Listening {
  readonly reporter: number;
  /** Resolves once this many reports have come. */
  heard(count: number): Promise<void>;
  /** What is said from now on is not listened to. */
  close(): void;
}

interface Listener {
  readonly hear: (said: unknown) => void;
  count: number;
  awaited: number;
  reached: (() => void) | undefined;
}

export class Reports {
  readonly #listeners = new Map<number, Listener>();
  #last = 0;

  listen<Report>(hear: (report: Report) => void): Listening {
    const reporter = ++this.#last;
    const listener: Listener = { hear: hear as Listener["hear"], count: 0, awaited: 0, reached: undefined };
    this.#listeners.set(reporter, listener);
    return {
      reporter,
      heard: (count) =>
        listener.count >= count
          ? Promise.resolve()
          : new Promise((resolve) => {
              listener.awaited = count;
              listener.reached = resolve;
            }),
      close: () => void this.#listeners.delete(reporter),
    };
  }

  /** A message of a thread's. */
  take(message: unknown): void {
    const { reporter, report: said } = message as Message;
    const listener = this.#listeners.get(reporter);
    if (listener === undefined) return;
    listener.count++;
    listener.hear(said);
    if (listener.count >= listener.awaited) listener.reached?.();
  }
}
