/** Why a target that is the right one cannot be written by a job now. */
import { refusal, RefusalError } from "./errors.ts";
import type { JobState, JobTarget } from "./job-state.ts";
import type { World } from "./world.ts";
import { isTarget } from "./world.ts";

export function refuseTarget(world: World, job: JobState, { node, length }: JobTarget): string | undefined {
  const { clusterSize } = job.view.memory;
  if (node.readOnly) return "it is read-only";
  if (length !== job.disk.layer.table.length)
    return `it has ${length} bytes, and the disk ${job.disk.layer.table.length}`;
  if (clusterSize % node.alignment !== 0) return `it takes requests aligned to ${node.alignment} bytes only`;
  if (node.identity === job.disk.node.identity) return "it is the disk itself";
  if (isTarget(world, node.identity)) return "another job writes it";
  const lettingGo = world.lettingGo.get(node.identity);
  return lettingGo === undefined ? undefined : `job '${lettingGo}' has ended and is still letting go of it`;
}

export function targetRefusal({ id }: JobState, desc: string): RefusalError {
  return new RefusalError("job resume", refusal("ERR_JOB_TARGET", desc, { job: id }));
}
