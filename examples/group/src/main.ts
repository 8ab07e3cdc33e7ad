/**
 * Three disks that belong together: the data, its journal and an index. A writer puts each number first on the data
 * disk, then on the journal, then on the index. So at any instant data >= journal >= index >= data - 1, in every lane.
 *
 * Frozen one after the other, the copies contradict each other. Frozen by one transaction with completion mode
 * `grouped`, they restore to one instant; and if one member fails, no bitmap moves on, so nothing is lost.
 */
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { NodeSpec } from "@heirloom/block";
import { Random, seedFromArguments } from "@heirloom/example-seed";
import { createRuntime, type Disk, type TransactionAction } from "@heirloom/runtime";

const names = ["data", "journal", "index"] as const;
const lanes = 16;
const laneBytes = 64 * 1024;

const random = new Random(seedFromArguments());
const directory = mkdtempSync(join(tmpdir(), "heirloom-group-"));
const backup = (name: string): string => join(directory, `${name}.backup`);

await using runtime = createRuntime({ spill: { file: 0 } });
const disks: Disk[] = [];
for (const name of names) {
  const create = { length: lanes * laneBytes };
  const disk = await runtime.attach({ driver: "file", filename: join(directory, `${name}.raw`), create }, { name });
  await disk.bitmaps.add("daily");
  disks.push(disk);
}

const target = (name: string, create: boolean): NodeSpec => ({
  driver: "file",
  filename: backup(name),
  ...(create ? { create: { length: lanes * laneBytes, overwrite: true } } : {}),
});
type Backup = Extract<TransactionAction, { type: "backup" }>;
const full = (disk: Disk): Backup => ({
  type: "backup",
  disk,
  bitmap: "daily",
  sync: "full",
  bitmapMode: "on-success",
  target: target(disk.name, true),
});
const incremental = (disk: Disk): Backup => ({
  type: "backup",
  disk,
  bitmap: "daily",
  target: target(disk.name, false),
});

const written = Array.from({ length: lanes }, () => 0);
const stop = new AbortController();
const writers = Promise.all(written.map((_, lane) => count(lane, stop.signal)));

try {
  // One by one: by the time the index is frozen, it has numbers that the copy of the data never saw.
  for (const disk of disks) {
    const [job] = await runtime.transaction([full(disk)]);
    assert.equal((await job.done).status, "completed");
    await untilEveryLaneMoved();
  }
  assert(
    contradictions() > 0,
    "copies of different instants contradict each other; else this example would show nothing",
  );
  console.log(`one by one: ${contradictions()} of ${lanes} lanes contradict each other`);

  for (let round = 0; round < 5; round++) {
    await untilEveryLaneMoved();
    const jobs = await runtime.transaction(
      disks.map((disk) => (round === 0 ? full(disk) : incremental(disk))),
      {
        completionMode: "grouped",
      },
    );
    for (const job of jobs) assert.equal((await job.done).status, "completed");
    assert.equal(contradictions(), 0, "all disks restore to one instant");
  }
  console.log("grouped: 5 backups, no contradiction in any lane");

  // One member's target breaks: the others are cancelled, and every bitmap keeps what it said.
  await untilEveryLaneMoved();
  const said = disks.map((disk) => disk.bitmaps.get("daily").count);
  const broken: Backup[] = disks.map(
    (disk) =>
      disk.name === "index"
        ? { ...incremental(disk), maxChunk: laneBytes, target: failing(target(disk.name, false)) }
        : { ...incremental(disk), speed: 64 * 1024 }, // slow, so that it is not done when the index fails
  );
  const failed = await runtime.transaction(broken, { completionMode: "grouped" });
  const statuses: string[] = [];
  for (const job of failed) statuses.push((await job.done).status);
  assert(!statuses.includes("completed"), `no member succeeds alone: ${statuses.join(", ")}`);
  disks.forEach((disk, at) => {
    assert(disk.bitmaps.get("daily").count >= said[at], `${disk.name}: the bitmap was reclaimed, nothing is forgotten`);
  });
  const again = await runtime.transaction(disks.map(incremental), { completionMode: "grouped" });
  for (const job of again) assert.equal((await job.done).status, "completed");
  assert.equal(contradictions(), 0, "the next group catches up");
  console.log(
    `a member fails: ${names.map((name, at) => `${name} ${statuses[at]}`).join(", ")}; the next group catches up`,
  );
} finally {
  stop.abort();
  await writers;
}
await runtime.close();
rmSync(directory, { recursive: true });

/** Counts up in one lane: data, then journal, then index. */
async function count(lane: number, signal: AbortSignal): Promise<void> {
  const sector = new Uint8Array(512);
  while (!signal.aborted) {
    const number = written[lane] + 1;
    new DataView(sector.buffer).setFloat64(0, number);
    for (const disk of disks) {
      await disk.write(sector, lane * laneBytes);
      if (random.below(4) === 0) await new Promise((resolve) => setTimeout(resolve, random.below(3)));
    }
    written[lane] = number;
  }
}

async function untilEveryLaneMoved(): Promise<void> {
  const before = [...written];
  while (written.some((number, lane) => number < before[lane] + 2)) {
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

/** Lanes of the three backups that no instant can have had. */
function contradictions(): number {
  const [data, journal, index] = names.map((name) => {
    const bytes = readFileSync(backup(name));
    return Array.from({ length: lanes }, (_, lane) => bytes.readDoubleBE(lane * laneBytes));
  });
  return data.filter(
    (number, lane) => !(number >= journal[lane] && journal[lane] >= index[lane] && index[lane] >= number - 1),
  ).length;
}

function failing(file: NodeSpec): NodeSpec {
  return { driver: "fault", file, rules: [{ kind: "write", nth: 2, always: true, action: { error: "EIO" } }] };
}
