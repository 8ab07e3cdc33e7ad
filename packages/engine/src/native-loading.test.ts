/** A process that exits while its threads load native code ends as it was told, and not by an abort. */
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, test } from "vitest";

/** Each thread loads for some 20 ms, some 40 ms after its start; busy machines take longer. */
const afterMs = [0, 20, 30, 40, 50, 60, 70, 80, 100, 130, 170, 220];

/** @returns how a process of this program ended */
async function endOf(program: string): Promise<unknown> {
  return promisify(execFile)(process.execPath, ["--input-type=module", "-e", program], {
    cwd: fileURLToPath(new URL("..", import.meta.url)),
    timeout: 30_000,
  }).catch((error: unknown) => error);
}

test.each(afterMs)("process.exit %i ms after threads were asked for", async (delay) => {
  const exit = await endOf(`
    import { Engine } from "@heirloom/engine";
    const engine = new Engine();
    for (let count = 0; count < 4; count++) void engine.openNode({ driver: "memory", size: 512 });
    setTimeout(() => process.exit(7), ${delay});`);
  expect(exit).toMatchObject({ code: 7, signal: null });
});

/** Threads of an embedder's open a disk at one moment, and say so before. @param then what the main thread does some time after that */
function embedder(delay: number, then: string): string {
  return `
    import { Worker } from "node:worker_threads";
    import { Engine } from "@heirloom/engine";
    const engine = new Engine();
    const layer = engine.addLayer(await engine.openNode({ driver: "memory", size: 512 }));
    const body = \`
      const { parentPort } = require("node:worker_threads");
      import(${JSON.stringify(new URL("../dist/index.js", import.meta.url).href)}).then(({ openDisk }) => {
        parentPort.once("message", (handle) => { parentPort.postMessage("opens"); openDisk(handle); });
        parentPort.postMessage("ready");
      });\`;
    const workers = Array.from({ length: 4 }, () => new Worker(body, { eval: true, execArgv: [] }));
    const said = (worker) => new Promise((resolve) => worker.once("message", resolve));
    await Promise.all(workers.map(said));
    for (const worker of workers) engine.register(worker);
    const opening = Promise.all(workers.map(said));
    for (const worker of workers) worker.postMessage(engine.handle(layer));
    await opening;
    setTimeout(() => { ${then} }, ${delay});`;
}

test.each([0, 1, 2, 4, 6, 8, 12, 16, 24])(
  "process.exit %i ms after an embedder's threads open a disk",
  async (delay) => {
    expect(await endOf(embedder(delay, "process.exit(7);"))).toMatchObject({ code: 7, signal: null });
  },
);

test("a thread that was ended while it loaded is not waited for", async () => {
  const begun = performance.now();
  const exit = await endOf(`
    import { once } from "node:events";
    import { Worker } from "node:worker_threads";
    import { Engine } from "@heirloom/engine";
    const engine = new Engine();
    const { nativeLoading } = engine.address();
    const body = \`
      import(${JSON.stringify(new URL("../dist/native-loading.js", import.meta.url).href)}).then(({ loadNative }) => {
        loadNative(require("node:worker_threads").workerData, () => {
          require("node:worker_threads").parentPort.postMessage("loads");
          Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
        });
      });\`;
    const worker = new Worker(body, { eval: true, execArgv: [], workerData: nativeLoading });
    engine.register(worker);
    await once(worker, "message");
    await worker.terminate();
    process.exit(7);`);
  expect(exit).toMatchObject({ code: 7, signal: null });
  expect(performance.now() - begun).toBeLessThan(9000); // it would be 10 s
});
