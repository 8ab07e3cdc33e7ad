/** NBD exports as disks and as targets, against nbdkit and against ourselves. */
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { rebuild, pullToArtefact, readArtefact } from "@heirloom/runtime";
import { expect, test } from "vitest";
import { nbdkit, pauseControl } from "./nbdkit.fixture.ts";
import { cluster, ended, firstDifference, granulesOf, inScene, MiB, pattern } from "./scene.fixture.ts";

const length = 4 * MiB;
const size = String(length);

test("an export is the target of a backup, and a disk of which another is made", (context) =>
  inScene(async (scene) => {
    const { runtime } = scene;
    const peer = await nbdkit(context, scene, "nbd.sock", ["memory", size]);
    const disk = await scene.disk("a", length, 1);
    const shadow = scene.bytes("a.raw");
    const job = await runtime.backup({ disk, target: { driver: "nbd", uri: peer.uri } });
    expect(await ended(job)).toEqual({ status: "completed", error: null });
    const far = await runtime.attach({ driver: "nbd", uri: peer.uri }, { name: "far" });
    expect(far.length).toBe(length);
    await far.bitmaps.add("daily");
    await far.write(new Uint8Array(3).fill(7), 2 * cluster - 1); // over a border
    shadow.fill(7, 2 * cluster - 1, 2 * cluster + 2);
    const back = scene.target(length);
    expect(await ended(await runtime.backup({ disk: far, target: back }))).toMatchObject({ status: "completed" });
    expect(firstDifference(scene.bytes("target0.raw"), shadow)).toBe(-1);
    expect(granulesOf(far, "daily")).toEqual([1, 2]);
  }));

test("a server that is slow, and one that takes only what it has: the same bytes, and an error for any other", (context) =>
  inScene(async (scene) => {
    const { runtime } = scene;
    const disk = await scene.disk("a", length, 1);
    scene.image("t.raw", length, 1);
    const slow = await nbdkit(context, scene, "slow.sock", ["--filter=rate", "memory", size, "rate=200M"]);
    expect(await ended(await runtime.backup({ disk, target: { driver: "nbd", uri: slow.uri } }))).toMatchObject({
      status: "completed",
    });
    const back = await runtime.attach({ driver: "nbd", uri: slow.uri }, { name: "back" });
    const bytes = new Uint8Array(length);
    await back.read(bytes, 0);
    expect(firstDifference(bytes, scene.bytes("a.raw"))).toBe(-1);
    // Its filter compares what is written with what is there, and fails what differs.
    const args = ["--filter=checkwrite", "file", scene.path("t.raw")];
    const strict = await nbdkit(context, scene, "strict.sock", args);
    const target = { driver: "nbd", uri: strict.uri };
    expect(await ended(await runtime.backup({ disk, target }))).toMatchObject({ status: "completed" });
    await disk.write(new Uint8Array(1), length - 1);
    expect(await ended(await runtime.backup({ disk, target }))).toMatchObject({ status: "failed" });
  }));

test("a server that does not answer: the cancel is, the bitmap is reclaimed, and the target is free again", (context) =>
  inScene(async (scene) => {
    const { runtime } = scene;
    const control = scene.path("pause.sock");
    const log = scene.path("log");
    const filters = ["--filter=log", "--filter=pause"];
    const parameters = [`logfile=${log}`, `pause-control=${control}`];
    const peer = await nbdkit(context, scene, "nbd.sock", [...filters, "memory", size, ...parameters]);
    const disk = await scene.disk("a", length, 1);
    await disk.bitmaps.add("daily");
    await disk.write(new Uint8Array(1), 9 * cluster);
    const target = { driver: "nbd", uri: peer.uri, requestTimeoutMs: 0 };
    await pauseControl(control, "p");
    const slow = await runtime.backup({ disk, target, bitmap: "daily", jobId: "stuck" });
    await scene.until(() => readFileSync(log, "utf8").includes("Write"));
    await disk.write(new Uint8Array(1), 11 * cluster);
    const from = performance.now();
    slow.cancel();
    expect(await ended(slow)).toEqual({ status: "cancelled", error: "Operation canceled" });
    expect(performance.now() - from).toBeLessThan(2000);
    expect(granulesOf(disk, "daily")).toEqual([9, 11]);
    await scene.until(() => runtime.inspect().lettingGo.length === 0);
    await pauseControl(control, "r");
    expect(await ended(await runtime.backup({ disk, target, sync: "full" }))).toMatchObject({ status: "completed" });
  }));

