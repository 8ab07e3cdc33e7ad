/** A job's states, verbs and events, as QEMU's tools know them (reference 3.7 to 3.11), and what is refused before. */
import { faultReached, releaseHang } from "@heirloom/block";
import type { BackupOptions } from "@heirloom/runtime";
import { expect, test } from "vitest";
import { cluster, ended, firstDifference, inScene, MiB, refusalOf } from "./scene.fixture.ts";

const length = 4 * MiB;
const begun = ["J(created)", "J(running)"];

function notIn(state: string, verb: string): { code: string; desc: string } {
  return { code: "ERR_JOB_STATE", desc: `Job 'j' in state '${state}' cannot accept command verb '${verb}'` };
}

test("success: the events in QEMU's order, with its numbers", () =>
  inScene(async (scene) => {
    const disk = await scene.disk("a", length - 512, 1);
    const job = await scene.runtime.backup({ disk, target: scene.target(length - 512), jobId: "j" });
    expect(await job.done).toMatchObject({ id: "j", status: "completed", error: null, offset: length, length });
    await scene.event("JOB_STATUS_CHANGE", { status: "null" });
    expect(scene.story("j")).toEqual([
      ...begun,
      "J(waiting)",
      "J(pending)",
      "BLOCK_JOB_COMPLETED",
      "J(concluded)",
      "J(null)",
    ]);
    const { data } = await scene.event("BLOCK_JOB_COMPLETED");
    expect(data).toEqual({ type: "backup", device: "j", len: length, offset: length, speed: 0 }); // the last cluster counts whole
    expect(job.info).toMatchObject({ status: "null", offset: length, length, error: null }); // kept after the end
    expect(scene.runtime.jobs).toEqual([]);
  }));

test("finalized and dismissed by hand", () =>
  inScene(async (scene) => {
    const disk = await scene.disk("a", length, 2);
    await disk.bitmaps.add("b");
    const target = scene.target(length);
    const options = { disk, target, jobId: "j", sync: "full", bitmap: "b", bitmapMode: "on-success" } as const;
    const job = await scene.runtime.backup({ ...options, autoFinalize: false, autoDismiss: false });
    await scene.event("BLOCK_JOB_PENDING");
    expect(scene.story("j").slice(2)).toEqual(["J(waiting)", "J(pending)", "BLOCK_JOB_PENDING"]);
    expect((await scene.event("BLOCK_JOB_PENDING")).data).toEqual({ type: "backup", id: "j" });
    expect(disk.bitmaps.get("b")).toMatchObject({ busy: true, state: "frozen" });
    await disk.write(new Uint8Array(1), 0);
    expect(await refusalOf(() => job.pause())).toMatchObject(notIn("pending", "pause"));
    expect(await refusalOf(() => job.resume())).toMatchObject({
      code: "ERR_JOB_NOT_PAUSED",
      desc: "Can't resume a job that was not paused",
    });
    expect(await refusalOf(() => job.setSpeed(1))).toMatchObject(notIn("pending", "set-speed"));
    expect(await refusalOf(() => job.dismiss())).toMatchObject(notIn("pending", "dismiss"));
    job.finalize();
    expect((await job.done).status).toBe("completed");
    expect(job.info.status).toBe("concluded");
    expect(disk.bitmaps.get("b")).toMatchObject({ busy: false, count: 65536 });
    expect(scene.runtime.jobs.map(({ id }) => id)).toEqual(["j"]);
    const taken = { code: "ERR_JOB_EXISTS", desc: "Job ID 'j' already in use" };
    expect(
      await refusalOf(() => scene.runtime.backup({ disk, target: scene.target(length), jobId: "j" })),
    ).toMatchObject(taken);
    for (const [verb, work] of Object.entries({
      cancel: () => job.cancel(),
      pause: () => job.pause(),
      "set-speed": () => job.setSpeed(1),
      finalize: () => job.finalize(),
    })) {
      expect(await refusalOf(work)).toMatchObject(notIn("concluded", verb));
    }
    job.dismiss();
    expect(await refusalOf(() => job.dismiss())).toMatchObject({
      code: "ERR_JOB_NOT_FOUND",
      message: "job dismiss: Job not found",
    });
    await scene.event("JOB_STATUS_CHANGE", { status: "null" });
    expect(scene.story("j").slice(5)).toEqual(["BLOCK_JOB_COMPLETED", "J(concluded)", "J(null)"]);
  }));

