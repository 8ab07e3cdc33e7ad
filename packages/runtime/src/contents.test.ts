/** What is on a target is what the disk held at the freeze, byte for byte, whatever guests write meanwhile. */
import { readFileSync } from "node:fs";
import type { FreezeObservation } from "@heirloom/runtime";
import { expect, test } from "vitest";
import { Guests } from "./guests.fixture.ts";
import { cluster, ended, firstDifference, granulesOf, inScene, MiB, type Scene } from "./scene.fixture.ts";

const length = 8 * MiB + 512;
const completed = { status: "completed", error: null };

/** A scene that keeps a copy of each disk that is frozen, by the job's id: read in the closed gate. */
async function inShadowedScene(body: (scene: Scene, shadows: Map<string, Uint8Array>) => Promise<void>): Promise<void> {
  const shadows = new Map<string, Uint8Array>();
  let directory = "";
  const observeFreeze = ({ jobs }: FreezeObservation): void => {
    for (const { job, disk } of jobs) shadows.set(job, readFileSync(`${directory}/${disk}.raw`));
  };
  await inScene(
    async (scene) => {
      ({ directory } = scene);
      await body(scene, shadows);
    },
    { observeFreeze },
    "disk",
  );
}

function shadowOf(shadows: Map<string, Uint8Array>, job: { readonly id: string }): Uint8Array {
  const shadow = shadows.get(job.id);
  if (shadow === undefined) throw new Error(`the freeze of ${job.id} was not observed`);
  return shadow;
}

test.each([1, 2])("full, then three incrementals into it, each equal to its instant (seed %i)", (seed) =>
  inShadowedScene(async (scene, shadows) => {
    const disk = await scene.disk("a", length, seed);
    await disk.bitmaps.add("b", { granularity: 4096 });
    const guests = new Guests(scene.runtime, [disk], seed * 100);
    await guests.writing();
    const target = scene.target(length);
    const full = await scene.runtime.backup({ disk, target, sync: "full", bitmap: "b", bitmapMode: "on-success" });
    expect(await ended(full)).toEqual(completed);
    expect(firstDifference(readFileSync(target.filename), shadowOf(shadows, full))).toBe(-1);
    for (let round = 0; round < 3; round++) {
      const job = await scene.runtime.backup({
        disk,
        target: { driver: "file", filename: target.filename },
        bitmap: "b",
      });
      expect(await ended(job)).toEqual(completed);
      expect(firstDifference(readFileSync(target.filename), shadowOf(shadows, job))).toBe(-1);
    }
    await guests.stop();
  }),
);

test("into an attached disk, with zeroes looked for, and with little in one transfer", () =>
  inShadowedScene(async (scene, shadows) => {
    const disk = await scene.disk("a", length, 3);
    const target = await scene.disk("t", length, 4); // what it held before must go, holes included
    const guests = new Guests(scene.runtime, [disk], 300);
    await guests.writing();
    for (const options of [
      {},
      { detectZeroes: true },
      { maxChunk: cluster, priority: "guest" },
      { minClusterSize: MiB },
    ] as const) {
      const job = await scene.runtime.backup({ disk, target, ...options });
      expect(await ended(job)).toEqual(completed);
      expect(firstDifference(scene.bytes("t.raw"), shadowOf(shadows, job))).toBe(-1);
    }
    await guests.stop();
  }));

test("top: what was allocated, and nothing else is written", () =>
  inShadowedScene(async (scene, shadows) => {
    const disk = await scene.disk("a", length);
    for (let index = 0; index < 126; index += 3) await disk.write(new Uint8Array(4096).fill(7), index * cluster + 8192);
    const target = await scene.disk("t", length, 5); // where nothing is written the pattern stays
    const before = scene.bytes("t.raw");
    const job = await scene.runtime.backup({ disk, target, sync: "top" });
    // Writes to what is not allocated come after the freeze: their clusters are none of the job's, or keep zeroes.
    expect(await ended(job)).toEqual(completed);
    expect(job.info).toMatchObject({ offset: 42 * cluster, length: 42 * cluster });
    const after = scene.bytes("t.raw");
    const shadow = shadowOf(shadows, job);
    for (let index = 0; index * cluster < length; index++) {
      const expected = index % 3 === 0 && index < 126 ? shadow : before;
      expect(
        firstDifference(
          after.subarray(index * cluster, (index + 1) * cluster),
          expected.subarray(index * cluster, (index + 1) * cluster),
        ),
        `cluster ${index}`,
      ).toBe(-1);
    }
  }));

test("top, while guests write", () =>
  inShadowedScene(async (scene, shadows) => {
    const disk = await scene.disk("a", length);
    for (let index = 0; index < 126; index += 2) await disk.write(new Uint8Array(4096).fill(7), index * cluster);
    const guests = new Guests(scene.runtime, [disk], 400);
    const target = scene.target(length); // all zeroes, as what is not allocated is
    const job = await scene.runtime.backup({ disk, target, sync: "top" });
    expect(await ended(job)).toEqual(completed);
    expect(firstDifference(readFileSync(target.filename), shadowOf(shadows, job))).toBe(-1);
    await guests.stop();
  }));