test("a server that is killed fails the job, and the guest and the bitmap go on", (context) =>
  inScene(async (scene) => {
    const { runtime } = scene;
    const peer = await nbdkit(context, scene, "nbd.sock", ["--filter=delay", "memory", size, "delay-write=50ms"]);
    const disk = await scene.disk("a", length, 1);
    await disk.bitmaps.add("daily");
    await disk.write(new Uint8Array(length / 2), 0);
    const target = { driver: "nbd", uri: peer.uri };
    const job = await runtime.backup({ disk, target, bitmap: "daily", maxChunk: cluster });
    await scene.until(() => job.info.offset > 0);
    peer.kill();
    const from = performance.now();
    await disk.write(new Uint8Array(1), 40 * cluster);
    expect(performance.now() - from).toBeLessThan(1000);
    expect(await ended(job)).toEqual({ status: "failed", error: "Input/output error" });
    expect(granulesOf(disk, "daily")).toEqual([...Array.from({ length: 32 }, (_, granule) => granule), 40]);
  }));

test("errors of the server follow the job's policy: stop pauses, resume goes on to the end", (context) =>
  inScene(async (scene) => {
    const { runtime } = scene;
    const trigger = scene.path("fail");
    const peer = await nbdkit(context, scene, "nbd.sock", [
      "--filter=error",
      "memory",
      size,
      "error-pwrite=ENOSPC",
      "error-rate=100%",
      `error-file=${trigger}`,
    ]);
    const disk = await scene.disk("a", length, 1);
    writeFileSync(trigger, "");
    const target = { driver: "nbd", uri: peer.uri };
    const job = await runtime.backup({ disk, target, onTargetError: "enospc", jobId: "job" });
    await scene.until(() => job.info.status === "paused");
    expect(job.info.ioStatus).toBe("nospace");
    rmSync(trigger);
    job.resume();
    expect(await ended(job)).toEqual({ status: "completed", error: null });
    const back = await runtime.attach({ driver: "nbd", uri: peer.uri });
    const bytes = new Uint8Array(length);
    await back.read(bytes, 0);
    expect(firstDifference(bytes, pattern(length, 1))).toBe(-1);
  }));

test("points in time pulled over NBD are artefacts that rebuild, while the guest writes through another export", () =>
  inScene(async (scene) => {
    const { runtime } = scene;
    const disk = await scene.disk("a", length, 1);
    await disk.bitmaps.add("daily");
    const server = await runtime.serveNbd({ listen: [{ path: scene.path("h.sock") }] });

    const shadows: Uint8Array[] = [];
    const artefacts: string[] = [];
    for (const round of [0, 1, 2]) {
      for (const granule of [3 + round, 20 + round]) {
        await disk.write(new Uint8Array(5).fill(round + 1), granule * cluster - 2);
      }
      await using view = disk.view({ bitmap: "daily", all: true });
      await view.ready;
      shadows.push(scene.bytes("a.raw"));
      const exported = await server.add({ view, name: "point" });
      // Overwritten behind the view: what the clients see is the point in time.
      await disk.write(new Uint8Array(3 * cluster).fill(99), round * cluster);
      const path = scene.path(`${round}.json`);
      const incremental = round === 0 ? {} : { bitmap: "daily", basedOn: await readArtefact(artefacts[round - 1]) };
      await pullToArtefact({ source: exported.uris[0], path, ...incremental });
      artefacts.push(path);
      await view.success();
      expect(exported.clients).toBe(0);
      expect(server.exports).toEqual([]);
    }
    for (const round of [0, 1, 2]) {
      const image = scene.path(`rebuilt${round}.img`);
      await rebuild(artefacts.slice(0, round + 1), image);
      expect(firstDifference(scene.bytes(`rebuilt${round}.img`), shadows[round])).toBe(-1);
    }
    expect((await readArtefact(artefacts[1])).extents.length).toBeGreaterThan(1);
    await server.close();
  }));
