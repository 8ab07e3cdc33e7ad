/**
 * A spill that is synced: what a guest may overwrite, and what of it a restart finds after a power loss. The words of the spill say how
 * many entries were written and how many of them a sync has covered.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { EAGAIN } from "@heirloom/block";
import type { EngineView, KeptSpill } from "@heirloom/engine";
import { afterEach, describe, expect, it } from "vitest";
import { drain, type DrainResult } from "../dist/drainer.js";
import { openSpillTask } from "../dist/kept-spill.js";
import { Mover } from "../dist/mover.js";
import { givenUpWord, heldWord, storedWord, syncedWord } from "../dist/spill-layout.js";
import { contentOf, difference, jobOf, KiB, Lab, type LabDisk, memoryNode, nodeWith, pattern } from "./lab.fixture.ts";

const clusterSize = 4 * KiB;
const length = 256 * KiB;
const clusters = length / clusterSize;
const tag = 77;
const before = pattern(length, 1);
const record = { add: (): number => 0 };

let lab: Lab;
afterEach(() => lab[Symbol.asyncDispose]());

interface Armed {
  readonly disk: LabDisk;
  readonly view: EngineView;
  readonly spill: KeptSpill;
  readonly count: (word: number) => number;
}

async function arm(slots = 32): Promise<Armed> {
  lab = new Lab();
  const disk = await lab.disk({ driver: "memory", size: length });
  expect(disk.guest.write(before, 0)).toBe(0);
  const path = join(lab.directory, "job.spill");
  const spill = await lab.engine.makeSpill({ path, tag, clusterSize, slots, allowTmpfs: true, floor: 0 });
  const view = await lab.view(disk.layer, {
    clusterSize,
    guestDelayMaxMs: 1,
    kept: spill,
    syncSpill: true,
    spillFile: slots * clusterSize,
  });
  return { disk, view, spill, count: (word) => Atomics.load(view.memory.spillWords, word) };
}

/** Slot and cluster of each entry in the file, as a restart finds them. */
async function entriesOf({ spill: { path } }: Armed): Promise<Int32Array> {
  const answer = await openSpillTask({ path, tag, clusterSize });
  if (!("value" in answer)) throw new Error("it cannot be used");
  return answer.value.entries;
}
async function stored(armed: Armed): Promise<number[]> {
  return [...(await entriesOf(armed))].filter((_, index) => index % 2 === 1);
}
const bit = (bits: Int32Array | undefined, cluster: number): boolean =>
  ((bits?.[cluster >>> 5] ?? 0) & (1 << (cluster & 31))) !== 0;
const write = ({ disk }: Armed, cluster: number): number => disk.guest.write(pattern(512, 2), cluster * clusterSize);

describe("a guest that overwrites a cluster", () => {
  it("has its old data synced first, once", async () => {
    const armed = await arm();
    expect(write(armed, 5)).toBe(0);
    expect(await stored(armed)).toEqual([5]);
    expect([armed.count(storedWord), armed.count(syncedWord)]).toEqual([1, 1]);
    expect(write(armed, 5)).toBe(0);
    expect([armed.count(storedWord), armed.count(syncedWord)]).toEqual([1, 1]);
  });

  it("and may not wait, stores it and is told to come again: one sync then covers all who did", async () => {
    const armed = await arm();
    armed.disk.guest.patient = false;
    for (const cluster of [1, 2, 40]) expect(write(armed, cluster)).toBe(EAGAIN);
    expect(await stored(armed)).toEqual([1, 2, 40]);
    expect(difference(contentOf(armed.disk.node), before)).toBe(-1);
    expect([armed.count(storedWord), armed.count(syncedWord)]).toEqual([3, 0]);
    armed.disk.guest.patient = true;
    expect(write(armed, 2)).toBe(0);
    armed.disk.guest.patient = false;
    for (const cluster of [1, 40]) expect(write(armed, cluster)).toBe(0);
    expect([armed.count(storedWord), armed.count(syncedWord)]).toEqual([3, 3]);
  });

  it("stores it also where it is on the target, before a flush covers that", async () => {
    const armed = await arm();
    const { view, disk } = armed;
    const target = await memoryNode(length);
    expect(new Mover(jobOf(view.memory.view, disk.node, target, { record }), true, undefined).run()).toBe("copied");
    expect(write(armed, 3)).toBe(0);
    expect(await stored(armed)).toEqual([3]);
    view.flushed(view.copiedSnapshot());
    expect(write(armed, 4)).toBe(0);
    expect(await stored(armed)).toEqual([3]);
  });

  it("of a view that was given up finds that said in the file, durably", async () => {
    const armed = await arm(2);
    for (const cluster of [0, 1]) expect(write(armed, cluster)).toBe(0);
    expect(armed.count(givenUpWord)).toBe(0);
    expect(write(armed, 2)).toBe(0); // no room, for longer than it may wait
    expect(armed.view.broken?.reason).toBe("spill-full");
    expect(armed.count(givenUpWord)).toBe(1);
    expect(
      readFileSync(armed.spill.path)
        .subarray(512, 1024)
        .some((byte) => byte !== 0),
    ).toBe(true);
  });
});

