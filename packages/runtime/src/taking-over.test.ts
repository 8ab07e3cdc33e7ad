/** Persistent bitmaps of an image where a disk stands on another: they are those of the topmost that asked for them. */
import { existsSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createRuntime, type Disk, type Runtime } from "@heirloom/runtime";
import { afterEach, beforeEach, expect, it } from "vitest";
import { cluster, MiB, pattern, Scene } from "./scene.fixture.ts";

const length = 8 * MiB;
const sector = 512;
const journal = { allowTmpfs: true };
const window = (file: Disk): { driver: string; file: Disk } => ({ driver: "raw", file });

let scene: Scene;
let image: string;
let runtime: Runtime;
beforeEach(() => {
  scene = new Scene({}, "disk");
  image = join(scene.directory, "vm.img");
  writeFileSync(image, "");
  truncateSync(image, length);
  runtime = createRuntime();
});
afterEach(async () => {
  await runtime.close();
  await scene.close();
});

async function attach(): Promise<Disk> {
  return runtime.attach({ driver: "file", filename: image }, { name: "file", journal });
}
async function reopen(): Promise<Disk> {
  await runtime.close();
  runtime = createRuntime();
  return attach();
}
function dirty(disk: Disk): number[] {
  return [...disk.bitmaps.extents("daily")].flatMap(({ offset, length: bytes }) =>
    Array.from({ length: bytes / cluster }, (_, index) => offset / cluster + index),
  );
}
const names = (disk: Disk): string[] => disk.bitmaps.list().map(({ name }) => name);

it("they move to the window, record what is written through either, and come back when it is detached", async () => {
  const file = await attach();
  await file.bitmaps.add("daily", { persistent: true });
  await file.bitmaps.add("own");
  await file.write(pattern(512, 1), cluster);
  const raw = await runtime.attach(window(file), { name: "raw", journal: "take-over" });
  expect([names(file), names(raw)]).toEqual([["own"], ["daily"]]);
  await raw.write(pattern(512, 1), 2 * cluster);
  await file.write(pattern(512, 1), 3 * cluster);
  expect(dirty(raw)).toEqual([1, 2, 3]);
  await raw.bitmaps.add("weekly", { persistent: true });
  await expect(file.bitmaps.add("x", { persistent: true })).rejects.toThrow(
    "its persistent bitmaps are those of 'raw', which stands on it",
  );
  const job = await runtime.backup({ disk: raw, bitmap: "daily", target: { driver: "memory", size: length } });
  expect((await job.done).status).toBe("completed");
  await raw.detach();
  expect(names(file).sort()).toEqual(["daily", "own", "weekly"]);
  await file.write(pattern(512, 1), 4 * cluster);
  expect(dirty(file)).toEqual([4]);
  const again = await reopen();
  expect(names(again).sort()).toEqual(["daily", "weekly"]);
  expect(dirty(again)).toEqual([4]);
});

it("guests of the disk below go on while they move: nothing that is written is missed, here and at the next start", async () => {
  const file = await attach();
  await file.bitmaps.add("daily", { persistent: true, granularity: sector });
  let written = 0; // each sector once, so that each is marked by one write alone
  let over = false;
  const guest = async (): Promise<void> => {
    while (!over && written < length / sector) await file.write(pattern(sector, written), written++ * sector);
  };
  const guests = [guest(), guest(), guest()];
  for (let round = 0; round < 10; round++) {
    const raw = await runtime.attach(window(file), { name: "raw", journal: "take-over" });
    const target = { driver: "memory", size: length };
    const job = await runtime.backup({ disk: raw, bitmap: "daily", sync: "bitmap", bitmapMode: "never", target });
    await job.done;
    await raw.detach();
  }
  over = true;
  await Promise.all(guests);
  const all = [{ offset: 0, length: written * sector }];
  expect([...file.bitmaps.extents("daily")]).toEqual(all);
  expect([...(await reopen()).bitmaps.extents("daily")]).toEqual(all);
});

it("a bitmap that somebody has stays where it is until it is given back", async () => {
  const file = await attach();
  await file.bitmaps.add("daily", { persistent: true });
  const view = file.view({ bitmap: "daily" });
  await view.ready;
  const raw = await runtime.attach(window(file), { name: "raw", journal: "take-over" });
  await raw.write(pattern(512, 1), cluster);
  expect([names(file), names(raw)]).toEqual([["daily"], []]);
  await view.fail();
  await expect.poll(() => names(raw)).toEqual(["daily"]);
  expect([names(file), dirty(raw)]).toEqual([[], [1]]);
});

it("a window of a part, a second window and one of a disk that keeps nothing have none", async () => {
  const file = await attach();
  await file.bitmaps.add("daily", { persistent: true });
  const part = await runtime.attach({ ...window(file), offset: 0, size: MiB }, { journal: "take-over" });
  expect([names(part), names(file)]).toEqual([[], ["daily"]]);
  await expect(part.bitmaps.add("x", { persistent: true })).rejects.toThrow(/it is a window of 'file'/);
  const first = await runtime.attach(window(file), { journal: "take-over" });
  const second = await runtime.attach(window(file), { journal: "take-over" });
  expect([names(first), names(second)]).toEqual([["daily"], []]);
  const top = await runtime.attach(window(first), { journal: "take-over" });
  expect([names(first), names(top)]).toEqual([[], ["daily"]]);
  const memory = await runtime.attach({ driver: "memory", size: length });
  const over = await runtime.attach(window(memory), { journal: "take-over" });
  await expect(over.bitmaps.add("x", { persistent: true })).rejects.toThrow(/Can't make bitmap|Can't store/);
  await top.detach();
  await first.detach();
  expect(names(file)).toEqual(["daily"]);
});

it("where the disk below has another bitmap of the name the window is not detached, unless by force", async () => {
  const file = await attach();
  const raw = await runtime.attach(window(file), { name: "raw", journal: "take-over" });
  expect(existsSync(`${image}.heirloom`)).toBe(false);
  await raw.bitmaps.add("daily", { persistent: true });
  await raw.write(pattern(512, 1), cluster);
  await file.bitmaps.add("daily");
  await expect(raw.detach()).rejects.toThrow(
    "Bitmap 'daily' would become one of 'file', which has another of that name",
  );
  await raw.detach({ force: true });
  expect(file.bitmaps.get("daily").persistent).toBe(true);
  expect(dirty(await reopen())).toEqual([1]);
});

it("an image with persistent bitmaps is attached with its journal or not at all", async () => {
  const file = await attach();
  await file.bitmaps.add("daily", { persistent: true });
  await file.detach();
  await expect(runtime.attach({ driver: "file", filename: image }, { journal: false })).rejects.toThrow(
    /has persistent bitmaps in '.*vm\.img\.heirloom', which would become wrong/,
  );
  const elsewhere = { ...journal, directory: scene.directory };
  await expect(runtime.attach({ driver: "file", filename: image }, { journal: elsewhere })).rejects.toThrow(
    /has persistent bitmaps in/,
  );
  const readOnly = await runtime.attach({ driver: "file", filename: image, readOnly: true }, { journal: false });
  await readOnly.detach();
  expect(names(await attach())).toEqual(["daily"]);
});
