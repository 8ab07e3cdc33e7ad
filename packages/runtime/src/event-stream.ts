/**
 * Events, three ways: an async iterable and calls for whoever holds the runtime, and the diagnostics channel `heirloom:event` for
 * whoever watches the process. A reader that does not read loses the oldest events, and is told how many.
 */
import { channel } from "node:diagnostics_channel";
import type { RuntimeEvent } from "./options.ts";

const diagnostics = channel("heirloom:event");
const waitingMax = 10_000;

export class EventStream {
  readonly #readers = new Set<Reader>();
  readonly #listeners = new Set<(event: RuntimeEvent) => void>();
  #closed = false;

  emit(event: RuntimeEvent): void {
    if (diagnostics.hasSubscribers) diagnostics.publish(event);
    for (const listener of this.#listeners) callOut(listener, event);
    for (const reader of this.#readers) reader.push(event);
  }

  listen(listener: (event: RuntimeEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** Events from now on, until the runtime closes, the signal is aborted or the loop is left. */
  read(signal?: AbortSignal): AsyncIterableIterator<RuntimeEvent> {
    const abort = (): void => reader.end();
    const reader = new Reader(() => {
      this.#readers.delete(reader);
      signal?.removeEventListener("abort", abort);
    });
    if (this.#closed || signal?.aborted === true) reader.end();
    else {
      this.#readers.add(reader);
      signal?.addEventListener("abort", abort, { once: true });
    }
    return reader;
  }

  close(): void {
    this.#closed = true;
    for (const reader of this.#readers) reader.end();
  }
}

/**
 * Events are told in the middle of what they tell of: a listener that throws must not leave that half done. Its error is the process's,
 * as that of a subscriber of a diagnostics channel is.
 */
function callOut(listener: (event: RuntimeEvent) => void, event: RuntimeEvent): void {
  try {
    listener(event);
  } catch (error) {
    process.nextTick(() => {
      throw error;
    });
  }
}

class Reader implements AsyncIterableIterator<RuntimeEvent> {
  readonly #waiting: RuntimeEvent[] = [];
  readonly #onEnd: () => void;
  /** Whoever waits in `next`: several may. */
  readonly #wakes: (() => void)[] = [];
  #lost = 0;
  #ended = false;

  constructor(onEnd: () => void) {
    this.#onEnd = onEnd;
  }

  push(event: RuntimeEvent): void {
    if (this.#waiting.length === waitingMax) {
      this.#waiting.shift();
      this.#lost++;
    }
    this.#waiting.push(event);
    this.#wake();
  }

  end(): void {
    this.#ended = true;
    this.#onEnd();
    this.#wake();
  }

  #wake(): void {
    for (const wake of this.#wakes.splice(0)) wake();
  }

  async next(): Promise<IteratorResult<RuntimeEvent>> {
    for (;;) {
      if (this.#lost > 0) {
        const event = { at: Date.now(), name: "EVENTS_LOST", data: { count: this.#lost } };
        this.#lost = 0;
        return { done: false, value: event };
      }
      const event = this.#waiting.shift();
      if (event !== undefined) return { done: false, value: event };
      if (this.#ended) return { done: true, value: undefined };
      await new Promise<void>((resolve) => this.#wakes.push(resolve));
    }
  }

  async return(): Promise<IteratorResult<RuntimeEvent>> {
    this.#waiting.length = 0;
    this.end();
    return { done: true, value: undefined };
  }

  [Symbol.asyncIterator](): AsyncIterableIterator<RuntimeEvent> {
    return this;
  }
}
