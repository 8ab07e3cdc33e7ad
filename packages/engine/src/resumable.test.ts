/**
 * A view whose spill is found again: what is in the file, and in the record of what is copied, at each moment at which a guest may
 * overwrite something. A restart sees only those two.
 */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { EngineView, KeptSpill } from "@heirloom/engine";
import { afterEach, describe, expect, it } from "vitest";
import { drain, type DrainResult } from "../dist/drainer.js";
import { openSpillTask } from "../dist/kept-spill.js";
import { Mover } from "../dist/mover.js";
import type { CopiedRecord } from "../dist/write-guard.js";
import { jobOf, KiB, Lab, type LabDisk, memoryNode, nodeWith, pattern } from "./lab.fixture.ts";

const clusterSize = 4 * KiB;
const length = 256 * KiB;
const tag = 77;
const before = pattern(length, 1);

let lab: Lab;
afterEach(() => lab[Symbol.asyncDispose]());

async function arm(slots = 32): Promise<{ disk: LabDisk; view: EngineView; spill: KeptSpill }> {
  lab = new Lab();
  const disk = await lab.disk({ driver: "memory", size: length });
  expect(disk.guest.write(before, 0)).toBe(0);
  const path = join(lab.directory, "job.spill");
  const spill = await lab.engine.makeSpill({ path, tag, clusterSize, slots, allowTmpfs: true, floor: 0 });
  const view = await lab.view(disk.layer, {
    clusterSize,
    guestDelayMaxMs: 1,
    kept: spill,
    spillFile: slots * clusterSize,
  });
  return { disk, view, spill };
}

/** Clusters in the file, as a restart finds them. */
async function stored(path: string): Promise<number[]> {
  const answer = await openSpillTask({ path, tag, clusterSize });
  if (!("value" in answer)) throw new Error("it cannot be used");
  const { entries } = answer.value;
  return Array.from({ length: entries.length / 2 }, (_, index) => entries[2 * index + 1]);
}

/** A record that looks at the view whenever something is added to it. */
function watched(look: (word: number, mask: number) => void): CopiedRecord & { readonly clusters: Set<number> } {
  const clusters = new Set<number>();
  return {
    clusters,
    add(word, mask) {
      look(word, mask);
      for (let bit = 0; bit < 32; bit++) if ((mask & (1 << bit)) !== 0) clusters.add(word * 32 + bit);
      return 0;
    },
  };
}

describe("a guest that overwrites a cluster", () => {
  it("has its old data in the file first", async () => {
    const { disk, spill } = await arm();
    expect(disk.guest.write(pattern(512, 2), 5 * clusterSize + 100)).toBe(0);
    expect(await stored(spill.path)).toEqual([5]);
    const entry = readFileSync(spill.path).subarray(4096 + 512, 4096 + 512 + clusterSize);
    expect(entry.equals(before.subarray(5 * clusterSize, 6 * clusterSize))).toBe(true);
  });

  it("stores it also while a copier has it in its buffer", async () => {
    const { disk, view, spill } = await arm();
    const target = await memoryNode(length);
    let looked = false;
    const slow = nodeWith(target, {
      write: (buffer, offset) => {
        if (!looked) expect(disk.guest.write(pattern(clusterSize, 3), 0)).toBe(0);
        looked = true;
        return target.write(buffer, offset);
      },
    });
    const record = watched(() => {});
    const job = jobOf(view.memory.view, disk.node, slow, { record, runBytesMax: 4 * clusterSize });
    expect(new Mover(job, true, undefined).run()).toBe("copied");
    expect(looked).toBe(true);
    expect(await stored(spill.path)).toContain(0);
    const copy = new Uint8Array(length);
    target.read(copy, 0);
    expect(Buffer.compare(copy, before)).toBe(0);
    expect(record.clusters.size).toBe(length / clusterSize);
  });

  it("does not store what is on the target and recorded", async () => {
    const { disk, view, spill } = await arm();
    const target = await memoryNode(length);
    const job = jobOf(view.memory.view, disk.node, target, { record: watched(() => {}) });
    expect(new Mover(job, true, undefined).run()).toBe("copied");
    expect(disk.guest.write(pattern(clusterSize, 4), 0)).toBe(0);
    expect(await stored(spill.path)).toEqual([]);
  });
});

