/** What a job does about an I/O error of its source or its target, and what tools see of it (reference 3.6, 3.11). */
import { armFault, disarmFault, type FaultRule, faultCount } from "@heirloom/block";
import type { Disk, Job } from "@heirloom/runtime";
import { expect, test } from "vitest";
import { ended, firstDifference, inScene, MiB, refusalOf, type Scene } from "./scene.fixture.ts";

const length = 2 * MiB;
const begun = ["J(created)", "J(running)"];
const finished = ["J(waiting)", "J(pending)", "BLOCK_JOB_COMPLETED", "J(concluded)", "J(null)"];
const failed = ["J(aborting)", "BLOCK_JOB_COMPLETED", "J(concluded)", "J(null)"];

interface Sides {
  readonly source: Disk;
  readonly target: Disk;
}

async function sides(scene: Scene, side: keyof Sides, rule: FaultRule): Promise<Sides> {
  const source =
    side === "source" ? await scene.faulty("source", length, [rule], 1) : await scene.disk("source", length, 1);
  const target =
    side === "target" ? await scene.faulty("target", length, [rule], 2) : await scene.disk("target", length, 2);
  await source.bitmaps.add("b");
  return { source, target };
}

function kindOf(side: keyof Sides): "read" | "write" {
  return side === "source" ? "read" : "write";
}

async function exact(scene: Scene, job: Job): Promise<void> {
  expect(await ended(job)).toEqual({ status: "completed", error: null });
  expect(firstDifference(scene.bytes("target.raw"), scene.bytes("source.raw"))).toBe(-1);
}

const both = [
  ["source", "onSourceError"],
  ["target", "onTargetError"],
] as const;

