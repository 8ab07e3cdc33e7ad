/** How things end that did not ask for it: disks, runtimes, an embedder's threads, a job's own threads. */
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { Worker } from "node:worker_threads";
import { faultReached, releaseHang } from "@heirloom/block";
import { createRuntime, type Disk } from "@heirloom/runtime";
import { describe, expect, test } from "vitest";
import { Guests, guestThread } from "./guests.fixture.ts";
import { cluster, ended, firstDifference, granulesOf, inScene, MiB, refusalOf, Scene } from "./scene.fixture.ts";

const length = 4 * MiB;
const completed = { status: "completed", error: null };

/** A thread that has the disk open, and goes on when it is told to. */
async function opened(scene: Scene, disk: Disk): Promise<ReturnType<typeof guestThread>> {
  const body = `
    port.postMessage("open");
    port.on("message", (message) => {
      if (message === "close") disk.close();
      if (message === "exit") process.exit(0);
      if (message !== "write") return;
      try {
        disk.write(new Uint8Array(512).fill(5), 0);
        port.postMessage("written");
      } catch (error) {
        port.postMessage(error.message);
      }
    });`;
  const worker = guestThread(scene.runtime, disk, body);
  await once(worker, "message");
  return worker;
}

async function answer(worker: ReturnType<typeof guestThread>, message: string): Promise<string> {
  worker.postMessage(message);
  const [text] = (await once(worker, "message")) as [string];
  return text;
}

describe("detaching", () => {
  test("is refused while anybody uses the disk, and names them all", () =>
    inScene(async (scene) => {
      const disk = await scene.disk("a", length, 1);
      const target = await scene.disk("t", length);
      const job = await scene.runtime.backup({ disk, target, jobId: "j", speed: 1 });
      const view = disk.view();
      await view.ready;
      const window = await scene.runtime.attach({ driver: "raw", file: disk, offset: 0, size: cluster }, { name: "w" });
      const worker = await opened(scene, disk);
      const unopened = disk.handle();
      expect(unopened.disk.layer).toBeGreaterThan(0);
      expect(await refusalOf(() => disk.detach())).toMatchObject({
        code: "ERR_DISK_IN_USE",
        message: `detach: Disk 'a' is in use by job 'j', view '${view.id}', disk 'w', 2 posted handles`,
      });
      expect(await refusalOf(() => target.detach())).toMatchObject({ desc: "Disk 't' is in use by job 'j'" });
      job.cancel();
      await job.done;
      await view.fail();
      await window.detach();
      worker.postMessage("exit");
      await once(worker, "exit");
      expect(await refusalOf(() => disk.detach())).toMatchObject({ desc: "Disk 'a' is in use by 1 posted handle" });
      await disk.detach({ force: true });
      await target.detach();
      expect(scene.runtime.disks).toEqual([]);
    }));

  test("by force: jobs are cancelled, views fail, windows go, and a thread that has it open cannot change it any more", () =>
    inScene(async (scene) => {
      const disk = await scene.disk("a", length, 2);
      await disk.bitmaps.add("b");
      const job = await scene.runtime.backup({ disk, target: scene.target(length), speed: 1 });
      const view = disk.view({ bitmap: "b" });
      await view.ready;
      const windows = [
        await scene.runtime.attach({ driver: "raw", file: disk, offset: 0, size: cluster }, { name: "w1" }),
        await scene.runtime.attach({ driver: "raw", file: disk, offset: cluster, size: cluster }, { name: "w2" }),
      ];
      const worker = await opened(scene, disk);
      expect(await answer(worker, "write")).toBe("written");
      const before = scene.bytes("a.raw");
      await disk.detach({ force: true });
      expect((await job.done).status).toBe("cancelled");
      expect(await refusalOf(() => view.success())).toMatchObject({ code: "ERR_VIEW_ENDED" });
      for (const one of [disk, ...windows])
        await expect(one.write(new Uint8Array(1), 0)).rejects.toThrow("the disk is detached");
      expect(await refusalOf(() => disk.handle())).toMatchObject({ code: "ERR_DISK_STATE" });
      expect(await refusalOf(() => scene.runtime.backup({ disk, target: scene.target(length) }))).toMatchObject({
        code: "ERR_DISK_STATE",
      });
      expect(await answer(worker, "write")).toMatch(/^write/);
      expect(firstDifference(scene.bytes("a.raw"), before)).toBe(-1);
      // The image stays open for that thread until it is gone; then it can be attached anew.
      const spec = { driver: "file", filename: scene.path("a.raw") };
      expect(await refusalOf(() => scene.runtime.attach(spec, { name: "other" }))).toMatchObject({
        code: "ERR_IMAGE_LOCKED",
      });
      worker.postMessage("exit");
      await once(worker, "exit");
      await scene.until(() => scene.runtime.disks.length === 0);
      const again = await scene.runtime.attach(spec, { name: "a" });
      await again.write(new Uint8Array(1), 0);
    }));

  test("twice by force, and beside a close: once is done, and nobody is told of an error", async () => {
    const scene = new Scene();
    const disk = await scene.disk("a", length, 3);
    await Promise.all([disk.detach({ force: true }), disk.detach({ force: true }), scene.runtime.close()]);
    expect(scene.runtime.disks).toEqual([]);
    await scene.close();
  });

  test("while a freeze waits for the gate: the disk is used already, and by force the job is cancelled as it begins", () =>
    inScene(async (scene) => {
      const rules = [{ kind: "write", nth: 1, once: true, action: { hang: true } }] as const;
      const disk = await scene.faulty("a", length, rules, 4);
      const stuck = disk.write(new Uint8Array(1), 0);
      await faultReached(disk.node, 0);
      const target = scene.target(length);
      const starting = scene.runtime.backup({ disk, target, jobId: "j" });
      await scene.until(() => disk.state.actor.context.users.length > 0);
      expect(await refusalOf(() => disk.detach())).toMatchObject({ desc: "Disk 'a' is in use by job 'j'" });
      const detached = disk.detach({ force: true });
      releaseHang(disk.node);
      await stuck;
      const job = await starting;
      expect((await job.done).status).toBe("cancelled");
      await detached;
      await scene.until(() => scene.runtime.disks.length === 0);
    }));
});

