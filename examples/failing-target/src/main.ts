/**
 * What a guest and its bitmap see of targets that fail. A guest writes all the while and must get no error. A backup
 * whose target fails half-way is an orderly end: the bitmap is reclaimed, so it says what it said, and what was written
 * since. A backup whose target hangs for ever can be cancelled at once; only that target stays taken. Then the next
 * backup catches up, and must equal the disk at its freeze.
 */
import assert from "node:assert/strict";
import { copyFileSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type NodeSpec, releaseHang } from "@heirloom/block";
import { Random, seedFromArguments } from "@heirloom/example-seed";
import { createRuntime, type Disk, type JobResult, RefusalError } from "@heirloom/runtime";

const diskBytes = 32 * 1024 * 1024;
const granularity = 65536;

const seed = seedFromArguments();
const directory = mkdtempSync(join(tmpdir(), "heirloom-failing-target-"));
const image = join(directory, "vm.raw");
const shadow = join(directory, "shadow.raw");
const good: NodeSpec = { driver: "file", filename: join(directory, "backup.raw") };
const other: NodeSpec = {
  driver: "file",
  filename: join(directory, "other.raw"),
  create: { length: diskBytes, overwrite: true },
};

await using runtime = createRuntime({ spill: { file: 0 }, observeFreeze: () => copyFileSync(image, shadow) });
const disk = await runtime.attach({ driver: "file", filename: image, create: { length: diskBytes } });
await disk.bitmaps.add("daily", { granularity });

const stop = new AbortController();
let writes = 0;
let slowestMs = 0;
const guest = keepWriting(disk, new Random(seed), stop.signal);
try {
  const full = await runtime.backup({
    disk,
    bitmap: "daily",
    sync: "full",
    bitmapMode: "on-success",
    target: { ...good, create: { length: diskBytes } },
  });
  tell("full", await full.done, "completed");
  compare();

  await written(200);
  const before = dirty();
  const broken = await runtime.backup({
    disk,
    bitmap: "daily",
    target: {
      driver: "fault",
      file: other,
      rules: [{ kind: "write", nth: 5, always: true, action: { error: "EIO" } }],
    },
    maxChunk: granularity,
  });
  tell("target fails", await broken.done, "failed");
  assertKept(before);

  // An attached disk as the target, so that its hang can be let go of at the end.
  const hanging = await runtime.attach(
    { driver: "fault", file: other, rules: [{ kind: "write", nth: 3, always: true, action: { hang: true } }] },
    { name: "hanging" },
  );
  await written(200);
  const beforeHang = dirty();
  const stuck = await runtime.backup({ disk, bitmap: "daily", target: hanging, maxChunk: granularity });
  await written(200); // the guest goes on while the target hangs
  const asked = performance.now();
  stuck.cancel();
  const cancelled = await stuck.done;
  const answeredMs = performance.now() - asked;
  tell("target hangs", cancelled, "cancelled");
  assert(answeredMs < 2000, `a cancel does not wait for the target; it took ${answeredMs} ms`);
  assertKept(beforeHang);
  await assert.rejects(
    runtime.backup({ disk, bitmap: "daily", target: hanging }),
    (error) => error instanceof RefusalError && error.code === "ERR_TARGET_LETTING_GO",
    "only the hanging target is taken",
  );

  const next = await runtime.backup({ disk, bitmap: "daily", target: good });
  tell("next one", await next.done, "completed");
  compare();
  releaseHang(hanging.node);
} finally {
  stop.abort();
  await guest;
}
assert(slowestMs < 1000, `the slowest guest write took ${slowestMs} ms`);
console.log(`the guest wrote ${writes} times without an error, the slowest in ${slowestMs.toFixed(1)} ms`);
await runtime.close();
rmSync(directory, { recursive: true });

async function keepWriting(to: Disk, random: Random, signal: AbortSignal): Promise<void> {
  const block = random.bytes(16 * 1024);
  while (!signal.aborted) {
    block[random.below(block.length)] = random.below(256);
    const begun = performance.now();
    await to.write(block, random.below((diskBytes - block.length) / 512) * 512);
    slowestMs = Math.max(slowestMs, performance.now() - begun);
    writes++;
    if (writes % 8 === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

async function written(count: number): Promise<void> {
  const enough = writes + count;
  while (writes < enough) await new Promise((resolve) => setTimeout(resolve, 1));
}

/** Granules that the bitmap says are dirty. */
function dirty(): Set<number> {
  const granules = new Set<number>();
  for (const { offset, length } of disk.bitmaps.extents("daily")) {
    for (let at = offset; at < offset + length; at += granularity) granules.add(at / granularity);
  }
  return granules;
}

/** Reclaimed: recording again, and nothing that was dirty before is forgotten. */
function assertKept(before: ReadonlySet<number>): void {
  const now = dirty();
  assert(disk.bitmaps.get("daily").recording && !disk.bitmaps.get("daily").busy, "the bitmap records again");
  for (const granule of before) assert(now.has(granule), `granule ${granule} was dirty before the backup and still is`);
}

function compare(): void {
  assert(
    readFileSync(join(directory, "backup.raw")).equals(readFileSync(shadow)),
    "the backup is the disk at its freeze",
  );
}

function tell(what: string, result: JobResult, expected: JobResult["status"]): void {
  assert.equal(result.status, expected, result.error ?? "");
  const error = result.error === null ? "" : ` (${result.error})`;
  const { state, count } = disk.bitmaps.get("daily");
  console.log(`${what.padEnd(12)} ${result.status}${error}; bitmap daily: ${state}, ${count / 1024} KiB dirty`);
}
