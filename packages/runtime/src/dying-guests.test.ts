/**
 * Guests' threads that are terminated while they write to a disk with a persistent bitmap: in the middle of a block's rewrite, of a
 * region's mark, wherever it hits them. Half of such a guest's time is a block's lock, so of eight deaths some hold one. Locks name
 * their holder, and whoever goes on finds them released.
 */
import { readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { createRuntime, type Disk, type Runtime } from "@heirloom/runtime";
import { expect, it, onTestFinished } from "vitest";
import { MiB, Scene } from "./scene.fixture.ts";

const length = 64 * MiB;
const sector = 512;
const deaths = 8;

async function attach(image: string, bound: number): Promise<{ runtime: Runtime; disk: Disk }> {
  const runtime = createRuntime();
  onTestFinished(() => runtime.close());
  const journal = { allowTmpfs: true, bound, settleMs: 10 };
  return { runtime, disk: await runtime.attach({ driver: "file", filename: image }, { journal }) };
}

for (const [what, bound] of [
  ["every region is marked soon: it is blocks that they rewrite", 2 ** 32],
  ["regions are marked and settled all the time", 64 * MiB],
] as const)
  it(`the other guests go on, and nothing that they wrote is missed; ${what}`, () => guestsDie(bound), 120_000);

async function guestsDie(bound: number): Promise<void> {
  const scene = new Scene({}, "disk");
  onTestFinished(() => scene.close());
  const image = join(scene.directory, "vm.img");
  writeFileSync(image, "");
  truncateSync(image, length);
  const { runtime, disk } = await attach(image, bound);
  await disk.bitmaps.add("daily", { persistent: true, granularity: sector });
  const counts = new Int32Array(new SharedArrayBuffer(4 * (deaths + 1)));
  const start = (index: number): Worker => {
    const worker = new Worker(new URL("../testing/dying-guest.mjs", import.meta.url), {
      workerData: { counts, index, length, seed: 4711 + index * 77 },
    });
    runtime.register(worker);
    worker.postMessage(disk.handle());
    return worker;
  };
  const passes = async (index: number, count: number): Promise<void> => {
    for (;;) {
      const now = Atomics.load(counts, index);
      if (now >= count) return;
      const wait = Atomics.waitAsync(counts, index, now, 10_000);
      const result = wait.async ? await wait.value : wait.value;
      if (result === "timed-out") throw new Error(`guest ${index} stands still at ${now}, and ${count} were to come`);
    }
  };
  const survivor = start(0);
  for (let death = 1; death <= deaths; death++) {
    const victim = start(death);
    await passes(death, 20 + death);
    await victim.terminate();
    await passes(0, Atomics.load(counts, 0) + 50);
  }
  await survivor.terminate();
  expect(disk.bitmaps.get("daily").inconsistent).toBe(false);
  const dirty = sectors(disk);
  await runtime.close();
  const content = readFileSync(image);
  const written = Array.from({ length: length / sector }, (_, index) => index).filter(
    (index) => content[index * sector] !== 0,
  );
  expect(written.filter((index) => !dirty.has(index))).toEqual([]);
  expect(dirty.size).toBeGreaterThan(deaths * 20);
  const again = await attach(image, bound);
  const kept = sectors(again.disk);
  expect([...dirty].filter((one) => !kept.has(one))).toEqual([]);
  // What a guest was about to write when it died.
  expect(kept.size - dirty.size).toBeLessThanOrEqual(deaths + 1);
}

function sectors({ bitmaps }: Disk): Set<number> {
  const all = [...bitmaps.extents("daily")].flatMap(({ offset, length: bytes }) =>
    Array.from({ length: bytes / sector }, (_, index) => offset / sector + index),
  );
  return new Set(all);
}
