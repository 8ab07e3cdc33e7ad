/** A guest that overwrites a disk, cluster by cluster, during a backup whose spill is synced: for whoever looks at its system calls. */
import { createRuntime } from "../../packages/runtime/dist/index.js";

const [, , image, target, ...clusters] = process.argv;
const runtime = createRuntime({ guestDelayMax: 20_000, spill: { floor: 0, allowTmpfs: true } });
const disk = await runtime.attach({ driver: "file", filename: image }, { journal: { allowTmpfs: true } });
await disk.bitmaps.add("daily", { persistent: true });
const job = await runtime.backup({
  ...{ disk, bitmap: "daily", sync: "full", bitmapMode: "on-success", resumable: true, syncSpill: true },
  ...{ target: { driver: "file", filename: target }, speed: 1, maxWorkers: 1, maxChunk: 65_536 },
});
for (const cluster of clusters) await disk.write(new Uint8Array(4096).fill(7), Number(cluster) * 4096);
job.cancel();
await job.done;
await runtime.close();
