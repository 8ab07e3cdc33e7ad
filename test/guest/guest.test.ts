/**
 * A real guest on a real file system: what a backup restores, while the guest writes, is what one power cut would have left.
 * The peer's run shows that the harness is right, and planted mixtures that it can fail.
 */
import { execFile } from "node:child_process";
import { mkdtempSync } from "node:fs";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { checkInstant, settledBlocks } from "./ext4.ts";
import { Guest, missingTools } from "./guest.fixture.ts";
import { copySparse, GuestScene } from "./scene.fixture.ts";
import { copyHalf, differingClusters, transplant } from "./stale-clusters.ts";
import { heirloomStorage, qemuStorage } from "./storage.fixture.ts";

const incrementals = 5;
const storages = [
  { name: "qemu-storage-daemon", start: qemuStorage },
  { name: "heirloom", start: heirloomStorage },
];
const why = missingTools();
const skipped = why === undefined ? "" : ` (${why})`;
if (why !== undefined && process.env.CI) throw new Error(`${why}, and CI must have it`);

/** Emulation on a machine that does other things as well. */
const patient = { timeout: 180_000 };

describe.skipIf(why !== undefined).each(storages)(`a guest on an export of $name${skipped}`, patient, ({ start }) => {
  let scene: GuestScene;
  beforeAll(async () => {
    scene = await GuestScene.start(start);
    await scene.backUp(incrementals);
  }, patient.timeout);
  afterAll(async () => scene?.close(), patient.timeout);

  test("each point in time is one instant, and the one at which it was asked for", async () => {
    expect(scene.points).toHaveLength(incrementals + 1);
    for (const { image, atLeast, atMost } of scene.points) {
      const { step, faults } = await checkInstant(image);
      expect(faults, image).toEqual([]);
      expect(step).toBeGreaterThanOrEqual(atLeast);
      expect(step).toBeLessThanOrEqual(atMost + 1);
    }
  });

  test("a copy of the disk that takes its halves at two instants would be noticed", async () => {
    const mixed = scene.path("halves.raw");
    copyHalf(scene.image, mixed, 0);
    await scene.guest.step((await scene.guest.now()) + 4);
    copyHalf(scene.image, mixed, 1);
    expect((await checkInstant(mixed)).faults).not.toEqual([]);
  });

  test("an instant that is pulled after the guest wrote on is that instant", async (context) => {
    if (scene.storage.pull === undefined) return context.skip("its storage shows no instants");
    const atLeast = await scene.guest.now();
    const pulled = await scene.storage.pull();
    const atMost = await scene.guest.now();
    await scene.guest.step(atMost + 12);
    const image = scene.path("pulled.raw");
    await promisify(execFile)("nbdcopy", ["--connections=2", pulled.uri, image]);
    await pulled.close();
    const { step, faults } = await checkInstant(image);
    expect(faults).toEqual([]);
    expect(step).toBeGreaterThanOrEqual(atLeast);
    expect(step).toBeLessThanOrEqual(atMost + 1);
  });

  test("what a guest leaves that is cut off is one instant", async () => {
    const said = await scene.guest.now();
    await scene.guest.kill();
    const { step, faults } = await checkInstant(scene.image);
    expect(faults).toEqual([]);
    expect(step).toBeGreaterThanOrEqual(said);
  });

  test("a cluster that an incremental had left out would be noticed", async () => {
    const [earlier, later] = scene.points.slice(-2).map(({ image }) => image) as [string, string];
    const { step } = await checkInstant(later);
    const clusters = differingClusters(earlier, later, await settledBlocks(later, step));
    expect(clusters.length).toBeGreaterThan(12);
    const mixed = scene.path("mixed.raw");
    for (const offset of clusters.filter((_, index) => index % 3 === 0)) {
      copySparse(later, mixed);
      transplant(earlier, mixed, offset);
      expect((await checkInstant(mixed)).faults, `the cluster at ${offset}`).not.toEqual([]);
    }
  });

  test("a guest goes on from a restored point, and leaves a clean file system", async () => {
    const image = scene.points.at(-2)?.image ?? "";
    const { step } = await checkInstant(image);
    const scratch = mkdtempSync(scene.path("again-"));
    const storage = await start(scratch, image, scene.target);
    const guest = new Guest({ uri: storage.uri, scratch });
    try {
      await guest.mount();
      await guest.write(step);
      await guest.step(step + 8);
      await guest.stop();
      const left = await checkInstant(image);
      expect(left.faults).toEqual([]);
      expect(left.step).toBeGreaterThanOrEqual(step + 8);
    } finally {
      await guest.kill();
      await storage.close();
    }
  });
});