test("cancelled in pending: a cancel, though all was copied", () =>
  inScene(async (scene) => {
    const disk = await scene.disk("a", length, 3);
    const job = await scene.runtime.backup({ disk, target: scene.target(length), jobId: "j", autoFinalize: false });
    await scene.event("BLOCK_JOB_PENDING");
    job.cancel();
    expect(await ended(job)).toEqual({ status: "cancelled", error: "Operation canceled" });
    await scene.event("JOB_STATUS_CHANGE", { status: "null" });
    expect(scene.story("j").slice(5)).toEqual(["J(aborting)", "BLOCK_JOB_CANCELLED", "J(concluded)", "J(null)"]);
    const { data } = await scene.event("BLOCK_JOB_CANCELLED");
    expect(data).toEqual({ type: "backup", device: "j", len: length, offset: length, speed: 0 });
  }));

test("a failed job never waits to be finalized, but to be dismissed", () =>
  inScene(async (scene) => {
    const disk = await scene.disk("a", length, 4);
    const target = await scene.faulty("t", length, [{ kind: "write", nth: 1, action: { error: "EIO" } }]);
    const job = await scene.runtime.backup({ disk, target, jobId: "j", autoFinalize: false, autoDismiss: false });
    expect(await ended(job)).toEqual({ status: "failed", error: "Input/output error" });
    expect(job.info).toMatchObject({ status: "concluded", error: "Input/output error" });
    expect(await refusalOf(() => job.finalize())).toMatchObject(notIn("concluded", "finalize"));
    expect(scene.story("j")).not.toContain("BLOCK_JOB_PENDING");
    job.dismiss();
    expect(scene.runtime.jobs).toEqual([]);
  }));

test("paused and resumed by hand: nothing of the background copy goes on, what guests overwrite does", () =>
  inScene(async (scene) => {
    const disk = await scene.disk("a", length, 5);
    const target = await scene.faulty("t", length, [{ kind: "write", nth: 2, once: true, action: { hang: true } }]);
    const job = await scene.runtime.backup({ disk, target, jobId: "j", maxWorkers: 1, maxChunk: cluster });
    await faultReached(target.node, 0);
    job.pause();
    expect(job.info).toMatchObject({ status: "paused", paused: true });
    expect(await refusalOf(() => job.pause())).toMatchObject({ code: "ERR_JOB_PAUSED", desc: "Job is already paused" });
    expect(await refusalOf(() => job.finalize())).toMatchObject(notIn("paused", "finalize"));
    releaseHang(target.node);
    await scene.until(() => job.info.offset >= 2 * cluster); // what was on its way arrives
    const shadow = scene.bytes("a.raw");
    const at = 40 * cluster;
    await disk.write(new Uint8Array(cluster).fill(1), at);
    await scene.until(() => job.info.offset >= 3 * cluster);
    expect(job.info.offset).toBe(3 * cluster);
    expect(firstDifference(scene.bytes("t.raw").subarray(at, at + cluster), shadow.subarray(at, at + cluster))).toBe(
      -1,
    );
    job.resume();
    expect(await refusalOf(() => job.resume())).toMatchObject({ code: "ERR_JOB_NOT_PAUSED" });
    expect(await ended(job)).toEqual({ status: "completed", error: null });
    expect(firstDifference(scene.bytes("t.raw"), shadow)).toBe(-1);
    await scene.event("JOB_STATUS_CHANGE", { status: "null" });
    expect(scene.story("j").slice(0, 4)).toEqual([...begun, "J(paused)", "J(running)"]);
  }));

test("a paused job is cancelled by way of running", () =>
  inScene(async (scene) => {
    const disk = await scene.disk("a", length, 6);
    const job = await scene.runtime.backup({ disk, target: scene.target(length), jobId: "j", speed: 1 });
    job.pause();
    job.cancel();
    expect((await job.done).status).toBe("cancelled");
    await scene.event("JOB_STATUS_CHANGE", { status: "null" });
    expect(scene.story("j")).toEqual([
      ...begun,
      "J(paused)",
      "J(running)",
      "J(aborting)",
      "BLOCK_JOB_CANCELLED",
      "J(concluded)",
      "J(null)",
    ]);
  }));

