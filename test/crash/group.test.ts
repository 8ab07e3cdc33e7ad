/** A group whose success was decided, and a crash before its members had said so themselves. */
import { mkdtempSync, renameSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { closeFile, O_RDWR, openFile } from "../../packages/block/dist/index.js";
import { BlockBits, layerMemoryWords } from "../../packages/journal/dist/block-bits.js";
import { type Directory, encodeDirectory } from "../../packages/journal/dist/directory.js";
import { bootId } from "../../packages/journal/dist/identity.js";
import { readSidecar } from "../../packages/journal/dist/recover.js";
import { createLayer, writeDirectory } from "../../packages/journal/dist/steps.js";
import { FileStorage } from "../../packages/journal/dist/storage.js";
import { createRuntime } from "../../packages/runtime/dist/index.js";

const cluster = 65536;
const length = 64 * cluster;
const group = "ab".repeat(16);
const journal = { allowTmpfs: true };

let place: string;
beforeEach(async () => {
  place = mkdtempSync(join(tmpdir(), "group-"));
  for (const name of ["first", "second"]) {
    const image = join(place, name);
    writeFileSync(image, "");
    truncateSync(image, length);
    await using runtime = createRuntime();
    const disk = await runtime.attach({ driver: "file", filename: image }, { journal });
    await disk.bitmaps.add("daily", { persistent: true });
    await disk.write(new Uint8Array(512), 3 * cluster); // before the freeze
  }
});
afterEach(() => rmSync(place, { recursive: true }));

/** As a kill leaves it. @param change of what the directory says */
function leave(name: string, change: (directory: Directory) => Directory): void {
  const path = join(place, `${name}.heirloom`);
  const fd = openFile(path, O_RDWR);
  const storage = new FileStorage(fd);
  const { directory, directorySequence: sequence, tag } = readSidecar(storage, path);
  const [bitmap] = directory.bitmaps;
  const successor = { id: directory.nextLayer, role: "successor" as const, length, offset: 147_456 + 8 * 4096 };
  expect(createLayer(storage, tag, { ...successor, granularity: cluster })).toBe(0);
  const words = new Int32Array(layerMemoryWords(length, cluster));
  const access = {
    storage,
    tag,
    layer: successor.id,
    offset: successor.offset,
    length,
    granularity: cluster,
    words,
    holder: 1,
  };
  expect(new BlockBits(access).journal(9 * cluster, 1, true)).toBe(0); // after it
  const next = change({
    ...directory,
    inUse: true,
    bootId: bootId(),
    nextLayer: successor.id + 1,
    bitmaps: [{ ...bitmap, layers: [...bitmap.layers, successor] }],
  });
  expect(writeDirectory(storage, encodeDirectory(next, tag, sequence + 1), sequence + 1)).toBe(0);
  closeFile(fd);
}

const pending = (directory: Directory): Directory => ({
  ...directory,
  bitmaps: directory.bitmaps.map((bitmap) => ({
    ...bitmap,
    pending: { group, sidecar: join(place, "first.heirloom") },
  })),
});

async function second(): Promise<{ dirty: number[]; story: string | undefined }> {
  await using runtime = createRuntime();
  const { bitmaps } = await runtime.attach({ driver: "file", filename: join(place, "second") }, { journal });
  const dirty = [...bitmaps.extents("daily")].map(({ offset }) => offset / cluster);
  return { dirty, story: bitmaps.history("daily")[0].reason };
}

it("decided: a member that had not said so has abdicated", async () => {
  leave("first", (directory) => ({ ...directory, decisions: [group] }));
  leave("second", pending);
  expect(await second()).toMatchObject({ dirty: [9], story: expect.stringContaining("it abdicated") as string });
});

it("not decided: it is reclaimed", async () => {
  leave("first", (directory) => directory);
  leave("second", pending);
  expect(await second()).toMatchObject({ dirty: [3, 9], story: expect.stringContaining("it was reclaimed") as string });
});

it("a decision that cannot be read: it is reclaimed, and says so", async () => {
  leave("second", pending);
  renameSync(join(place, "first.heirloom"), join(place, "elsewhere"));
  const { dirty, story } = await second();
  expect(dirty).toEqual([3, 9]);
  expect(story).toMatch(/its group's decision could not be read, so it was reclaimed/);
});

it("without a group a successor on disk is a freeze that nobody ended: reclaimed, also when killed again at once", async () => {
  leave("second", (directory) => directory);
  expect((await second()).dirty).toEqual([3, 9]);
  expect((await second()).dirty).toEqual([3, 9]);
});
