/**
 * The story: a full backup, then incrementals of which one succeeds, one has a target that fails half-way, one is cancelled,
 * and one catches up with all that the two could not keep. Each goes into its own artefact, at a speed that lets guests
 * overwrite what is not copied yet.
 */
import { armFault, type NodeSpec } from "@heirloom/block";
import { type Artefact, backupToArtefact, type Disk, type Job, type JobResult, type Runtime } from "@heirloom/runtime";
import { now } from "./clock.ts";
import type { Progress } from "./progress.ts";
import { bytes } from "./format.ts";

export const bitmap = "daily";

export interface Plan {
  readonly name: string;
  /** For people, in the progress. */
  readonly title: string;
  readonly end: JobResult["status"];
  /** Seconds that all of the copy would take at least; of one that is cut off, long enough to meet it half-way. */
  readonly seconds: number;
}

export const plans: readonly Plan[] = [
  { name: "full", title: "full backup", end: "completed", seconds: 1.6 },
  { name: "inc-1", title: "incremental backup", end: "completed", seconds: 1 },
  { name: "inc-2", title: "incremental, target fails", end: "failed", seconds: 2.5 },
  { name: "inc-3", title: "incremental, cancelled", end: "cancelled", seconds: 2.5 },
  { name: "inc-4", title: "incremental, catches up", end: "completed", seconds: 1 },
];

export interface Backup {
  readonly plan: Plan;
  readonly why: string;
  readonly basedOn: string | undefined;
  readonly job: Job;
  readonly result: JobResult;
  readonly artefact: Artefact | undefined;
  /** What was in the set, bytes in whole clusters; and how much of it went to the target. */
  readonly set: number;
  readonly copied: number;
  /** Milliseconds from the command to the end. */
  readonly tookMs: number;
}

export interface Story {
  readonly runtime: Runtime;
  readonly disk: Disk;
  readonly progress: Progress;
  readonly pathOf: (name: string) => string;
}

/** @param chain successful artefacts so far, oldest first, with their names */
export async function runBackup(
  story: Story,
  plan: Plan,
  chain: ReadonlyArray<{ name: string; artefact: Artefact }>,
): Promise<Backup> {
  const { runtime, disk, progress } = story;
  const base = chain.at(-1);
  const set = base === undefined ? disk.length : disk.bitmaps.get(bitmap).count;
  const why =
    base === undefined
      ? `all of the disk, so that bitmap ${bitmap} begins anew`
      : `what bitmap ${bitmap} says changed since ${base.name}`;
  const begun = now();
  const backup = await backupToArtefact(runtime, {
    disk,
    bitmap,
    jobId: plan.name,
    path: story.pathOf(`${plan.name}.json`),
    why,
    speed: Math.ceil(set / plan.seconds),
    ...(base === undefined
      ? { sync: "full", bitmapMode: "on-success" }
      : { sync: "incremental", basedOn: base.artefact }),
    ...(plan.end === "failed" ? { through: failingLater } : {}),
  });
  const { job } = backup;
  for await (const { offset, length, status } of job.progress(50)) {
    progress.show(length === 0 ? 1 : offset / length, `${bytes(offset)} of ${bytes(length)}`);
    if (status !== "running" || offset < length * 0.45) continue;
    if (plan.end === "failed") armFault(job.target.node, 0);
    if (plan.end === "cancelled") job.cancel();
  }
  const { artefact, ...result } = await backup.done;
  return {
    plan,
    why,
    basedOn: base?.name,
    job,
    result,
    artefact,
    set: result.length,
    copied: result.offset,
    tookMs: now() - begun,
  };
}

/** A target that has no room left from the moment on at which its fault is armed. */
function failingLater(file: NodeSpec): NodeSpec {
  return { driver: "fault", file, rules: [{ kind: "any", armed: false, action: { error: "ENOSPC" } }] };
}
