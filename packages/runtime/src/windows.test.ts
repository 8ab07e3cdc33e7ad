/** Disks that are windows of another: they share a gate, and what is written through one is tracked and kept in both. */
import { readFileSync } from "node:fs";
import type { Disk } from "@heirloom/runtime";
import { expect, test } from "vitest";
import { Guests } from "./guests.fixture.ts";
import {
  ended,
  firstDifference,
  granulesIn,
  granulesOf,
  inScene,
  MiB,
  refusalOf,
  type Scene,
  seeded,
  union,
} from "./scene.fixture.ts";

const length = 6 * MiB;
const granularity = 4096;
/** Aligned to nothing that anybody counts in. */
const offset = MiB + 3 * granularity + 512;
const size = 2 * MiB + 1536;

async function window(scene: Scene, disk: Disk, from: number, bytes: number, name: string): Promise<Disk> {
  return scene.runtime.attach({ driver: "raw", file: disk, offset: from, size: bytes }, { name });
}

test("writes through either mark both, exactly where they are", () =>
  inScene(async (scene) => {
    const disk = await scene.disk("a", length, 1);
    const inner = await window(scene, disk, offset, size, "w");
    const innermost = await window(scene, inner, 5000, 100_000, "ww");
    const bases = [0, offset, offset + 5000];
    const all = [disk, inner, innermost];
    expect(all.map((one) => one.length)).toEqual([length, size, 100_000]);
    for (const one of all) await one.bitmaps.add("b", { granularity });
    const models = all.map(() => new Set<number>());
    const random = seeded(5);
    for (let round = 0; round < 80; round++) {
      const through = Math.floor(random() * all.length);
      const at = Math.floor(random() * all[through].length);
      const bytes = 1 + Math.floor(random() ** 3 * Math.min(200_000, all[through].length - at - 1));
      if (random() < 0.8) await all[through].write(new Uint8Array(bytes).fill(round + 1), at);
      else await all[through].writeZeroes(at, bytes);
      all.forEach((one, index) => {
        const from = Math.max(0, bases[through] + at - bases[index]);
        const to = Math.min(one.length, bases[through] + at + bytes - bases[index]);
        if (to > from) for (const granule of granulesIn(from, to - from, granularity)) models[index].add(granule);
      });
    }
    all.forEach((one, index) => expect(granulesOf(one, "b"), one.name).toEqual(union([...models[index]])));
  }));

test("backups of each at once, while guests write through both, are each of their own instant", async () => {
  const shadows = new Map<string, Uint8Array>();
  let file = "";
  await inScene(
    async (scene) => {
      const disk = await scene.disk("a", length, 2);
      file = scene.path("a.raw");
      const inner = await window(scene, disk, offset, size, "w");
      for (const one of [disk, inner]) await one.bitmaps.add("b");
      const targets = new Map([
        ["a", scene.target(length)],
        ["w", scene.target(size)],
      ]);
      const guests = new Guests(scene.runtime, [disk, inner], 50);
      await guests.writing();
      for (let round = 0; round < 4; round++) {
        const jobs = [];
        for (const one of [disk, inner]) {
          const filename = targets.get(one.name)?.filename ?? "";
          const first = {
            target: targets.get(one.name) ?? { driver: "" },
            sync: "full",
            bitmapMode: "on-success",
          } as const;
          const later = { target: { driver: "file", filename } };
          jobs.push({
            filename,
            job: await scene.runtime.backup({ disk: one, bitmap: "b", ...(round === 0 ? first : later) }),
          });
        }
        for (const { filename, job } of jobs) {
          expect(await ended(job)).toEqual({ status: "completed", error: null });
          expect(firstDifference(readFileSync(filename), shadows.get(job.id) ?? new Uint8Array(0))).toBe(-1);
        }
      }
      await guests.stop();
    },
    {
      observeFreeze: ({ jobs }) => {
        for (const { job, disk } of jobs) {
          const image = readFileSync(file);
          shadows.set(job, disk === "a" ? image : image.subarray(offset, offset + size));
        }
      },
    },
  );
});

test("both are frozen at one instant by a group, and agree about what they share", () =>
  inScene(async (scene) => {
    const disk = await scene.disk("a", length, 3);
    const inner = await window(scene, disk, offset, size, "w");
    const guests = new Guests(scene.runtime, [inner], 60);
    await guests.writing();
    const outer = scene.target(length);
    const part = scene.target(size);
    const jobs = await scene.runtime.transaction(
      [
        { type: "backup", disk, target: outer },
        { type: "backup", disk: inner, target: part },
      ],
      { completionMode: "grouped" },
    );
    for (const job of jobs) expect((await job.done).status).toBe("completed");
    expect(
      firstDifference(readFileSync(outer.filename).subarray(offset, offset + size), readFileSync(part.filename)),
    ).toBe(-1);
    await guests.stop();
  }));

test("a driver that moves bytes about, a disk that has gone, and a range outside are refused", () =>
  inScene(async (scene) => {
    const disk = await scene.disk("a", length, 4);
    expect(await refusalOf(() => scene.runtime.attach({ driver: "file", file: disk }))).toMatchObject({
      code: "ERR_INVALID_ARGUMENT",
    });
    expect((await refusalOf(() => window(scene, disk, length - 512, 1024, "w"))).code).toBe("ERR_NODE_OPTION");
    expect(await refusalOf(() => window(scene, disk, 0, 512, "a"))).toMatchObject({
      code: "ERR_NODE_EXISTS",
      desc: "Duplicate nodes with node-name='a'",
    });
    await disk.detach();
    expect(await refusalOf(() => window(scene, disk, 0, 512, "w"))).toMatchObject({ code: "ERR_DISK_STATE" });
  }));
