/** Disks on other machines: nbd nodes as sources and targets of backups, with servers that go away and hang. */
import { nbdNode } from "@heirloom/nbd";
import { expect, test } from "vitest";
import { nbdkit } from "./nbdkit.fixture.ts";
import { cluster, ended, firstDifference, granulesOf, inScene, MiB } from "./scene.fixture.ts";

const length = 4 * MiB;
const completed = { status: "completed", error: null };

test("a full backup and an incremental one into a server, while the guest writes", (context) =>
  inScene(async (scene) => {
    const disk = await scene.disk("a", length, 1);
    await disk.bitmaps.add("daily");
    scene.image("t.raw", length, 9);
    const server = await nbdkit(context, scene, "sock", ["file", scene.path("t.raw")]);
    const target = nbdNode({ path: server.path });
    for (let round = 0; round < 3; round++) {
      const shadow = scene.bytes("a.raw");
      const job = await scene.runtime.backup({
        disk,
        target,
        bitmap: "daily",
        ...(round === 0 ? { sync: "full", bitmapMode: "on-success" } : {}),
      });
      for (let granule = round; granule < 20; granule += 3) {
        await disk.write(new Uint8Array(100).fill(round + 1), granule * cluster + 77);
      }
      expect(await ended(job)).toEqual(completed);
      expect(firstDifference(scene.bytes("t.raw"), shadow)).toBe(-1);
    }
  }));

test("a disk that a server has: guests write to it, and its backup is exact", (context) =>
  inScene(async (scene) => {
    scene.image("s.raw", length, 3);
    const server = await nbdkit(context, scene, "sock", ["file", scene.path("s.raw")]);
    const disk = await scene.runtime.attach(nbdNode({ path: server.path }), { name: "remote" });
    await disk.bitmaps.add("daily");
    await disk.write(new Uint8Array(3 * cluster).fill(7), 5 * cluster + 1);
    expect(granulesOf(disk, "daily")).toEqual([5, 6, 7, 8]);
    const job = await scene.runtime.backup({ disk, target: scene.target(length), sync: "full" });
    expect(await ended(job)).toEqual(completed);
    await disk.flush();
    expect(firstDifference(scene.bytes("target0.raw"), scene.bytes("s.raw"))).toBe(-1);
    await disk.detach();
  }));

test("one export cannot be the source and the target", (context) =>
  inScene(async (scene) => {
    scene.image("s.raw", length, 3);
    const server = await nbdkit(context, scene, "sock", ["file", scene.path("s.raw")]);
    const disk = await scene.runtime.attach(nbdNode({ path: server.path }), { name: "remote" });
    await expect(scene.runtime.backup({ disk, target: nbdNode({ path: server.path }) })).rejects.toThrow();
  }));

for (const assumeWritesSurvive of [false, true]) {
  const outcome = assumeWritesSurvive
    ? "is resumed and completes where its writes are believed to survive that"
    : "is resumed, and fails at its flush, as what the server had acknowledged may be gone";
  test(`a target whose server is killed pauses the job, which ${outcome}`, (context) =>
    inScene(async (scene) => {
      const disk = await scene.disk("a", length, 1);
      await disk.bitmaps.add("daily");
      const shadow = scene.bytes("a.raw");
      scene.image("t.raw", length, 9);
      const serve = (): ReturnType<typeof nbdkit> =>
        nbdkit(context, scene, "sock", ["--filter=delay", "file", scene.path("t.raw"), "wdelay=20ms"]);
      const server = await serve();
      const target = nbdNode({ path: server.path, connections: 1, assumeWritesSurvive });
      const job = await scene.runtime.backup({
        disk,
        target,
        jobId: "j",
        sync: "full",
        bitmap: "daily",
        bitmapMode: "on-success",
        onTargetError: "stop",
        maxChunk: cluster,
      });
      await scene.until(() => job.info.offset >= 8 * cluster);
      server.kill();
      await scene.event("JOB_STATUS_CHANGE", { id: "j", status: "paused" });
      await disk.write(new Uint8Array(100).fill(5), 33 * cluster);
      await serve();
      job.resume();
      const result = await ended(job);
      if (assumeWritesSurvive) {
        expect(result).toEqual(completed);
        expect(firstDifference(scene.bytes("t.raw"), shadow)).toBe(-1);
        expect(granulesOf(disk, "daily")).toEqual([33]);
      } else {
        expect(result).toMatchObject({ status: "failed", error: "Input/output error" });
        // The next one is right, whatever the server had lost.
        const now = scene.bytes("a.raw");
        const again = await scene.runtime.backup({ disk, target, sync: "full" });
        expect(await ended(again)).toEqual(completed);
        expect(firstDifference(scene.bytes("t.raw"), now)).toBe(-1);
      }
    }));
}

test("a target that hangs is an error after its time, and no guest waits for it", (context) =>
  inScene(async (scene) => {
    const disk = await scene.disk("a", length, 1);
    await disk.bitmaps.add("daily");
    scene.image("t.raw", length, 9);
    const server = await nbdkit(context, scene, "sock", [
      ...["--filter=delay", "file", scene.path("t.raw"), "wdelay=60"],
    ]);
    const target = nbdNode({ path: server.path, requestTimeoutMs: 4000 });
    const job = await scene.runtime.backup({ disk, target, sync: "full", bitmap: "daily", bitmapMode: "on-success" });
    for (let offset = 0; offset < length; offset += cluster) await disk.write(new Uint8Array(cluster).fill(2), offset);
    // All of them are through while the target has yet to be given up.
    expect(job.info.status).toBe("running");
    expect(await ended(job)).toEqual({ status: "failed", error: "Connection timed out" });
    expect(granulesOf(disk, "daily").length).toBe(length / cluster);
  }));
