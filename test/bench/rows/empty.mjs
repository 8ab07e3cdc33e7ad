/** Row 6: an incremental that finds nothing to copy, on a disk of 1 TiB: what a backup costs that has no work. */
import { createRuntime } from "../heirloom.mjs";
import { median, percentile } from "../sampling.mjs";
import { Stage } from "../stage.mjs";

const length = 2 ** 40;

export const name = "empty";
export const title = "an incremental with nothing to copy, command to completion";

export async function* figures({ quick }) {
  const stage = new Stage("disk");
  const runtime = createRuntime();
  try {
    const disk = await runtime.attach({ driver: "file", filename: stage.path("source.raw"), create: { length } });
    await disk.bitmaps.add("daily", { granularity: 65536 });
    const target = { driver: "file", filename: stage.path("target.raw"), create: { length, overwrite: true } };
    const times = [];
    for (let count = -3; count < (quick ? 5 : 20); count++) {
      const begin = performance.now();
      const job = await runtime.backup({ disk, target, bitmap: "daily" });
      const result = await job.done;
      if (result.status !== "completed") throw new Error(`backup: ${result.error}`);
      if (count >= 0) times.push(performance.now() - begin);
    }
    const ours = median(times);
    const note = `${times.length} samples: p99 ${percentile(times, 0.99).toFixed(2)} ms; opening and closing the target included`;
    yield {
      row: name,
      what: "empty incremental of 1 TiB, sparse",
      ours,
      unit: "ms",
      bar: "< 20 ms",
      reached: ours < 20,
      note,
    };
  } finally {
    await runtime.close();
    stage.close();
  }
}
