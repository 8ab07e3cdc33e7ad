/**
 * The process that is killed in the middle of a resumable backup, again and again, until the backup has ended. At the freeze it
 * copies the disk: the point in time that the target has to have in the end, however often it was cut off.
 */
import { once } from "node:events";
import { copyFileSync } from "node:fs";
import { Worker } from "node:worker_threads";
import { createRuntime } from "../../packages/runtime/dist/index.js";

/** @type {{ image: string, shadow: string, target: string, seed: string, attached: boolean, sync: "full" | "incremental", syncSpill: boolean, speed: number,
 *   length: number }} */
const options = JSON.parse(process.argv[2]);
const tell = (/** @type {object} */ line) => process.stdout.write(`${JSON.stringify(line)}\n`);

const runtime = createRuntime({
  spill: { allowTmpfs: true, floor: 0 },
  guestDelayMax: 2000,
  observeFreeze: () => copyFileSync(options.image, options.shadow),
});
const disk = await runtime.attach(
  { driver: "file", filename: options.image },
  { journal: { allowTmpfs: true, settleMs: 50 } },
);
if (disk.bitmaps.list().length === 0) await disk.bitmaps.add("daily", { persistent: true });
const spec = { driver: "file", filename: options.target };
// As a disk of its own its bytes are counted; as a file the kernel copies.
const target = options.attached ? await runtime.attach(spec, { name: "target", journal: false }) : spec;

const [found] = runtime.jobs;
const { state } = disk.bitmaps.get("daily");
if (found !== undefined && (state !== "frozen" || found.info.status !== "paused"))
  throw new Error(`the job is ${found.info.status} and its bitmap ${state}`);
tell({
  word: "attached",
  resumed: found !== undefined,
  offset: found?.info.offset ?? 0,
  story: disk.bitmaps.history("daily")[0].reason,
});

const worker = new Worker(new URL("./killed-guest.mjs", import.meta.url), {
  workerData: { seed: options.seed, from: 0, length: options.length },
});
runtime.register(worker);
worker.postMessage(disk.handle());
await once(worker, "message"); // it writes

let job = found;
if (job === undefined) {
  const { sync, speed, syncSpill } = options;
  const kept = { bitmap: "daily", bitmapMode: "on-success", resumable: true, syncSpill };
  job = await runtime.backup({ disk, target, sync, speed, ...kept });
  tell({ word: "frozen" });
} else await runtime.resume(job, { target });

tell({ word: "copying" });
const progress = setInterval(() => {
  tell({ word: "progress", offset: job.info.offset, written: options.attached ? target.traffic.bytes : 0 });
}, 10);
const { status, error, offset, length } = await job.done;
clearInterval(progress);
tell({ word: "done", status, error, offset, length, written: options.attached ? target.traffic.bytes : 0 });
await worker.terminate();
await runtime.close();
