import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createRuntime, type Runtime } from "@heirloom/runtime";
import { expect, onTestFinished, test } from "vitest";

const length = 1 << 20;

function scene(): { readonly runtime: Runtime; readonly image: string } {
  const directory = mkdtempSync("/tmp/heirloom-reopen-");
  const runtime = createRuntime();
  onTestFinished(async () => {
    await runtime.close();
    rmSync(directory, { recursive: true });
  });
  const image = join(directory, "vm.raw");
  writeFileSync(image, new Uint8Array(length));
  return { runtime, image };
}

const block = new Uint8Array(512).fill(7);

test("a disk attached for reading is written after it was reopened, its window after that was", async () => {
  const { runtime, image } = scene();
  const disk = await runtime.attach({ driver: "file", filename: image, readOnly: true });
  const window = await runtime.attach({ driver: "raw", file: disk });
  await disk.bitmaps.add("daily");
  await expect(disk.write(block, 0)).rejects.toMatchObject({ errno: 1 });
  await expect(window.reopen({ readOnly: false })).rejects.toThrow("Block node is read-only");
  await disk.reopen({ readOnly: false });
  await disk.write(block, 0);
  await expect(window.write(block, 65536)).rejects.toMatchObject({ errno: 1 });
  await window.reopen({ readOnly: false });
  await window.write(block, 65536);
  expect(disk.bitmaps.get("daily").count).toBe(2 * 65536);
  await disk.reopen({ readOnly: true });
  await expect(window.write(block, 0)).rejects.toMatchObject({ errno: 1 });
  await expect(disk.write(block, 0)).rejects.toMatchObject({ errno: 1 });
  expect(readFileSync(image)[65536]).toBe(7);
});

test("it is not made read-only while somebody writes it, or a window of it", async () => {
  const { runtime, image } = scene();
  const disk = await runtime.attach({ driver: "file", filename: image });
  const window = await runtime.attach({ driver: "raw", file: disk });
  const job = await runtime.backup({ disk: window, target: { driver: "null-co", size: length }, sync: "none" });
  const server = await runtime.serveNbd({ listen: [{ path: `${image}.sock` }] });
  const exported = await server.add({ disk: window, id: "guest", writable: true });
  await expect(disk.reopen({ readOnly: true })).rejects.toThrow("is written by export 'guest'");
  await exported.remove();
  const handle = disk.handle();
  await expect(disk.reopen({ readOnly: true })).rejects.toThrow("is written by 1 posted handle");
  expect(handle).toBeDefined();
  expect(disk.node.readOnly).toBe(false);
  job.cancel();
  await job.done;
});

test("bitmaps that are kept for an image record from the moment in which it can be written", async () => {
  const { runtime, image } = scene();
  const journal = { allowTmpfs: true };
  const before = createRuntime();
  const written = await before.attach({ driver: "file", filename: image }, { journal });
  await written.bitmaps.add("daily", { persistent: true });
  await before.close();
  const disk = await runtime.attach({ driver: "file", filename: image, readOnly: true }, { journal });
  expect(disk.bitmaps.list()).toEqual([]);
  await disk.reopen({ readOnly: false, journal });
  await disk.write(block, 65536);
  expect(disk.bitmaps.get("daily")).toMatchObject({ count: 65536, persistent: true, inconsistent: false });
  await disk.reopen({ readOnly: true });
  await disk.reopen({ readOnly: false, journal });
  await disk.write(block, 0);
  expect(disk.bitmaps.get("daily").count).toBe(2 * 65536);
});

test("an image with kept bitmaps is not opened for writing without them, nor beside one of their name", async () => {
  const { runtime, image } = scene();
  const journal = { allowTmpfs: true };
  const before = createRuntime();
  const written = await before.attach({ driver: "file", filename: image }, { journal });
  await written.bitmaps.add("daily", { persistent: true });
  await before.close();
  const disk = await runtime.attach({ driver: "file", filename: image, readOnly: true }, { journal: false });
  await expect(disk.reopen({ readOnly: false })).rejects.toThrow("has persistent bitmaps");
  expect(disk.node.readOnly).toBe(true);
  await disk.detach();
  const twin = await runtime.attach({ driver: "file", filename: image, readOnly: true }, { journal });
  await twin.bitmaps.add("daily");
  await expect(twin.reopen({ readOnly: false, journal })).rejects.toThrow("Bitmap already exists: daily");
  await expect(twin.write(block, 0)).rejects.toMatchObject({ errno: 1 });
  await twin.bitmaps.remove("daily");
  await twin.reopen({ readOnly: false, journal });
  expect(twin.bitmaps.get("daily").persistent).toBe(true);
});
