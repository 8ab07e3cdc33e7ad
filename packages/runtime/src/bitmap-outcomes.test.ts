/**
 * What a job leaves in its bitmap: every pair of sync and bitmap-mode, with a bitmap that records and one that does not,
 * for every end. The guest writes while the job's only thread hangs in a request to the target, so what was copied and
 * what was written is known; what was copied is read off the target itself.
 */
import { readFileSync } from "node:fs";
import { disarmFault, EIO, faultReached, type FaultRule, releaseHang } from "@heirloom/block";
import { type BackupOptions, createRuntime, type Disk, type Job } from "@heirloom/runtime";
import { afterAll, describe, expect, test } from "vitest";
import { cluster, granulesIn, granulesOf, MiB, pattern, refusalOf, Scene, seeded, union } from "./scene.fixture.ts";

const clusters = 24;
const length = clusters * cluster - 512; // the last cluster is not whole
const frozen = { image: new Uint8Array(0), file: "" };
const scene = new Scene({ observeFreeze: () => (frozen.image = readFileSync(frozen.file)) });
afterAll(() => scene.close());

type Sync = NonNullable<BackupOptions["sync"]>;
type Mode = NonNullable<BackupOptions["bitmapMode"]>;
/** Reference semantics 2.3, by hand: what the bitmap holds after success, and after everything else. */
const table: readonly (readonly [Sync, Mode, success: string, otherwise: string])[] = [
  ["incremental", "on-success", "W", "P|W"],
  ["bitmap", "on-success", "W", "P|W"],
  ["bitmap", "never", "P|W", "P|W"],
  ["bitmap", "always", "W", "W|U"],
  ["full", "on-success", "W", "P|W"],
  ["full", "always", "W", "W|U"],
  ["top", "on-success", "W", "P|W"],
  ["top", "always", "W", "W|U"],
];
const ends = ["success", "cancel", "cancel in pending", "failure at the first write", "failure in the middle"] as const;
type End = (typeof ends)[number];

interface Round {
  readonly disk: Disk;
  readonly target: Disk;
  readonly granularity: number;
  /** Granules. */
  readonly P: number[];
  /** Clusters that hold something: what `top` copies. */
  readonly allocated: number[];
}

let rounds = 0;

async function prepare(
  rules: readonly FaultRule[],
  recording: boolean,
  sync: Sync,
  random: () => number,
): Promise<Round> {
  const number = rounds++;
  const disk = await scene.disk(`source${number}`, length);
  const target = await scene.faulty(`sink${number}`, length, rules);
  const some = Array.from({ length: clusters }, (_, index) => index).filter(
    (index) => sync !== "top" || index % 3 !== 1,
  );
  for (const index of some) {
    const offset = index * cluster;
    await disk.write(pattern(Math.min(cluster, length - offset), number * 100 + index), offset);
  }
  const granularity = [4096, cluster, 4 * cluster][Math.floor(random() * 3)];
  await disk.bitmaps.add("b", { granularity });
  const P: number[] = [];
  for (let write = 0; write < 6; write++) {
    const offset = some[Math.floor(random() * some.length)] * cluster + Math.floor(random() * 60_000);
    const size = Math.min(1 + Math.floor(random() * 5000), length - offset);
    await disk.write(pattern(size, number * 1000 + write), offset);
    P.push(...granulesIn(offset, size, granularity));
  }
  if (!recording) await disk.bitmaps.disable("b");
  const allocated = union(
    some,
    P.flatMap((granule) => (granularity <= cluster ? [Math.floor((granule * granularity) / cluster)] : [])),
  );
  return { disk, target, granularity, P: union(P), allocated };
}

function setOf(round: Round, sync: Sync): number[] {
  if (sync === "top") return round.allocated;
  const all = Array.from({ length: clusters }, (_, index) => index);
  if (sync === "full") return all;
  const { P, granularity } = round;
  return all.filter((index) =>
    P.some((granule) => granule * granularity < (index + 1) * cluster && (granule + 1) * granularity > index * cluster),
  );
}

/** Guests write inside and outside of the set, over what is copied and what is not. */
async function guestWrites(round: Round, random: () => number): Promise<number[]> {
  const W: number[] = [];
  for (let write = 0; write < 8; write++) {
    const offset = Math.floor(random() * (length - 70_000));
    const size = 1 + Math.floor(random() ** 2 * 70_000);
    await round.disk.write(pattern(size, 5_000_000 + write), offset);
    W.push(...granulesIn(offset, size, round.granularity));
  }
  return union(W);
}