describe("an entry", () => {
  const drained: DrainResult = { drained: 0, errno: 0, offset: 0 };
  const bounce = new Uint8Array(clusterSize);

  it("keeps its place after it was drained, until a flush covers its cluster", async () => {
    const armed = await arm(2);
    const { view, disk } = armed;
    const target = await memoryNode(length);
    const job = jobOf(view.memory.view, disk.node, target, { record });
    for (const cluster of [8, 9]) expect(write(armed, cluster)).toBe(0);
    drain(job, 10, bounce, drained);
    expect([drained.drained, armed.count(heldWord), view.memory.view.spill.full]).toEqual([2, 2, 0]);
    expect(view.wantsFlush).toBe(true);
    expect(await stored(armed)).toEqual([8, 9]);
    const covered = new Int32Array(clusters / 32);
    covered[0] = 1 << 8;
    view.flushed(covered);
    expect(armed.count(heldWord)).toBe(1);
    expect(write(armed, 20)).toBe(0);
    expect((await stored(armed)).sort((one, other) => one - other)).toEqual([9, 20]);
    expect(view.broken).toBeUndefined();
  });

  it("of a cluster that a copier has brought to the target is not written there again", async () => {
    const armed = await arm();
    const { view, disk } = armed;
    const plain = await memoryNode(length);
    const counted: number[] = [];
    const target = nodeWith(plain, {
      write: (buffer, offset) => {
        counted.push(offset);
        return plain.write(buffer, offset);
      },
    });
    const job = jobOf(view.memory.view, disk.node, target, { record });
    expect(new Mover(job, true, undefined).run()).toBe("copied");
    const writes = counted.length;
    expect(write(armed, 30)).toBe(0);
    drain(job, 10, bounce, drained);
    expect([drained.drained, armed.count(heldWord), counted.length]).toEqual([1, 1, writes]);
    expect(difference(contentOf(plain), before)).toBe(-1);
  });
});

it("all is copied once, whatever guests store meanwhile, and it is what the disk held", async () => {
  const armed = await arm(clusters);
  const { view, disk } = armed;
  const plain = await memoryNode(length);
  let cluster = 0;
  const target = nodeWith(plain, {
    write: (buffer, offset) => {
      if (cluster < clusters) expect(write(armed, cluster++)).toBe(0);
      return plain.write(buffer, offset);
    },
  });
  const job = jobOf(view.memory.view, disk.node, target, { record, runBytesMax: 3 * clusterSize });
  expect(new Mover(job, true, undefined).run()).toBe("copied");
  expect(cluster).toBeGreaterThan(10);
  expect(difference(contentOf(plain), before)).toBe(-1);
});

describe("a view that is restored", () => {
  it("believes what a flush covers; what was copied without one is stored before it is overwritten", async () => {
    const armed = await arm();
    for (const cluster of [1, 2, 3]) expect(write(armed, cluster)).toBe(0);
    const entries = await entriesOf(armed);
    const again = await lab.view(armed.disk.layer, {
      clusterSize,
      kept: armed.spill,
      syncSpill: true,
      spillFile: 32 * clusterSize,
    });
    const copied = new Int32Array(clusters / 32);
    copied[0] = (1 << 1) | (1 << 2) | (1 << 6) | (1 << 7);
    const flushed = new Int32Array(clusters / 32);
    flushed[0] = (1 << 1) | (1 << 6);
    again.restore(copied, flushed, entries);
    const seen = again.memory.view;
    const asked = [1, 2, 3, 6, 7, 8];
    expect(asked.map((cluster) => bit(seen.preserved, cluster))).toEqual([true, true, true, true, false, false]);
    expect(asked.map((cluster) => bit(seen.safe, cluster))).toEqual([true, false, false, true, false, false]);
    expect(asked.map((cluster) => bit(seen.copied, cluster))).toEqual([true, true, false, true, true, false]);
    expect(seen.spill.full).toBe(2); // of 2, which no flush covers, and of 3
    const { words } = seen.spill;
    expect(Atomics.load(words, storedWord)).not.toBe(Atomics.load(words, syncedWord)); // nobody knows what a sync covered
  });
});