test("none: holds what guests have overwritten, and ends by being cancelled", () =>
  inShadowedScene(async (scene, shadows) => {
    const disk = await scene.disk("a", length, 6);
    const target = scene.target(length);
    const job = await scene.runtime.backup({ disk, target, sync: "none" });
    const shadow = shadowOf(shadows, job);
    const places = [3, 9, 30, 31, 32, 128].map((index) => index * cluster);
    for (const place of places) await disk.write(new Uint8Array(512).fill(9), place);
    const carried = (): boolean => {
      const image = readFileSync(target.filename);
      return places.every(
        (place) => firstDifference(image.subarray(place, place + 512), shadow.subarray(place, place + 512)) === -1,
      );
    };
    await scene.until(carried);
    expect(job.info).toMatchObject({ status: "running", length: 129 * cluster });
    expect(job.info.offset).toBeGreaterThan(0);
    job.cancel();
    expect((await job.done).status).toBe("cancelled");
    expect(carried()).toBe(true);
    expect(
      readFileSync(target.filename)
        .subarray(0, 3 * cluster)
        .every((byte) => byte === 0),
    ).toBe(true);
  }));

test("two jobs on one disk with a bitmap each, frozen at two instants", () =>
  inShadowedScene(async (scene, shadows) => {
    const disk = await scene.disk("a", length, 7);
    const bases = [scene.target(length), scene.target(length)];
    for (const [index, target] of bases.entries()) {
      await disk.bitmaps.add(`b${index}`, { granularity: index === 0 ? 512 : 131072 });
      await (
        await scene.runtime.backup({ disk, target })
      ).done;
    }
    const guests = new Guests(scene.runtime, [disk], 500);
    await guests.writing();
    const targets = bases.map(({ filename }) => ({ driver: "file", filename }));
    for (let round = 0; round < 3; round++) {
      const one = await scene.runtime.backup({ disk, bitmap: "b0", target: targets[0], speed: 40 * MiB });
      const two = await scene.runtime.backup({ disk, bitmap: "b1", target: targets[1] });
      expect(await ended(two)).toEqual(completed);
      expect(await ended(one)).toEqual(completed);
      for (const [index, job] of [one, two].entries()) {
        expect(firstDifference(readFileSync(bases[index].filename), shadowOf(shadows, job))).toBe(-1);
      }
    }
    await guests.stop();
  }));

test("a chain: the target of one job is the source of another at the same time", () =>
  inShadowedScene(async (scene, shadows) => {
    const a = await scene.disk("a", length, 8);
    const b = await scene.disk("b", length, 9);
    const c = scene.target(length);
    await b.bitmaps.add("daily");
    const guests = new Guests(scene.runtime, [a], 600);
    await guests.writing();
    await (
      await scene.runtime.backup({ disk: b, target: c, sync: "full", bitmap: "daily", bitmapMode: "on-success" })
    ).done;
    for (let round = 0; round < 3; round++) {
      const first = await scene.runtime.backup({ disk: a, target: b, speed: 60 * MiB });
      await scene.until(() => first.info.offset > 2 * MiB); // in the middle of what is a guest's writing for the second
      const second = await scene.runtime.backup({
        disk: b,
        target: { driver: "file", filename: c.filename },
        bitmap: "daily",
      });
      expect(await ended(second)).toEqual(completed);
      expect(firstDifference(readFileSync(c.filename), shadowOf(shadows, second))).toBe(-1);
      expect(await ended(first)).toEqual(completed);
      expect(firstDifference(scene.bytes("b.raw"), shadowOf(shadows, first))).toBe(-1);
    }
    await guests.stop();
    // Whatever the jobs wrote since the last freeze is in the heir.
    const last = await scene.runtime.backup({
      disk: b,
      target: { driver: "file", filename: c.filename },
      bitmap: "daily",
    });
    expect(await ended(last)).toEqual(completed);
    expect(firstDifference(readFileSync(c.filename), scene.bytes("b.raw"))).toBe(-1);
    expect(granulesOf(b, "daily")).toEqual([]);
  }));

test("a job that was cancelled and one that failed lose nothing: the next incremental is exact", () =>
  inShadowedScene(async (scene, shadows) => {
    const disk = await scene.disk("a", length, 10);
    await disk.bitmaps.add("b");
    const target = scene.target(length);
    await (
      await scene.runtime.backup({ disk, target, sync: "full", bitmap: "b", bitmapMode: "on-success" })
    ).done;
    const guests = new Guests(scene.runtime, [disk], 700);
    await guests.writing();
    const other = await scene.faulty("broken", length, [
      { kind: "write", nth: 3, always: true, action: { error: "EIO" } },
    ]);
    for (const bad of [{ target: scene.target(length), speed: MiB }, { target: other }]) {
      const job = await scene.runtime.backup({ disk, bitmap: "b", ...bad });
      if ("speed" in bad) {
        await scene.until(() => job.info.offset > 0);
        job.cancel();
      }
      expect((await job.done).status).toBe("speed" in bad ? "cancelled" : "failed");
    }
    const job = await scene.runtime.backup({
      disk,
      bitmap: "b",
      target: { driver: "file", filename: target.filename },
    });
    expect(await ended(job)).toEqual(completed);
    expect(firstDifference(readFileSync(target.filename), shadowOf(shadows, job))).toBe(-1);
    await guests.stop();
  }));
