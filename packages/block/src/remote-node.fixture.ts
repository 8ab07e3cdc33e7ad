/**
 * A node on a worker thread whose verbs are called from here, one at a time: the caller sleeps in Atomics.wait until
 * the thread has answered. So requests from two threads have an order, and a plain model stays an exact oracle.
 */
import { once } from "node:events";
import { createRequire } from "node:module";
import { MessageChannel, type MessagePort, Worker } from "node:worker_threads";
import type { BlockNode, Errno, NodeHandle, RequestKind, StatusExtent } from "@heirloom/block";

/** What `import` needs on a thread that has no import map: the package as it ships. */
export const blockUrl: string = `file://${createRequire(import.meta.url).resolve("@heirloom/block")}`;

const BUFFER_LENGTH = 4 * 2 ** 20;
const CALLS = 0;
const ANSWERS = 1;

/** Threads are plain JavaScript, so that they load on every Node. */
const program = `
const { workerData, receiveMessageOnPort } = require("node:worker_threads");
import(workerData.blockUrl).then(async (block) => {
  const { handle, port, words, bytes, result } = workerData;
  await block.loadDrivers(handle);
  const node = block.connectNode(handle);
  const extent = { length: 0, zero: false, allocated: false };
  for (let calls = 0; ; calls++) {
    Atomics.store(words, 1, calls);
    Atomics.notify(words, 1);
    Atomics.wait(words, 0, calls);
    const { verb, args } = receiveMessageOnPort(port).message;
    if (verb === "end") { port.close(); return; }
    if (verb === "read" || verb === "write") args.unshift(bytes.subarray(0, args.pop()));
    if (verb === "status") args.push(extent);
    result[0] = node[verb](...args);
    result[1] = extent.length; result[2] = Number(extent.zero); result[3] = Number(extent.allocated);
  }
});`;

export class RemoteNode implements BlockNode {
  readonly direct = undefined;
  readonly #worker: Worker;
  readonly #port: MessagePort;
  readonly #words: Int32Array;
  readonly #bytes: Uint8Array;
  readonly #result: Float64Array;
  #calls = 0;

  private constructor(handle: NodeHandle) {
    const { port1, port2 } = new MessageChannel();
    this.#port = port1;
    this.#words = new Int32Array(new SharedArrayBuffer(8)).fill(-1, ANSWERS);
    this.#bytes = new Uint8Array(new SharedArrayBuffer(BUFFER_LENGTH));
    this.#result = new Float64Array(new SharedArrayBuffer(32));
    this.#worker = new Worker(program, {
      eval: true,
      workerData: { blockUrl, handle, port: port2, words: this.#words, bytes: this.#bytes, result: this.#result },
      transferList: [port2],
    });
  }

  static async start(handle: NodeHandle): Promise<RemoteNode> {
    const node = new RemoteNode(handle);
    const failed = once(node.#worker, "error").then(([error]) => Promise.reject(error as Error));
    const ready = Atomics.waitAsync(node.#words, ANSWERS, -1).value;
    await Promise.race([failed, once(node.#worker, "exit"), ready]);
    failed.catch(() => undefined);
    return node;
  }

  async end(): Promise<void> {
    const exit = once(this.#worker, "exit");
    this.#post("end", []);
    await exit;
  }

  length(): number {
    return this.#call("length", []);
  }
  read(buffer: Uint8Array, offset: number): Errno {
    const errno = this.#call("read", [offset, buffer.length]);
    buffer.set(this.#bytes.subarray(0, buffer.length));
    return errno;
  }
  write(buffer: Uint8Array, offset: number): Errno {
    this.#bytes.set(buffer);
    return this.#call("write", [offset, buffer.length]);
  }
  discard(offset: number, length: number): Errno {
    return this.#call("discard", [offset, length]);
  }
  writeZeroes(offset: number, length: number, unmap: boolean): Errno {
    return this.#call("writeZeroes", [offset, length, unmap]);
  }
  flush(): Errno {
    return this.#call("flush", []);
  }
  status(offset: number, length: number, extent: StatusExtent): Errno {
    const errno = this.#call("status", [offset, length]);
    extent.length = this.#result[1];
    extent.zero = this.#result[2] === 1;
    extent.allocated = this.#result[3] === 1;
    return errno;
  }
  resize(length: number): Errno {
    return this.#call("resize", [length]);
  }
  admit(kind: RequestKind, length: number): number {
    return this.#call("admit", [kind, length]);
  }

  #post(verb: string, args: unknown[]): void {
    this.#port.postMessage({ verb, args });
    Atomics.store(this.#words, CALLS, ++this.#calls);
    Atomics.notify(this.#words, CALLS);
  }

  #call(verb: string, args: unknown[]): number {
    this.#post(verb, args);
    for (;;) {
      const answers = Atomics.load(this.#words, ANSWERS);
      if (answers === this.#calls) return this.#result[0];
      if (Atomics.wait(this.#words, ANSWERS, answers, 10_000) === "timed-out") throw new Error(`${verb}: no answer`);
    }
  }
}