describe("what is on the target", () => {
  it("is recorded before anybody may overwrite it without storing it", async () => {
    const { disk, view } = await arm();
    const seen = view.memory.view;
    const target = await memoryNode(length);
    const content = new Uint8Array(clusterSize);
    const record = watched((word, mask) => {
      for (let bit = 0; bit < 32; bit++) {
        if ((mask & (1 << bit)) === 0) continue;
        const one = word * 32 + bit;
        expect([seen.isPreserved(one), seen.isCopied(one)]).toEqual([false, false]);
        target.read(content, one * clusterSize);
        expect(Buffer.compare(content, before.subarray(one * clusterSize, (one + 1) * clusterSize))).toBe(0);
      }
    });
    const job = jobOf(seen, disk.node, target, { record });
    expect(new Mover(job, true, undefined).run()).toBe("copied");
    expect(record.clusters.size).toBe(length / clusterSize);
  });

  it("of the spill is recorded before its place is used for another", async () => {
    const { disk, view, spill } = await arm(1);
    expect(disk.guest.write(pattern(512, 2), 9 * clusterSize)).toBe(0);
    const target = await memoryNode(length);
    const files: number[][] = [];
    const record = watched(() => void files.push([...readFileSync(spill.path).subarray(4096 + 12, 4096 + 16)]));
    const result: DrainResult = { drained: 0, errno: 0, offset: 0 };
    drain(jobOf(view.memory.view, disk.node, target, { record }), 8, new Uint8Array(clusterSize), result);
    expect(result.drained).toBe(1);
    expect(files).toEqual([[9, 0, 0, 0]]);
  });

  it("that cannot be recorded breaks the view: the job does not go on as if it were", async () => {
    const { disk, view } = await arm();
    const target = await memoryNode(length);
    const record: CopiedRecord = { add: () => 28 };
    const job = jobOf(view.memory.view, disk.node, target, { record });
    expect(new Mover(job, true, undefined).run()).toBe("over");
    expect(view.broken).toEqual({ reason: "spill-failed", errno: 28 });
    expect(view.copiedClusters).toBe(0);
  });
});

describe("a view that is given up", () => {
  it("says so in the file", async () => {
    const { disk, view, spill } = await arm(2);
    for (const at of [0, 1, 2]) expect(disk.guest.write(pattern(512, 2), at * clusterSize)).toBe(0);
    expect(view.broken?.reason).toBe("spill-full");
    const answer = await openSpillTask({ path: spill.path, tag, clusterSize });
    expect(answer).toMatchObject({ engine: { message: expect.stringContaining("given up") as string } });
  });
});

it("a restored view has what it had: copied, stored, and the rest to do", async () => {
  const { disk, spill } = await arm();
  for (const at of [3, 40]) expect(disk.guest.write(pattern(clusterSize, 5), at * clusterSize)).toBe(0);
  const copied = new Int32Array(2);
  copied[0] = 0b111;
  const answer = await openSpillTask({ path: spill.path, tag, clusterSize });
  if (!("value" in answer)) throw new Error("it cannot be used");
  const again = lab.engine.view(
    disk.layer,
    {
      length,
      clusterSize,
      alignment: 1,
      guestDelayMaxMs: 1,
      breakGuestWrite: false,
      kept: answer.value.spill,
      spillMemory: 0,
      spillFile: 32 * clusterSize,
    },
    undefined,
    { directory: lab.directory, allowTmpfs: true, floor: 0 },
    () => {},
  );
  again.restore(copied, copied, answer.value.entries);
  expect(again.copiedClusters).toBe(3);
  const seen = again.memory.view;
  expect([0, 1, 2, 3, 40].every((one) => seen.isPreserved(one))).toBe(true);
  const target = await memoryNode(length);
  target.write(before.subarray(0, 3 * clusterSize), 0);
  expect(new Mover(jobOf(seen, disk.node, target, { record: watched(() => {}) }), true, undefined).run()).toBe(
    "copied",
  );
  const copy = new Uint8Array(length);
  target.read(copy, 0);
  expect(Buffer.compare(copy, before)).toBe(0);
  await again.release();
  expect(existsSync(spill.path)).toBe(true);
});

it("a spill that is not the job's is of no use", async () => {
  const { spill } = await arm();
  for (const wrong of [{ tag: 78 }, { clusterSize: 8192 }, { path: `${spill.path}.none` }]) {
    const answer = await openSpillTask({ path: spill.path, tag, clusterSize, ...wrong });
    expect("value" in answer).toBe(false);
  }
  writeFileSync(spill.path, new Uint8Array(100));
  expect("value" in (await openSpillTask({ path: spill.path, tag, clusterSize }))).toBe(false);
});
