// The guest's side of the micro-benchmarks: writes to disks that it was given, timed by tinybench on a thread of its own. Where a
// task wants a fresh point in time before each of its rounds, it asks the main thread for one.
import { once } from "node:events";
import { parentPort, workerData } from "node:worker_threads";
import { Bench } from "tinybench";
import { openDisk } from "./heirloom.mjs";
import { noise } from "./stage.mjs";

const { disks, tasks, timeMs } = workerData;
const opened = new Map(Object.entries(disks).map(([name, handle]) => [name, openDisk(handle)]));
const bench = new Bench({ time: timeMs, warmupTime: timeMs / 5 });
for (const { what, disk, bytes, stride, count, view } of tasks) {
  const { io } = opened.get(disk);
  const data = noise(bytes, 3);
  const run = () => {
    for (let index = 0; index < count; index++) io.write(data, index * stride);
  };
  bench.add(what, run, view ? { beforeEach: () => ask("view"), afterEach: () => ask("drop") } : {});
}
await bench.run();
for (const disk of opened.values()) disk.close();
parentPort.postMessage({
  results: bench.tasks.map(({ name, result }) => ({ name, state: result.state, ms: result.latency?.p50 })),
});
parentPort.close();

async function ask(word) {
  parentPort.postMessage({ word });
  await once(parentPort, "message");
}
