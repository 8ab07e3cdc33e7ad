/** SIGINT, SIGTERM and SIGHUP, one after the other, for whoever waits for the next one. */
const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

export class StopSignals {
  readonly #arrived: string[] = [];
  #wake: (() => void) | undefined;
  readonly #listener = (signal: string): void => {
    this.#arrived.push(signal);
    this.#wake?.();
  };

  constructor() {
    for (const signal of SIGNALS) process.on(signal, this.#listener);
  }

  /** As if it had arrived. */
  push(signal: string): void {
    this.#listener(signal);
  }

  /** One reader at a time. */
  async next(): Promise<string> {
    for (;;) {
      const signal = this.#arrived.shift();
      if (signal !== undefined) return signal;
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  /** From here on they end the process, as they do by themselves. */
  [Symbol.dispose](): void {
    for (const signal of SIGNALS) process.off(signal, this.#listener);
  }
}
