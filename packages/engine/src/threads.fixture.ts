/** Threads for tests: a module's text that runs in a worker of its own, with the engine's files by name. */
import { Worker } from "node:worker_threads";

const dist = new URL("../dist/", import.meta.url).href;

export interface TestThread {
  readonly worker: Worker;
  /** The next message that comes. */
  next(): Promise<unknown>;
  send(message: unknown): void;
}

/** @param body what runs; `load(name)` imports a file of the engine, `parentPort` and `workerData` are there */
export function startThread(body: string, workerData: Record<string, unknown> = {}): TestThread {
  const source = `
    import { parentPort, workerData, threadId } from "node:worker_threads";
    const load = (name) => import(workerData.dist + name);
    const receive = () => new Promise((resolve) => parentPort.once("message", resolve));
    ${body}
  `;
  const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(source)}`), {
    workerData: { ...workerData, dist },
  });
  const queue: unknown[] = [];
  const waiting: { resolve: (message: unknown) => void; reject: (error: unknown) => void }[] = [];
  worker.on("message", (message: unknown) => {
    const first = waiting.shift();
    if (first === undefined) queue.push(message);
    else first.resolve(message);
  });
  worker.on("error", (error) => {
    for (const one of waiting.splice(0)) one.reject(error);
  });
  return {
    worker,
    next: () =>
      queue.length > 0
        ? Promise.resolve(queue.shift())
        : new Promise((resolve, reject) => waiting.push({ resolve, reject })),
    send: (message) => worker.postMessage(message),
  };
}