test("speed: one chunk overshoots, then it holds; setting it wakes a job that waits", () =>
  inScene(async (scene) => {
    const disk = await scene.disk("a", length, 7);
    const job = await scene.runtime.backup({
      disk,
      target: scene.target(length),
      jobId: "j",
      speed: 1,
      maxChunk: cluster,
      maxWorkers: 1,
    });
    await scene.until(() => job.info.offset === cluster);
    expect(job.info).toMatchObject({ speed: 1, offset: cluster });
    expect(await refusalOf(() => job.setSpeed(-1))).toMatchObject({
      code: "ERR_JOB_SPEED",
      desc: "Parameter 'speed' expects a non-negative value",
    });
    expect(job.info.offset).toBe(cluster); // an hour would not suffice for the next one
    const from = performance.now();
    job.setSpeed(8 * MiB);
    expect(await ended(job)).toEqual({ status: "completed", error: null });
    // 63 clusters, the last of them free to start when the one before it is paid: 62 at 128 a second.
    expect(performance.now() - from).toBeGreaterThan(400);
    expect((await scene.event("BLOCK_JOB_COMPLETED")).data.speed).toBe(8 * MiB);
  }));

test("speed: a job whose last cluster is copied ends, and does not wait until it could copy another", () =>
  inScene(async (scene) => {
    const disk = await scene.disk("a", cluster, 7);
    const job = await scene.runtime.backup({ disk, target: scene.target(cluster), jobId: "j", speed: 1 });
    expect(await ended(job)).toEqual({ status: "completed", error: null });
  }));

test("what is refused before the freeze, with QEMU's texts", () =>
  inScene(async (scene) => {
    const disk = await scene.disk("a", length, 8);
    const other = await scene.disk("t", length, 9);
    await disk.bitmaps.add("b");
    const target = other;
    const mode = "ERR_BACKUP_BITMAP_MODE";
    const cases: [BackupOptions, string, string][] = [
      [{ disk: "z", target }, "ERR_NODE_NOT_FOUND", "Cannot find device='z' nor node-name='z'"],
      [
        { disk, target, sync: "incremental" },
        "ERR_BACKUP_BITMAP_REQUIRED",
        "must provide a valid bitmap name for 'incremental' sync mode",
      ],
      [
        { disk, target, sync: "bitmap" },
        "ERR_BACKUP_BITMAP_REQUIRED",
        "must provide a valid bitmap name for 'bitmap' sync mode",
      ],
      [
        { disk, target, sync: "incremental", bitmap: "b", bitmapMode: "never" },
        mode,
        "Bitmap sync mode must be 'on-success' when using sync mode 'incremental'",
      ],
      [{ disk, target, bitmap: "x" }, "ERR_BITMAP_NOT_FOUND", "Bitmap 'x' could not be found"],
      [{ disk, target, sync: "full", bitmap: "b" }, mode, "Bitmap sync mode must be given when providing a bitmap"],
      [
        { disk, target, sync: "none", bitmap: "b", bitmapMode: "always" },
        mode,
        "sync mode 'none' does not produce meaningful bitmap outputs",
      ],
      [
        { disk, target, sync: "full", bitmap: "b", bitmapMode: "never" },
        mode,
        "Bitmap sync mode 'never' has no meaningful effect when combined with sync mode 'full'",
      ],
      [
        { disk, target, sync: "top", bitmap: "b", bitmapMode: "never" },
        mode,
        "Bitmap sync mode 'never' has no meaningful effect when combined with sync mode 'top'",
      ],
      [{ disk, target, bitmapMode: "always" }, mode, "Cannot specify bitmap sync mode without a bitmap"],
      [{ disk, target: disk }, "ERR_BACKUP_SAME_NODE", "Source and target cannot be the same"],
      [{ disk, target, maxWorkers: 0 }, "ERR_INVALID_ARGUMENT", "max-workers must be between 1 and 2147483647"],
      [
        { disk, target, maxChunk: -1 },
        "ERR_INVALID_ARGUMENT",
        "max-chunk must be zero (which means no limit) or positive",
      ],
      [
        { disk, target, maxChunk: 4096 },
        "ERR_BACKUP_CHUNK",
        "Required max-chunk (4096) is less than backup cluster size (65536)",
      ],
      [{ disk, target: scene.target(512) }, "ERR_BACKUP_SIZES", "Source and target image have different sizes"],
      [
        { disk, target: { ...scene.image("ro.raw", length, 1), readOnly: true } },
        "ERR_NODE_READ_ONLY",
        "Could not create node: Block node is read-only",
      ],
      [{ disk, target, jobId: "" }, "ERR_JOB_ID", "Invalid job ID ''"],
      [{ disk, target, jobId: "1x" }, "ERR_JOB_ID", "Invalid job ID '1x'"],
      [{ disk, target, speed: -1 }, "ERR_JOB_SPEED", "Parameter 'speed' expects a non-negative value"],
      [
        { disk, target, bitmap: "b", bitmapMode: "foo" as "never" },
        "ERR_INVALID_ARGUMENT",
        "Parameter 'bitmap-mode' does not accept value 'foo'",
      ],
    ];
    for (const [options, code, desc] of cases)
      expect(await refusalOf(() => scene.runtime.backup(options)), desc).toMatchObject({ code, desc });
    expect(disk.bitmaps.get("b")).toMatchObject({ busy: false, recording: true });
    expect(scene.events).toEqual([]);
    await disk.detach(); // nothing of them has stayed behind
    await other.detach();
  }));

