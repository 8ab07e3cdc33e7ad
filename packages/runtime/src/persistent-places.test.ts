/** Where persistent bitmaps are kept, and how far: block devices, and a bound that changes. */
import { spawnSync } from "node:child_process";
import { existsSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createRuntime, type Disk } from "@heirloom/runtime";
import { beforeEach, expect, it, onTestFinished } from "vitest";
import { cluster, MiB, Scene } from "./scene.fixture.ts";

let image: string;
beforeEach((context) => {
  const scene = new Scene({}, "disk");
  context.onTestFinished(() => scene.close());
  image = join(scene.directory, "vm.img");
  writeFileSync(image, "");
  truncateSync(image, 8 * MiB);
});

async function attach(filename: string, journal: object): Promise<{ disk: Disk; close: () => Promise<void> }> {
  const runtime = createRuntime();
  onTestFinished(() => runtime.close());
  return {
    disk: await runtime.attach({ driver: "file", filename }, { journal: { allowTmpfs: true, ...journal } }),
    close: () => runtime.close(),
  };
}

it("another bound is taken over once a clean stop has settled everything", async () => {
  const first = await attach(image, { bound: 2 ** 30 });
  await first.disk.bitmaps.add("daily", { persistent: true });
  await first.disk.write(new Uint8Array(512), 3 * cluster);
  expect(first.disk.journal).toMatchObject({ bound: 2 ** 30, unsettled: 8 * MiB });
  await first.close();
  const second = await attach(image, { bound: 64 * MiB });
  expect(second.disk.journal).toMatchObject({ bound: 64 * MiB, unsettled: 0 });
  await second.disk.write(new Uint8Array(512), 5 * cluster);
  await second.close();
  const third = await attach(image, {}); // none is said: it stays
  expect(third.disk.journal?.bound).toBe(64 * MiB);
  expect([...third.disk.bitmaps.extents("daily")].map(({ offset }) => offset / cluster)).toEqual([3, 5]);
  await third.close();
  await expect(attach(image, { bound: MiB })).rejects.toThrow(/expected a bound of at least 67108864 bytes/);
});

function losetup(): string {
  return (spawnSync("losetup", ["-f", "--show", image], { encoding: "utf8" }).stdout ?? "").trim();
}

it("a block device: the sidecar is found again under another number, and believed for no other image", async (context) => {
  const device = losetup();
  // Not a failure in CI: containers there have no loop devices, whatever is installed.
  if (device === "" || !existsSync(device)) context.skip("no loop devices here (they need root and the loop module)");
  onTestFinished(() => void spawnSync("losetup", ["-d", device]));
  const first = await attach(device, {});
  await first.disk.bitmaps.add("daily", { persistent: true });
  const sidecar = first.disk.journal?.path ?? "";
  onTestFinished(() => rmSync(sidecar, { force: true }));
  expect(sidecar).toMatch(/^\/var\/lib\/heirloom\/loop_on_inode_\d+_born_\d+\.heirloom$/);
  await first.disk.write(new Uint8Array(512), 7 * cluster);
  await first.close();

  const other = losetup();
  onTestFinished(() => void spawnSync("losetup", ["-d", other]));
  expect(other).not.toBe(device);
  const second = await attach(other, {});
  expect([...second.disk.bitmaps.extents("daily")]).toEqual([{ offset: 7 * cluster, length: cluster }]);
  expect(second.disk.journal?.path).toBe(sidecar);
  await second.close();

  // A sidecar for another device, by its place.
  rmSync(`${image}.other`, { force: true });
  writeFileSync(`${image}.other`, Buffer.alloc(8 * MiB));
  const third = await attach(`${image}.other`, { path: sidecar });
  expect(third.disk.bitmaps.history("daily")[0].reason).toMatch(
    /^the journal belongs to another image \(it knows device loop on inode \d+ born \d+, this is file inode/,
  );
  await third.close();
});
