/** A node on a worker thread of its own, whose verbs are called from here: what it answers comes as a promise. */
import { once } from "node:events";
import { createRequire } from "node:module";
import { Worker } from "node:worker_threads";
import type { NodeHandle } from "@heirloom/block";
import { onTestFinished } from "vitest";

const blockUrl = `file://${createRequire(import.meta.url).resolve("@heirloom/block")}`;

const program = `
const { parentPort, workerData } = require("node:worker_threads");
import(workerData.blockUrl).then(async (block) => {
  await block.loadDrivers(workerData.handle);
  const node = block.connectNode(workerData.handle);
  parentPort.on("message", ({ id, verb, args, bytes }) => {
    const buffer = bytes && new Uint8Array(bytes);
    const extent = {};
    const errno = node[verb](...(buffer ? [buffer] : []), ...args, ...(verb === "status" ? [extent] : []));
    parentPort.postMessage({ id, errno, extent });
  });
  parentPort.postMessage({ id: 0 });
});`;

export class NodeThread {
  readonly #worker: Worker;
  readonly #waiting: Map<number, (answer: { errno: number }) => void> = new Map();
  #calls = 0;

  private constructor(handle: NodeHandle) {
    this.#worker = new Worker(program, { eval: true, workerData: { blockUrl, handle } });
    this.#worker.on("message", (answer: { id: number; errno: number }) => {
      this.#waiting.get(answer.id)?.(answer);
      this.#waiting.delete(answer.id);
    });
  }

  static async start(handle: NodeHandle): Promise<NodeThread> {
    const thread = new NodeThread(handle);
    onTestFinished(() => thread.end());
    await new Promise((resolve) => thread.#waiting.set(0, resolve));
    return thread;
  }

  /** Waits for a thread that sits in a system call: whoever calls it has ended that. */
  async end(): Promise<void> {
    await this.#worker.terminate();
  }

  /** Ends the thread wherever it is, as an error would. */
  async die(): Promise<void> {
    const exit = once(this.#worker, "exit");
    void this.#worker.terminate();
    await exit;
  }

  read(buffer: SharedArrayBuffer, offset: number): Promise<number> {
    return this.#call("read", [offset], buffer);
  }
  write(buffer: SharedArrayBuffer, offset: number): Promise<number> {
    return this.#call("write", [offset], buffer);
  }
  flush(): Promise<number> {
    return this.#call("flush", []);
  }

  async #call(verb: string, args: unknown[], bytes?: SharedArrayBuffer): Promise<number> {
    const id = ++this.#calls;
    const answer = new Promise<{ errno: number }>((resolve) => this.#waiting.set(id, resolve));
    this.#worker.postMessage({ id, verb, args, bytes });
    return (await answer).errno;
  }
}
