/** The journal's file system is full, or its disk fails, under a real daemon with a guest: the guest goes on, and no bitmap lies. */
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import type { QmpClient } from "@heirloom/qmp";
import { expect, test } from "vitest";
import { heirloom, peer } from "../heirloom/command.fixture.ts";
import { diskOptions, needTool, newImage, RunningDaemon, scratchDirectory } from "./daemon.fixture.ts";
import { SmallFileSystem } from "./small-file-system.fixture.ts";

const MiB = 2 ** 20;
const GiB = 2 ** 30;

async function untilEvent(events: ReturnType<QmpClient["events"]>, name: string): Promise<unknown> {
  for await (const event of events) if (event.name === name) return event.data;
  throw new Error(`the daemon is gone before ${name}`);
}

test("no room for a bitmap: the command is refused and leaves nothing, and the guest goes on", async (context) => {
  needTool(context, "qemu-io", "qemu-img");
  const directory = scratchDirectory();
  const small = SmallFileSystem.mount(context, directory, 8 * MiB);
  const place = join(small.path, "sidecars");
  // 2^20 granules: 140 KiB a layer, and 144 KiB before them.
  const [image, backup] = ["disk.raw", "backup.raw"].map((name) => newImage(join(directory, name), 64 * GiB));
  const nodes = ["--journal", place, ...diskOptions("disk", image), ...diskOptions("backup", backup)];
  const daemon = await RunningDaemon.start(directory, ...nodes);
  const uri = await daemon.serve("disk", join(directory, "nbd.sock"));
  const write = async (granule: number): Promise<string> =>
    peer("qemu-io", "-f", "raw", "-c", `write -P ${granule} ${granule * 65536} 64k`, uri);

  let free = small.fill();
  await expect(daemon.addBitmap("disk", "daily")).rejects.toThrow(/No space left on device|ENOSPC/);
  expect(existsSync(place) ? readdirSync(place) : []).toEqual([]);
  expect(await daemon.bitmaps("disk")).toEqual([]);
  expect(await write(1)).toContain("wrote 65536/65536");

  free();
  await daemon.addBitmap("disk", "daily");
  await write(2);
  free = small.fill();
  // What a guest needs was allocated with the bitmap: regions and granules that are new to it, too.
  for (const granule of [3, 40, 50_000, 1_000_000]) expect(await write(granule & 255)).toContain("wrote");
  expect(await write(100)).toContain("wrote");
  const dirty = (await daemon.bitmaps("disk"))[0];
  expect(dirty).toMatchObject({ recording: true, busy: false });
  // A freeze needs a layer for the successor.
  await expect(daemon.backup("backup", { device: "disk", bitmap: "daily" })).rejects.toThrow(/No space left on device/);
  expect(await daemon.bitmaps("disk")).toEqual([dirty]);
  await daemon.kill();

  // The next start finds a full file system, and the bitmap as it was.
  const again = await RunningDaemon.start(directory, ...nodes);
  expect(await again.bitmaps("disk")).toEqual([dirty]);
  free();
  expect(await again.backup("backup", { device: "disk", bitmap: "daily" })).toBeNull();
  expect(await again.bitmaps("disk")).toMatchObject([{ count: 0, recording: true }]);
  await again.stop();
}, 240_000);

test("the journal's disk fails: the guest goes on, an event tells, the bitmap is inconsistent here and at the next start, and can be made anew", async (context) => {
  needTool(context, "qemu-io");
  const directory = scratchDirectory();
  const small = SmallFileSystem.mount(context, directory, 8 * MiB);
  const place = join(small.path, "sidecars");
  const image = newImage(join(directory, "disk.raw"), 8 * GiB);
  const nodes = ["--journal", `${place},bound=1G`, ...diskOptions("disk", image)];
  const daemon = await RunningDaemon.start(directory, ...nodes);
  const uri = await daemon.serve("disk", join(directory, "nbd.sock"));
  await daemon.addBitmap("disk", "daily");
  await daemon.addBitmap("disk", "weekly");
  await peer("qemu-io", "-f", "raw", "-c", "write 0 64k", uri);
  small.save();
  const events = daemon.qmp.events();
  small.breakDisk();
  // In a region that is not marked: its mark cannot be made durable.
  expect(
    await peer("qemu-io", "-f", "raw", "-c", "write -P 7 7G 64k", "-c", "flush", "-c", "read -P 7 7G 64k", uri),
  ).toMatch(/wrote 65536\/65536[^]*read 65536\/65536/);
  expect(await untilEvent(events, "JOURNAL_FAILED")).toEqual({
    "node-name": "disk",
    bitmaps: ["daily", "weekly"],
    reason: expect.stringMatching(/EIO|Input\/output error|EROFS|Read-only|ENOSPC|No space/) as string,
  });
  const broken = { recording: false, inconsistent: true, persistent: true };
  expect(await daemon.bitmaps("disk")).toMatchObject([broken, broken]);
  await expect(daemon.backup("disk-file", { device: "disk", bitmap: "daily" })).rejects.toThrow(/is inconsistent/);
  await expect(daemon.addBitmap("disk", "monthly")).rejects.toThrow();
  await daemon.kill();

  // The disk is back, with a sidecar that knows nothing of the write: something else has to say so.
  small.restore();
  expect(readdirSync(place)).toHaveLength(1);
  const info = await peer(process.execPath, heirloom, "info", image, "--journal", place);
  expect(info.match(/inconsistent: /g)).toHaveLength(2);
  const again = await RunningDaemon.start(directory, ...nodes);
  expect(await again.bitmaps("disk")).toMatchObject([broken, broken]);
  await again.qmp.execute("block-dirty-bitmap-remove", { node: "disk", name: "daily" });
  await again.addBitmap("disk", "daily");
  await again.kill();
  const last = await RunningDaemon.start(directory, ...nodes);
  const bitmaps = await last.bitmaps("disk");
  expect(bitmaps.find(({ name }) => name === "daily")).toMatchObject({ recording: true, count: 0 });
  expect(bitmaps.find(({ name }) => name === "weekly")).toMatchObject(broken);
  await last.stop();
  expect(readdirSync(directory).filter((name) => name.includes("failed"))).toEqual([]);
}, 240_000);
