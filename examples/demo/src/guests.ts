/** The guests, for the main thread: starts and stops them, says what is measured when, and adds up their figures. */
import { Worker } from "node:worker_threads";
import type { Disk, Runtime } from "@heirloom/runtime";
import { now } from "./clock.ts";
import type { GuestData } from "./guest.ts";
import { type Figures, GuestMemory, type Phase, uncounted } from "./guest-memory.ts";
import type { Area } from "./image.ts";

export interface PhaseFigures extends Figures {
  /** Seconds measured, shadow copies left out. */
  readonly seconds: number;
  readonly iops: number;
}

export class Guests {
  readonly count: number;
  readonly memory: GuestMemory;
  readonly #workers: Worker[] = [];
  readonly #exits: Promise<void>[] = [];
  readonly #measuredMs = new Map<Phase, number>();
  #phase: Phase = uncounted;
  #since = now();
  #failed: Error | undefined;

  constructor(count: number) {
    this.count = count;
    this.memory = new GuestMemory(count);
  }

  start(runtime: Runtime, disk: Disk, areas: readonly Area[], seed: number): void {
    for (let guest = 0; guest < this.count; guest++) {
      const workerData: GuestData = { guest, guests: this.count, seed, areas, memory: this.memory.buffer };
      const worker = new Worker(new URL("./guest.js", import.meta.url), { workerData });
      runtime.register(worker); // before it is given a disk
      worker.postMessage(disk.handle());
      worker.on("error", (error: Error) => (this.#failed ??= error));
      this.#workers.push(worker);
      this.#exits.push(new Promise((resolve) => worker.once("exit", () => resolve())));
    }
  }

  /** Resolves when the guests are at it. @throws if one failed instead */
  async writing(): Promise<void> {
    while (this.memory.figures().requests < 100 * this.count) {
      this.check();
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  /** @throws the error of a guest that failed */
  check(): void {
    if (this.#failed !== undefined) throw new Error(`a guest failed: ${this.#failed.message}`, { cause: this.#failed });
  }

  /** From now on this is measured. */
  measure(phase: Phase): void {
    const at = now();
    const spent = at - this.#since - this.memory.observedWithin(this.#since, at);
    this.#measuredMs.set(this.#phase, (this.#measuredMs.get(this.#phase) ?? 0) + spent);
    this.#since = at;
    this.#phase = phase;
    this.memory.phase = phase;
  }

  /** @param kinds of requests: 0 a write, 1 a discard, 2 a write of zeroes; all where not given */
  figures(phase: Phase, kinds?: readonly number[]): PhaseFigures {
    const figures = this.memory.figures([phase], kinds);
    const seconds = (this.#measuredMs.get(phase) ?? 0) / 1000;
    return { ...figures, seconds, iops: seconds === 0 ? 0 : figures.requests / seconds };
  }

  async stop(): Promise<void> {
    this.memory.stop();
    await Promise.all(this.#exits);
  }
}