for (const [side, option] of both) {
  const operation = kindOf(side);

  test.each([undefined, "report", "enospc", "auto"] as const)(`${side}: %s fails the job on EIO`, (policy) =>
    inScene(async (scene) => {
      const { source, target } = await sides(scene, side, { kind: operation, nth: 2, action: { error: "EIO" } });
      const given = policy === undefined ? {} : { [option]: policy };
      const job = await scene.runtime.backup({
        disk: source,
        target,
        jobId: "j",
        sync: "full",
        bitmap: "b",
        bitmapMode: "on-success",
        ...given,
      });
      expect(await ended(job)).toEqual({ status: "failed", error: "Input/output error" });
      await scene.event("JOB_STATUS_CHANGE", { id: "j", status: "null" });
      expect(scene.story("j")).toEqual([...begun, `BLOCK_JOB_ERROR ${operation} report`, ...failed]);
      expect((await scene.event("BLOCK_JOB_COMPLETED", { device: "j" })).data).toMatchObject({
        type: "backup",
        error: "Input/output error",
        len: length,
        speed: 0,
      });
      expect(source.bitmaps.get("b")).toMatchObject({ busy: false, recording: true });
    }),
  );

  test(`${side}: report fails the job on ENOSPC too`, () =>
    inScene(async (scene) => {
      const { source, target } = await sides(scene, side, { kind: operation, nth: 2, action: { error: "ENOSPC" } });
      const job = await scene.runtime.backup({ disk: source, target });
      expect(await ended(job)).toEqual({ status: "failed", error: "No space left on device" });
    }));

  test.each([
    ["stop", "EIO", "failed"],
    ["stop", "ENOSPC", "nospace"],
    ["enospc", "ENOSPC", "nospace"],
    ["auto", "ENOSPC", "nospace"],
  ] as const)(`${side}: %s pauses the job on %s, resume tries again`, (policy, error, ioStatus) =>
    inScene(async (scene) => {
      const { source, target } = await sides(scene, side, { kind: operation, nth: 2, always: true, action: { error } });
      const { node } = side === "source" ? source : target;
      const job = await scene.runtime.backup({ disk: source, target, jobId: "j", maxWorkers: 1, [option]: policy });
      await scene.event("JOB_STATUS_CHANGE", { id: "j", status: "paused" });
      expect(job.info).toMatchObject({ status: "paused", paused: true, ioStatus });
      expect(await refusalOf(() => job.pause())).toMatchObject({
        code: "ERR_JOB_PAUSED",
        desc: "Job is already paused",
      });
      // It still fails: paused again, by an error of its own.
      const before = faultCount(node, 0);
      job.resume();
      expect(job.info).toMatchObject({ ioStatus: "ok" });
      await scene.until(() => job.info.paused && faultCount(node, 0) > before);
      disarmFault(node, 0);
      job.resume();
      await exact(scene, job);
      await scene.event("JOB_STATUS_CHANGE", { id: "j", status: "null" });
      const stopped = [`BLOCK_JOB_ERROR ${operation} stop`, "J(paused)", "J(running)"];
      expect(scene.story("j")).toEqual([...begun, ...stopped, ...stopped, ...finished]);
    }),
  );

  test(`${side}: ignore tries until it works, and says so each time`, () =>
    inScene(async (scene) => {
      const { source, target } = await sides(scene, side, { kind: operation, armed: false, action: { error: "EIO" } });
      const { node } = side === "source" ? source : target;
      armFault(node, 0);
      const job = await scene.runtime.backup({ disk: source, target, jobId: "j", [option]: "ignore" });
      await scene.until(
        () => scene.story("j").filter((line) => line === `BLOCK_JOB_ERROR ${operation} ignore`).length >= 3,
      );
      expect(job.info).toMatchObject({ status: "running", ioStatus: "ok" });
      disarmFault(node, 0);
      await exact(scene, job);
    }));

  test(`${side}: a job that an error stopped can be cancelled`, () =>
    inScene(async (scene) => {
      const { source, target } = await sides(scene, side, {
        kind: operation,
        nth: 1,
        always: true,
        action: { error: "EIO" },
      });
      const job = await scene.runtime.backup({
        disk: source,
        target,
        jobId: "j",
        bitmap: "b",
        sync: "full",
        bitmapMode: "always",
        [option]: "stop",
      });
      await scene.event("JOB_STATUS_CHANGE", { id: "j", status: "paused" });
      job.cancel();
      expect(await ended(job)).toEqual({ status: "cancelled", error: "Operation canceled" });
      await scene.event("JOB_STATUS_CHANGE", { id: "j", status: "null" });
      const end = ["J(paused)", "J(running)", "J(aborting)", "BLOCK_JOB_CANCELLED", "J(concluded)", "J(null)"];
      expect(scene.story("j").slice(-end.length)).toEqual(end);
      expect(source.bitmaps.get("b").count).toBe(length); // nothing was copied
    }));
}

test("guests do not notice a target that fails, and what they overwrite meanwhile is in the backup", () =>
  inScene(async (scene) => {
    const { source, target } = await sides(scene, "target", {
      kind: "write",
      nth: 1,
      always: true,
      action: { error: "ENOSPC" },
    });
    const before = scene.bytes("source.raw");
    const job = await scene.runtime.backup({ disk: source, target, jobId: "j", onTargetError: "stop" });
    await scene.event("JOB_STATUS_CHANGE", { id: "j", status: "paused" });
    for (let offset = 0; offset < length; offset += 100_000) await source.write(new Uint8Array(5000).fill(1), offset);
    disarmFault(target.node, 0);
    job.resume();
    expect(await ended(job)).toEqual({ status: "completed", error: null });
    expect(firstDifference(scene.bytes("target.raw"), before)).toBe(-1);
  }));

test("a policy that there is not is refused", () =>
  inScene(async (scene) => {
    const { source, target } = await sides(scene, "target", { kind: "flush", nth: 1, action: { error: "EIO" } });
    const onTargetError = "retry" as "stop";
    expect(await refusalOf(() => scene.runtime.backup({ disk: source, target, onTargetError }))).toMatchObject({
      code: "ERR_INVALID_ARGUMENT",
      desc: "Parameter 'on-target-error' does not accept value 'retry'",
    });
  }));