test("a target that is a target already is refused, named by its own job", () =>
  inScene(async (scene) => {
    const disk = await scene.disk("a", length, 10);
    const other = await scene.disk("c", length, 11);
    const target = await scene.disk("t", length);
    const job = await scene.runtime.backup({ disk, target, speed: 1 });
    expect(await refusalOf(() => scene.runtime.backup({ disk: other, target }))).toMatchObject({
      code: "ERR_NODE_BUSY",
      desc: "Node 't' is busy: block device is in use by block job: backup",
    });
    const spec = scene.target(length);
    const second = await scene.runtime.backup({ disk, target: spec, speed: 1 });
    const locked = await refusalOf(() =>
      scene.runtime.backup({ disk: other, target: { driver: "file", filename: spec.filename } }),
    );
    expect(locked.code).toBe("ERR_IMAGE_LOCKED");
    job.cancel();
    second.cancel();
    await second.done;
  }));

test("a guest's write that hangs holds the freeze: refused at its deadline, naming the write", () =>
  inScene(
    async (scene) => {
      const disk = await scene.faulty("a", length, [{ kind: "write", nth: 1, once: true, action: { hang: true } }], 12);
      await disk.bitmaps.add("b");
      const stuck = disk.write(new Uint8Array(512), 0);
      await faultReached(disk.node, 0);
      const target = scene.target(length);
      const refused = await refusalOf(() => scene.runtime.backup({ disk, target, bitmap: "b" }));
      expect(refused.code).toBe("ERR_GATE_HELD");
      expect(refused.desc).toContain("write");
      expect(await refusalOf(() => disk.view({ bitmap: "b" }).ready)).toMatchObject({ code: "ERR_GATE_HELD" });
      releaseHang(disk.node);
      await stuck;
      const job = await scene.runtime.backup({ disk, target, bitmap: "b" }); // the same call again
      expect(await ended(job)).toEqual({ status: "completed", error: null });
      expect(disk.bitmaps.get("b")).toMatchObject({ count: 0, busy: false });
    },
    { freezeDeadlineMs: 200 },
  ));

test("onCopied runs before the success, with what was copied; where it throws the bitmap is reclaimed", () =>
  inScene(async (scene) => {
    const disk = await scene.disk("a", length);
    await disk.bitmaps.add("b");
    await disk.write(new Uint8Array(cluster).fill(5), 3 * cluster);
    await disk.writeZeroes(5 * cluster, cluster, { unmap: true });
    const seen: unknown[] = [];
    const job = await scene.runtime.backup({
      disk,
      bitmap: "b",
      target: scene.target(length),
      onCopied: async (copied) => {
        seen.push(copied.job, copied.length, copied.clusterSize, await copied.extents(), disk.bitmaps.get("b").state);
        throw new Error("the catalogue is full");
      },
    });
    expect(await ended(job)).toEqual({ status: "failed", error: "the catalogue is full" });
    const extents = [
      { offset: 3 * cluster, length: cluster, zero: false },
      { offset: 5 * cluster, length: cluster, zero: true },
    ];
    expect(seen).toEqual([job.id, length, cluster, extents, "frozen"]);
    expect(disk.bitmaps.get("b").count).toBe(2 * cluster);
  }));

test.each([
  [undefined, "undefined"],
  [null, "null"],
  ["the catalogue is full", "'the catalogue is full'"],
  [{ why: 1 }, "{ why: 1 }"],
])("onCopied that throws no error but %s fails the job as any other", (thrown, text) =>
  inScene(async (scene) => {
    const disk = await scene.disk("a", length);
    await disk.bitmaps.add("b");
    const job = await scene.runtime.backup({
      disk,
      bitmap: "b",
      target: scene.target(length),
      onCopied: async () => {
        throw thrown; // oxlint-disable-line typescript/only-throw-error -- as a user's code may
      },
    });
    expect(await ended(job)).toEqual({ status: "failed", error: text });
    expect(disk.bitmaps.get("b").state).toBe("recording");
  }),
);
