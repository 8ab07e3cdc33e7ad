/** Images that were changed, replaced, copied or moved while nobody had them: each has its sentence, and no bitmap is used in silence. */
import { spawnSync } from "node:child_process";
import { copyFileSync, cpSync, existsSync, renameSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { createRuntime, type Disk } from "@heirloom/runtime";
import { beforeEach, describe, expect, it, onTestFinished } from "vitest";
import { cluster, MiB, Scene } from "./scene.fixture.ts";

const length = 8 * MiB;
const journal = { allowTmpfs: true };
const program = fileURLToPath(new URL("../testing/killed-process.mjs", import.meta.url));

let image: string;
let elsewhere: string;
beforeEach((context) => {
  const scene = new Scene({}, "disk");
  context.onTestFinished(() => scene.close());
  image = join(scene.directory, "vm.img");
  elsewhere = join(scene.directory, "elsewhere.img");
  writeFileSync(image, "");
  truncateSync(image, length);
});

async function attach(filename: string, more: object = {}): Promise<{ disk: Disk; close: () => Promise<void> }> {
  const runtime = createRuntime();
  onTestFinished(() => runtime.close());
  const disk = await runtime.attach({ driver: "file", filename }, { journal: { ...journal, ...more } });
  return { disk, close: () => runtime.close() };
}
/** Cluster 5 was written. */
function kill(): void {
  expect(spawnSync(process.execPath, [program, image]).signal).toBe("SIGKILL");
}
async function stopCleanly(): Promise<void> {
  const { disk, close } = await attach(image);
  await disk.bitmaps.add("daily", { persistent: true });
  await disk.write(new Uint8Array(512).fill(1), 5 * cluster);
  await close();
}
const five = [{ offset: 5 * cluster, length: cluster }];

for (const [how, stop] of [
  ["after a clean stop", stopCleanly],
  ["after a kill", async () => kill()],
] as const) {
  describe(how, () => {
    beforeEach(() => stop());

    it("nothing was changed: the bitmap goes on", async () => {
      const { disk } = await attach(image);
      expect([...disk.bitmaps.extents("daily")]).toEqual(five);
    });

    it("the image was replaced by a copy of itself", async () => {
      copyFileSync(image, elsewhere);
      renameSync(elsewhere, image);
      await expectReason(
        image,
        /^the journal belongs to another image \(it knows file inode \d+ born \d+, this is file inode \d+ born \d+\): one of the two was copied, replaced or moved without the other$/,
      );
    });

    it("the image was made longer, or shorter", async () => {
      for (const now of [length + 512, length - 512]) {
        truncateSync(image, now);
        const { disk, close } = await attach(image);
        expect(disk.bitmaps.history("daily")[0].reason).toMatch(
          /^the image has \d+ bytes and had \d+: it was resized behind Heirloom's back$/,
        );
        expect(disk.bitmaps.get("daily")).toMatchObject({ inconsistent: true, recording: false });
        await close();
      }
    });

    it("image and sidecar were copied: both claim one identity, and only the one that has it is believed", async () => {
      cpSync(image, elsewhere, { preserveTimestamps: true });
      cpSync(`${image}.heirloom`, `${elsewhere}.heirloom`, { preserveTimestamps: true });
      await expectReason(elsewhere, /belongs to another image/);
      const { disk } = await attach(image);
      expect([...disk.bitmaps.extents("daily")]).toEqual(five);
    });

    it("image and sidecar were renamed together: it goes on", async () => {
      renameSync(image, elsewhere);
      renameSync(`${image}.heirloom`, `${elsewhere}.heirloom`);
      const { disk } = await attach(elsewhere);
      expect([...disk.bitmaps.extents("daily")]).toEqual(five);
    });

    it("the sidecar was moved without its image: the image has no bitmaps, and another one does not get these", async () => {
      renameSync(`${image}.heirloom`, `${elsewhere}.heirloom`);
      writeFileSync(elsewhere, Buffer.alloc(length));
      const { disk, close } = await attach(image);
      expect(disk.bitmaps.list()).toEqual([]);
      await close();
      expect(existsSync(`${image}.heirloom`)).toBe(false);
      await expectReason(elsewhere, /belongs to another image/);
    });

    it("the sidecar was moved, and its place is said: it goes on", async () => {
      const path = `${elsewhere}.sidecar`;
      renameSync(`${image}.heirloom`, path);
      const { disk } = await attach(image, { path });
      expect([...disk.bitmaps.extents("daily")]).toEqual(five);
    });
  });
}

it.each([
  ["written", () => writeFileSync(image, "behind its back", { flag: "r+" })],
  ["cut and made as long again", () => [length / 2, length].forEach((bytes) => truncateSync(image, bytes))],
] as const)(
  "an image that was %s: told after a clean stop; after a kill its times decide nothing",
  async (_how, write) => {
    await stopCleanly();
    write();
    await expectReason(
      image,
      /^the image was changed behind Heirloom's back at \d{4}-.*Z, after it was closed at \d{4}-.*Z$/,
    );
    const { disk, close } = await attach(image);
    await disk.bitmaps.remove("daily");
    await close();
    kill();
    write();
    const after = await attach(image);
    expect([...after.disk.bitmaps.extents("daily")]).toEqual(five);
    const [{ reason }] = after.disk.bitmaps.history("daily");
    expect(reason).toContain(
      `the image was last written at ${new Date(Math.floor(statSync(image).mtimeMs)).toISOString()}`,
    );
  },
);

async function expectReason(filename: string, reason: RegExp): Promise<void> {
  const { disk, close } = await attach(filename);
  expect(disk.bitmaps.get("daily")).toMatchObject({ inconsistent: true, recording: false, count: 0 });
  expect(disk.bitmaps.history("daily")[0].reason).toMatch(reason);
  await expect(disk.bitmaps.enable("daily")).rejects.toThrow(/inconsistent/);
  await close();
}