/** Clusters of the set whose bytes on the target are those of the freeze. */
function onTarget(round: Round, set: readonly number[]): Set<number> {
  const image = scene.bytes(`${round.target.name}.raw`);
  return new Set(
    set.filter((index) => {
      const offset = index * cluster;
      const end = Math.min(offset + cluster, length);
      return Buffer.compare(image.subarray(offset, end), frozen.image.subarray(offset, end)) === 0;
    }),
  );
}

function bitsOf(outcome: string, P: number[], W: number[], U: number[]): number[] {
  const parts: Readonly<Record<string, number[]>> = { W, "P|W": union(P, W), "W|U": union(W, U) };
  return union(parts[outcome]);
}

async function start(
  round: Round,
  sync: Sync,
  mode: Mode | undefined,
  options: Partial<BackupOptions> = {},
): Promise<Job> {
  frozen.file = scene.path(`${round.disk.name}.raw`);
  const target = round.target;
  const bitmapMode = mode === undefined ? {} : { bitmapMode: mode };
  return scene.runtime.backup({
    disk: round.disk,
    target,
    sync,
    bitmap: "b",
    ...bitmapMode,
    maxWorkers: 1,
    maxChunk: cluster,
    ...options,
  });
}

async function clear(round: Round): Promise<void> {
  await round.disk.detach();
  await round.target.detach();
}

/** Runs one job to the given end. @returns what must be in the bitmap, by the table, and what is */
async function run(sync: Sync, mode: Mode, end: End, recording: boolean, seed: number): Promise<void> {
  const row = table.find((one) => one[0] === sync && one[1] === mode);
  if (row === undefined) throw new Error("no such row");
  const random = seeded(seed);
  const nth = end === "failure at the first write" ? 1 : 3;
  const hang = { nth, once: true, action: { hang: true } } as const;
  const round = await prepare([{ kind: "write", ...hang }], recording, sync, random);
  const { node } = round.target;
  const set = setOf(round, sync);
  const pends = end === "cancel in pending";
  const job = await start(round, sync, mode, pends ? { autoFinalize: false } : {});
  await faultReached(node, 0);
  expect(round.disk.bitmaps.get("b")).toMatchObject({ state: "frozen", recording, busy: true });
  const written = await guestWrites(round, random);
  expect(granulesOf(round.disk, "b")).toEqual(round.P); // what is frozen stands still
  const W = recording ? written : [];
  let copied: Set<number>;
  let status: string;
  if (end === "cancel") {
    copied = onTarget(round, set);
    expect(copied.size).toBe(nth - 1);
    job.cancel();
    ({ status } = await job.done);
    releaseHang(node);
  } else {
    releaseHang(node, end.startsWith("failure") ? EIO : 0);
    if (pends) {
      await scene.event("JOB_STATUS_CHANGE", { id: job.id, status: "pending" });
      expect(round.disk.bitmaps.get("b").state).toBe("frozen"); // the switch is at finalize
      job.cancel();
    }
    ({ status } = await job.done);
    copied = onTarget(round, set);
  }
  const expected = end === "success" ? "completed" : end.startsWith("cancel") ? "cancelled" : "failed";
  expect(status).toBe(expected);
  if (end === "success" || pends) expect(copied.size).toBe(set.length);
  else expect(copied.size).toBe(nth - 1);
  const U = set
    .filter((index) => !copied.has(index))
    .flatMap((index) => granulesIn(index * cluster, Math.min(cluster, length - index * cluster), round.granularity));
  const outcome = end === "success" ? row[2] : row[3];
  expect(granulesOf(round.disk, "b")).toEqual(bitsOf(outcome, round.P, W, U));
  expect(round.disk.bitmaps.get("b")).toMatchObject({
    recording,
    busy: false,
    state: recording ? "recording" : "disabled",
  });
  await clear(round);
}

let seed = 1;
for (const recording of [true, false]) {
  describe(recording ? "a bitmap that records" : "a disabled bitmap", () => {
    for (const [sync, mode, success, otherwise] of table) {
      for (const end of ends) {
        const own = seed++;
        test(`${sync}, ${mode}, ${end}: ${end === "success" ? success : otherwise} (seed ${own})`, () =>
          run(sync, mode, end, recording, own));
      }
    }
  });
}

