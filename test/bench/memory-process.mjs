// What a runtime takes, measured in a process that does nothing else. Prints one line of JSON, bytes.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { createRuntime } from "./heirloom.mjs";

const [directory, mode] = process.argv.slice(2);
const jobs = mode === "quick" ? { early: 20, late: 100 } : { early: 100, late: 1000 };
const length = 2 ** 40;
const clusterSize = 65536;

/** When it has settled: threads start and stop, and V8 gives memory back, some time after the call that caused it. */
async function residentBytes() {
  await sleep(500);
  return Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync("/proc/self/status", "utf8"))[1]) * 1024;
}

const runtime = createRuntime();
const idle = await residentBytes();
const small = await runtime.attach({ driver: "null-co", size: clusterSize });
await small.detach();
const helper = await residentBytes();

const disk = await runtime.attach({ driver: "file", filename: join(directory, "source.raw"), create: { length } });
await disk.bitmaps.add("daily", { granularity: clusterSize });
const attached = await residentBytes();

const block = new Uint8Array(4096).fill(7);
const target = { driver: "file", filename: join(directory, "target.raw"), create: { length, overwrite: true } };
let done = 0;
async function runJobs(until) {
  for (; done < until; done++) {
    const writes = Array.from({ length: 64 }, (_, at) => disk.write(block, ((done * 64 + at) % 2 ** 20) * clusterSize));
    await Promise.all(writes);
    const job = await runtime.backup({ disk, target, bitmap: "daily" });
    const result = await job.done;
    if (result.status !== "completed") throw new Error(`backup: ${result.error}`);
  }
  return residentBytes();
}
const early = await runJobs(jobs.early);
const late = await runJobs(jobs.late);
process.stdout.write(JSON.stringify({ idle, helper, attached, early, late, jobs }));
await runtime.close();
