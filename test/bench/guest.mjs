/** A guest on a thread of its own, as an embedder would run it, and what it got done. */
import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { Histogram } from "./sampling.mjs";

export class Guest {
  #worker;
  #control = new Int32Array(new SharedArrayBuffer(4));
  #phases = 0;
  #reports = [];
  #failed;

  /** Opens a disk on a new thread. @param length bytes of the disk that it writes to, from the start */
  static async start(runtime, disk, { length = disk.length, seed = 12345 } = {}) {
    const guest = new Guest();
    const workerData = { handle: undefined, control: guest.#control, length, seed };
    // The thread is registered before it runs a line of its program, and is given the disk with its data.
    workerData.handle = disk.handle();
    guest.#worker = new Worker(new URL("./guest-thread.mjs", import.meta.url), { workerData });
    runtime.register(guest.#worker);
    guest.#worker.on("message", (report) => guest.#reports.shift()?.(report));
    guest.#failed = once(guest.#worker, "error").then(([error]) => Promise.reject(error));
    guest.#failed.catch(() => {});
    await guest.#next();
    return guest;
  }

  /** Writes from now on, as fast as it can. */
  begin() {
    Atomics.store(this.#control, 0, ++this.#phases);
    Atomics.notify(this.#control, 0);
  }

  /** Stops writing. @returns {Promise<{ iops: number, histogram: Histogram, elapsedMs: number, longestAt: number }>} what it did since `begin` */
  async end() {
    const reported = this.#next();
    Atomics.store(this.#control, 0, 0);
    const report = await reported;
    const histogram = new Histogram(report.counts);
    histogram.max = report.max;
    histogram.total = report.total;
    const { elapsedMs, longestAt } = report;
    return { iops: (report.total * 1000) / elapsedMs, histogram, elapsedMs, longestAt };
  }

  async close() {
    const exit = once(this.#worker, "exit");
    Atomics.store(this.#control, 0, -1);
    Atomics.notify(this.#control, 0);
    await exit;
  }

  #next() {
    return Promise.race([new Promise((resolve) => this.#reports.push(resolve)), this.#failed]);
  }
}