describe("a job that is refused leaves P", () => {
  test.each(table)("%s, %s", async (sync, mode) => {
    const round = await prepare([], true, sync, seeded(99));
    const before = round.disk.bitmaps.get("b");
    const wrongSize = scene.target(length + 512);
    expect(await refusalOf(() => start(round, sync, mode, { target: wrongSize }))).toMatchObject({
      code: "ERR_BACKUP_SIZES",
    });
    const backup = {
      type: "backup",
      disk: round.disk,
      target: round.target,
      sync,
      bitmap: "b",
      bitmapMode: mode,
    } as const;
    const aborted = { code: "ERR_TRANSACTION_ABORTED", desc: "Transaction aborted using Abort action" };
    expect(await refusalOf(() => scene.runtime.transaction([backup, { type: "abort" }]))).toMatchObject(aborted);
    expect(
      await refusalOf(() =>
        scene.runtime.transaction([backup, { ...backup, jobId: "j", target: scene.target(length) }]),
      ),
    ).toMatchObject({ code: "ERR_BITMAP_BUSY" });
    expect(round.disk.bitmaps.get("b")).toEqual(before);
    expect(granulesOf(round.disk, "b")).toEqual(round.P);
    await round.disk.write(new Uint8Array(1), 0); // and it still records
    expect(granulesOf(round.disk, "b")).toEqual(union(round.P, [0]));
    expect(scene.runtime.jobs).toEqual([]);
    await clear(round);
  });
});

describe("always, where what was copied cannot be made durable", () => {
  test.each([
    ["a flush that fails", { kind: "flush", action: { error: "EIO" } }],
    ["a flush that hangs", { kind: "flush", action: { hang: true } }],
  ] as const)("%s: nothing counts as copied", async (_name, flush) => {
    const round = await prepare(
      [{ kind: "write", nth: 3, once: true, action: { hang: true } }, flush],
      true,
      "full",
      seeded(7),
    );
    const { node } = round.target;
    const job = await start(round, "full", "always");
    await faultReached(node, 0);
    const W = await guestWrites(round, seeded(8));
    job.cancel();
    expect((await job.done).status).toBe("cancelled");
    const all = granulesIn(0, length, round.granularity);
    expect(granulesOf(round.disk, "b")).toEqual(union(W, all));
    disarmFault(node, 1);
    releaseHang(node);
    await scene.until(() => !round.target.state.actor.context.users.length);
    await clear(round);
  });

  test("a flush that fails at the end of a job that has everything copied: it has failed", async () => {
    const round = await prepare(
      [{ kind: "flush", nth: 1, once: true, action: { error: "EIO" } }],
      true,
      "full",
      seeded(17),
    );
    const job = await start(round, "full", "on-success");
    expect(await job.done).toMatchObject({ status: "failed", error: "Input/output error" });
    expect(granulesOf(round.disk, "b")).toEqual(round.P);
    await clear(round);
  });
});

test("a larger job cluster: U is rounded to it", async () => {
  const round = await prepare(
    [{ kind: "write", nth: 2, once: true, action: { hang: true } }],
    true,
    "bitmap",
    seeded(21),
  );
  const { node } = round.target;
  const job = await start(round, "bitmap", "always", { minClusterSize: 4 * cluster, maxChunk: 4 * cluster });
  await faultReached(node, 0);
  job.cancel();
  await job.done;
  const left = granulesOf(round.disk, "b");
  const dirtyUnits = union(round.P.map((granule) => Math.floor((granule * round.granularity) / (4 * cluster))));
  const copied = onTarget(
    round,
    Array.from({ length: clusters }, (_, index) => index),
  );
  const wholeUnits = dirtyUnits.filter(
    (unit) =>
      !Array.from({ length: 4 }, (_, at) => unit * 4 + at)
        .filter((index) => index < clusters)
        .every((index) => copied.has(index)),
  );
  expect(left).toEqual(
    union(
      wholeUnits.flatMap((unit) =>
        granulesIn(unit * 4 * cluster, Math.min(4 * cluster, length - unit * 4 * cluster), round.granularity),
      ),
    ),
  );
  releaseHang(node);
  await scene.until(() => !round.target.state.actor.context.users.length);
  await clear(round);
});

test("an empty bitmap: the job completes at once with nothing to do", async () => {
  const runtime = createRuntime();
  try {
    const disk = await runtime.attach({ driver: "memory", size: MiB });
    await disk.bitmaps.add("b");
    const job = await runtime.backup({ disk, bitmap: "b", target: { driver: "memory", size: MiB } });
    expect(await job.done).toMatchObject({ status: "completed", offset: 0, length: 0, error: null });
    expect(disk.bitmaps.get("b")).toMatchObject({ count: 0, busy: false, recording: true });
  } finally {
    await runtime.close();
  }
});
