/** Guests that write at full speed: from the main thread through promises, and from threads of the embedder's own. */
import { once } from "node:events";
import { Worker } from "node:worker_threads";
import type { Disk, Runtime } from "@heirloom/runtime";
import { seeded } from "./scene.fixture.ts";

const runtimeUrl = new URL("../dist/index.js", import.meta.url).href;

/** A thread of the embedder's: opens the disk that it is sent and runs `body` with `disk`, `data` (workerData) and `port`. */
export function guestThread(
  runtime: Runtime,
  disk: Disk,
  body: string,
  data: Readonly<Record<string, unknown>> = {},
): Worker {
  const program = `
    const { parentPort: port, workerData: data } = require("node:worker_threads");
    port.once("message", async (handle) => {
      const { openDisk } = await import(data.runtimeUrl);
      const disk = openDisk(handle);
      ${body}
    });`;
  const worker = new Worker(program, { eval: true, workerData: { ...data, runtimeUrl } });
  runtime.register(worker);
  worker.postMessage(disk.handle());
  return worker;
}

/** Random writes, discards and zeroes of 512 bytes to 256 KiB, until \`stop\` is set. */
const writeOn = `
  const stop = new Int32Array(data.stop);
  let state = data.seed >>> 0;
  const random = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state >>> 8) / 2 ** 24;
  };
  const buffer = new Uint8Array(262144);
  let requests = 0;
  while (Atomics.load(stop, 0) === 0) {
    const size = 512 + Math.floor(random() ** 4 * (buffer.length - 512));
    const offset = Math.floor(random() * (disk.length - size));
    const kind = random();
    if (kind < 0.9) {
      buffer.fill(1 + Math.floor(random() * 255), 0, size);
      disk.write(buffer.subarray(0, size), offset);
    } else if (kind < 0.95) disk.discard(offset, size);
    else disk.writeZeroes(offset, size, random() < 0.5);
    if (++requests === 64) port.postMessage("warm");
  }
  disk.close();
  process.exit(0);
`;

export class Guests {
  readonly #stop = new Int32Array(new SharedArrayBuffer(4));
  readonly #ends: Promise<unknown>[] = [];
  readonly #warm: Promise<unknown>[] = [];
  /** What the guests were told that they should not have been. */
  readonly errors: unknown[] = [];

  /** @param disks written from the main thread, and each from a thread */
  constructor(runtime: Runtime, disks: readonly Disk[], seed: number) {
    disks.forEach((disk, index) => {
      const worker = guestThread(runtime, disk, writeOn, { stop: this.#stop.buffer, seed: seed + index });
      worker.once("error", (error) => this.errors.push(error));
      this.#warm.push(Promise.race([once(worker, "message"), once(worker, "exit")]));
      this.#ends.push(once(worker, "exit"), this.#writeHere(disk, seed + index + 1000));
    });
  }

  /** All of them are writing. */
  async writing(): Promise<void> {
    await Promise.all(this.#warm);
  }

  async stop(): Promise<void> {
    Atomics.store(this.#stop, 0, 1);
    await Promise.all(this.#ends);
    if (this.errors.length > 0) throw this.errors[0];
  }

  async #writeHere(disk: Disk, seed: number): Promise<void> {
    const random = seeded(seed);
    try {
      while (Atomics.load(this.#stop, 0) === 0) {
        const batch = Array.from({ length: 8 }, () => {
          const size = 1 + Math.floor(random() ** 3 * 100_000);
          return disk.write(
            new Uint8Array(size).fill(1 + Math.floor(random() * 255)),
            Math.floor(random() * (disk.length - size)),
          );
        });
        await Promise.all(batch);
      }
    } catch (error) {
      this.errors.push(error);
    }
  }
}