describe("closing the runtime", () => {
  test("cancels jobs, ends views, and refuses what comes after", async () => {
    const scene = new Scene();
    const disk = await scene.disk("a", length, 5);
    const jobs = [
      await scene.runtime.backup({ disk, target: scene.target(length), speed: 1 }),
      await scene.runtime.backup({ disk, target: scene.target(length), autoFinalize: false }),
    ];
    await scene.event("BLOCK_JOB_PENDING");
    const events = scene.runtime.events();
    const worker = await opened(scene, disk);
    await Promise.all([scene.runtime.close(), scene.runtime.close()]);
    for (const job of jobs) expect((await job.done).status).toBe("cancelled");
    const closed = { code: "ERR_RUNTIME_CLOSED" };
    expect(await refusalOf(() => scene.runtime.attach(scene.target(length)))).toMatchObject(closed);
    expect(await refusalOf(() => scene.runtime.backup({ disk, target: scene.target(length) }))).toMatchObject(closed);
    for await (const event of events) expect(event.name).not.toBe("EVENTS_LOST"); // it ends
    await worker.terminate();
    await scene.close();
  });

  test("a runtime that nothing was done with closes, and can be disposed of twice", async () => {
    const runtime = createRuntime();
    await runtime[Symbol.asyncDispose]();
    await runtime[Symbol.asyncDispose]();
  });
});

describe("a thread of the embedder's", () => {
  test("must be registered, and opens a handle once", () =>
    inScene(async (scene) => {
      const disk = await scene.disk("a", length, 6);
      const tries = `
        const [second] = await require("node:events").once(port, "message");
        let text = "open";
        try { openDisk(second); } catch (error) { text = error.message; }
        port.postMessage(text);
        await new Promise((resolve) => port.once("message", resolve));`;
      const threads = [guestThread(scene.runtime, disk, tries), guestThread(scene.runtime, disk, tries)];
      const handle = disk.handle();
      const answers = threads.map(async (thread) => ((await once(thread, "message")) as [string])[0]);
      for (const thread of threads) thread.postMessage(handle);
      const texts = (await Promise.all(answers)).sort();
      expect(texts[0]).toBe("open");
      expect(texts[1]).toMatch(
        /^open disk: this handle was opened before.*; make one with disk\.handle\(\) for each thread$/,
      );

      const unknown = guestThread({ register: () => {} } as unknown as typeof scene.runtime, disk, "");
      const [error] = (await once(unknown, "error")) as [Error];
      expect(error.message).toBe(
        "open disk: this thread is not registered; call runtime.register(worker) before it is given a disk",
      );
      await Promise.all(threads.map((thread) => thread.terminate()));
    }));

  test("that has ended already is not registered", () =>
    inScene(async ({ runtime }) => {
      const worker = new Worker("", { eval: true });
      await once(worker, "exit");
      expect(await refusalOf(() => runtime.register(worker))).toMatchObject({
        code: "ERR_THREAD",
        message: "register thread: it has ended already",
      });
    }));

  test("that closes its disk and ends is no death: a job goes on", () =>
    inScene(async (scene) => {
      const disk = await scene.disk("a", length, 7);
      const worker = await opened(scene, disk);
      const job = await scene.runtime.backup({ disk, target: scene.target(length), speed: 1 });
      expect(await answer(worker, "write")).toBe("written");
      worker.postMessage("close");
      worker.postMessage("exit");
      await once(worker, "exit");
      job.setSpeed(0);
      expect(await ended(job)).toEqual(completed);
    }));

  test.each(["process.exit in the middle of its writes", "terminate in the middle of its writes"])(
    "%s: its disk's jobs and views fail, bitmaps are reclaimed, other guests go on",
    (how) =>
      inScene(async (scene) => {
        const disk = await scene.disk("a", length, 8);
        const other = await scene.disk("b", length, 9);
        for (const name of ["job", "view"]) await disk.bitmaps.add(name);
        const base = scene.target(length);
        await (
          await scene.runtime.backup({ disk, target: base, sync: "full", bitmap: "job", bitmapMode: "on-success" })
        ).done;
        await disk.write(new Uint8Array(1), 3 * cluster);
        const guests = new Guests(scene.runtime, [other], 90);
        const exits = how.startsWith("process");
        const body = `
        const buffer = new Uint8Array(70000).fill(6);
        for (let count = 0; ; count++) {
          disk.write(buffer, (count * 70001) % (disk.length - buffer.length));
          if (count === 50) port.postMessage("warm");
          if (count === 400 && data.exits) process.exit(3);
        }`;
        const target = await scene.faulty("t", length, [{ kind: "write", nth: 1, once: true, action: { hang: true } }]);
        const job = await scene.runtime.backup({ disk, target, bitmap: "job" });
        await faultReached(target.node, 0); // it hangs for as long as the test looks: that does not keep the job from failing
        const untouched = await scene.runtime.backup({ disk: other, target: scene.target(length), speed: 8 * MiB });
        const view = disk.view({ bitmap: "view" });
        await view.ready;
        const worker = guestThread(scene.runtime, disk, body, { exits });
        const exit = once(worker, "exit");
        await once(worker, "message");
        if (!exits) await worker.terminate();
        await exit;
        expect(await ended(job)).toEqual({
          status: "failed",
          error: "the point in time was given up: a thread that served the disk died",
        });
        expect(await refusalOf(() => view.success())).toMatchObject({ code: "ERR_VIEW_BROKEN" });
        expect(disk.bitmaps.list().map(({ busy }) => busy)).toEqual([false, false]);
        await disk.write(new Uint8Array(1), 5 * cluster);
        expect(await ended(untouched)).toEqual(completed);
        await guests.stop();
        releaseHang(target.node);
        const next = await scene.runtime.backup({
          disk,
          bitmap: "job",
          target: { driver: "file", filename: base.filename },
        });
        expect(await ended(next)).toEqual(completed);
        expect(firstDifference(readFileSync(base.filename), scene.bytes("a.raw"))).toBe(-1);
      }),
  );
});

