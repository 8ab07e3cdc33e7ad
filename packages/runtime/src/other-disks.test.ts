/** A `Disk` stands for the disk that it is: not for one that took its name, nor for another runtime's. */
import { createRuntime, type Disk, type TransactionAction } from "@heirloom/runtime";
import { expect, test } from "vitest";
import { inScene, MiB, refusalOf, type Scene } from "./scene.fixture.ts";

const gone = "Disk 'vm' is not attached here: it was detached, or is another runtime's";

async function refusedEverywhere(scene: Scene, other: Disk): Promise<void> {
  const disk = await scene.disk("vm", MiB, 2);
  await disk.bitmaps.add("b");
  await disk.write(new Uint8Array(512), 0);
  const { runtime } = scene;
  const target = { driver: "null-co", size: MiB };
  const server = await runtime.serveNbd({ listen: [{ path: scene.path("nbd") }] });
  const actions: TransactionAction[] = [
    { type: "bitmap-clear", disk: other, name: "b" },
    { type: "bitmap-add", disk: other, name: "c" },
    { type: "bitmap-merge", disk, target: "b", sources: [{ disk: other, name: "b" }] },
    { type: "backup", disk: other, target },
    { type: "backup", disk, target: other },
  ];
  const calls: Record<string, () => unknown> = {
    ...Object.fromEntries(actions.map((action, index) => [`action ${index}`, () => runtime.transaction([action])])),
    backup: () => runtime.backup({ disk: other, target }),
    merge: () => disk.bitmaps.merge("b", [{ disk: other, name: "b" }]),
    window: () => runtime.attach({ driver: "raw", file: other }),
    "view's target": () => disk.view({ target: other }).ready,
    "view's limit": () => disk.view({ limit: { disk: other, name: "b" } }).ready,
    export: () => server.add({ disk: other }),
    "exported bitmap": () => server.add({ disk, bitmaps: [{ disk: other, name: "b" }] }),
  };
  for (const [name, call] of Object.entries(calls))
    expect(await refusalOf(call), name).toMatchObject({ code: "ERR_DISK_STATE", desc: gone });
  expect(disk.bitmaps.list().map(({ name, count }) => [name, count])).toEqual([["b", 65_536]]);
  expect([runtime.disks, runtime.jobs, runtime.exports]).toEqual([[disk], [], []]);
}

test("one that was detached is refused, although another has its name", () =>
  inScene(async (scene) => {
    const old = await scene.runtime.attach(scene.image("old.raw", MiB, 1), { name: "vm" });
    await old.detach();
    await refusedEverywhere(scene, old);
    expect(await refusalOf(() => old.bitmaps.clear("b"))).toMatchObject({ desc: gone });
    expect(await refusalOf(() => old.bitmaps.add("b"))).toMatchObject({ desc: gone });
    expect(await refusalOf(() => old.lockImage("write"))).toMatchObject({ desc: gone });
    expect(await refusalOf(() => old.detach())).toMatchObject({ desc: gone });
  }));

test("one of another runtime is refused, although one here has its name", () =>
  inScene(async (scene) => {
    const runtime = createRuntime();
    try {
      const other = await runtime.attach(scene.image("other.raw", MiB, 1), { name: "vm" });
      await other.bitmaps.add("b");
      await refusedEverywhere(scene, other);
      expect(other.users).toEqual({ jobs: [], views: [], exports: [], windows: [] });
    } finally {
      await runtime.close();
    }
  }));

test("one that is detached, and its name taken, while a backup of it opens its target is not mistaken for that", () =>
  inScene(async (scene) => {
    const old = await scene.runtime.attach(scene.image("old.raw", MiB, 1), { name: "vm" });
    const refused = refusalOf(() => scene.runtime.backup({ disk: old, target: scene.target(MiB) }));
    await old.detach({ force: true });
    await scene.disk("vm", MiB, 2);
    expect(await refused).toMatchObject({ code: "ERR_DISK_STATE" });
    expect(scene.runtime.jobs).toEqual([]);
  }));
