/**
 * The process that is killed: a disk with a persistent bitmap, guests on threads of its own or over NBD, and backups that go on
 * all the while. What it tells its parent are lines of JSON on its standard output.
 *
 * A backup's target is the restored image itself. One that is cut off leaves it half old and half new, and its bitmap, reclaimed,
 * says so: the next incremental makes it right again, or the bitmap was wrong.
 */
import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { createRuntime } from "../../packages/runtime/dist/index.js";
import { Random } from "../stress/random.mjs";

/** @type {{ image: string, restored: string, socket: string, seed: string, role: "guests" | "nbd" | "check", from: number, length: number, bound: number }} */
const options = JSON.parse(process.argv[2]);
const random = new Random(options.seed);
const tell = (/** @type {object} */ line) => process.stdout.write(`${JSON.stringify(line)}\n`);
const begun = performance.now();

const runtime = createRuntime({ spill: { memory: 4 * 2 ** 20, file: 0 } });
const disk = await runtime.attach(
  { driver: "file", filename: options.image },
  { journal: { allowTmpfs: true, bound: options.bound, settleMs: 50 } },
);
const attachMs = performance.now() - begun;
const target = { driver: "file", filename: options.restored };
const backup = async (/** @type {object} */ more = {}) => (await runtime.backup({ disk, target, ...more })).done;

if (disk.bitmaps.list().length === 0) {
  await disk.bitmaps.add("daily", { persistent: true });
  await backup();
}
const bitmap = disk.bitmaps.get("daily");
const other = disk.bitmaps.list().find(({ name }) => name === "other"); // killed in the middle of its short life
tell({
  word: "attached",
  attachMs,
  state: bitmap.state,
  extents: [...disk.bitmaps.extents("daily")],
  story: disk.bitmaps.history("daily")[0].reason,
});
if (other?.inconsistent === true) throw new Error("the other bitmap is inconsistent");
if (other !== undefined) await disk.bitmaps.remove("other");

if (options.role === "check") {
  const result = await backup({ bitmap: "daily" });
  tell({ word: "backed up", status: result.status, error: result.error, count: disk.bitmaps.get("daily").count });
  await runtime.close();
} else {
  if (options.role === "nbd") {
    const server = await runtime.serveNbd({ listen: [{ path: options.socket }] });
    await server.add({ disk, writable: true, name: "" });
  } else {
    for (let guest = 0; guest < 2; guest++) {
      const worker = new Worker(new URL("./killed-guest.mjs", import.meta.url), {
        workerData: { seed: `${options.seed}/${guest}`, from: options.from, length: options.length },
      });
      runtime.register(worker);
      worker.postMessage(disk.handle());
      await once(worker, "message");
    }
  }
  tell({ word: "ready" });
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, random.int(1, 60)));
    const what = random.int(0, 9);
    if (what === 0) {
      await disk.bitmaps.add("other", { persistent: true, granularity: 4096 });
      await disk.bitmaps.merge("other", ["daily"]);
      await disk.bitmaps.clear("other");
      await disk.bitmaps.remove("other");
    } else if (what === 1) {
      const job = await runtime.backup({ disk, target, bitmap: "daily", speed: 2 ** 20 });
      setTimeout(
        () => {
          try {
            job.cancel();
          } catch {
            // it has ended
          }
        },
        random.int(1, 60),
      );
      await job.done;
    } else {
      const { status, error } = await backup({ bitmap: "daily" });
      tell({ word: "backup", status, error });
    }
  }
}