test("a thread of the job's own dies: the job fails, and the next incremental is exact", () =>
  inScene(async (scene) => {
    const disk = await scene.disk("a", length, 10);
    await disk.bitmaps.add("b");
    const base = scene.target(length);
    await (
      await scene.runtime.backup({ disk, target: base, sync: "full", bitmap: "b", bitmapMode: "on-success" })
    ).done;
    for (const granule of [1, 2, 3, 20, 40]) await disk.write(new Uint8Array(1), granule * cluster);
    const target = await scene.faulty("t", length, [{ kind: "write", nth: 3, once: true, action: { exit: true } }]);
    const job = await scene.runtime.backup({ disk, target, bitmap: "b", maxChunk: cluster });
    await disk.write(new Uint8Array(1).fill(1), 30 * cluster);
    const { status, error } = await job.done;
    expect(status).toBe("failed");
    expect(error).toMatch(/thread/);
    expect(granulesOf(disk, "b")).toEqual([1, 2, 3, 20, 30, 40]);
    const next = await scene.runtime.backup({ disk, bitmap: "b", target: { driver: "file", filename: base.filename } });
    expect(await ended(next)).toEqual(completed);
    expect(firstDifference(readFileSync(base.filename), scene.bytes("a.raw"))).toBe(-1);
    const full = await scene.runtime.backup({ disk, target }); // the target is free, and the disk goes on
    expect(await ended(full)).toEqual(completed);
    expect(firstDifference(scene.bytes("t.raw"), scene.bytes("a.raw"))).toBe(-1);
  }));

test("the thread that serves the main thread's requests dies: they are told, and the next ones are served", () =>
  inScene(async (scene) => {
    const disk = await scene.faulty("a", length, [{ kind: "write", nth: 2, once: true, action: { exit: true } }], 11);
    await disk.bitmaps.add("b");
    await disk.write(new Uint8Array(1), 0);
    expect(await refusalOf(() => disk.write(new Uint8Array(1), cluster))).toMatchObject({ code: "ERR_IO" });
    await disk.write(new Uint8Array(1), 2 * cluster);
    expect(granulesOf(disk, "b")).toEqual([0, 1, 2]);
    const job = await scene.runtime.backup({ disk, bitmap: "b", target: scene.target(length) });
    expect(await ended(job)).toEqual(completed);
  }));

test("the thread that reads a view for the main thread dies: the read is told, as one of the disk is", () =>
  inScene(async (scene) => {
    const disk = await scene.faulty("a", length, [{ kind: "read", nth: 1, once: true, action: { exit: true } }], 12);
    await using view = disk.view();
    await view.ready;
    const error = await view.read(new Uint8Array(cluster), 0).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ name: "BlockError", code: "ERR_IO", errno: 5, cause: { code: "ERR_THREAD_DIED" } });
    expect(firstDifference(await bytesOf(disk), scene.bytes("a.raw"))).toBe(-1);
  }));

async function bytesOf(disk: Disk): Promise<Uint8Array> {
  const bytes = new Uint8Array(disk.length);
  await disk.read(bytes, 0);
  return bytes;
}
