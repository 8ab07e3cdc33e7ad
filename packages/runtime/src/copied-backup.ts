/** What `onCopied` is given: a backup that has everything on its target, and can say what that is. */
import { copiedRanges, type Engine } from "@heirloom/engine";
import { HeirloomError } from "./errors.ts";
import type { JobState } from "./job-state.ts";
import type { CopiedBackup } from "./options.ts";

export function copiedBackup(engine: Engine, job: JobState): CopiedBackup {
  return {
    job: job.id,
    length: job.view.memory.view.length,
    clusterSize: job.request.clusterSize,
    extents: async () => {
      if (job.ended !== undefined) {
        throw new HeirloomError("ERR_JOB_ENDED", "extents", `job '${job.id}' has ended; ask before onCopied returns`);
      }
      const ranges = [...copiedRanges(job.view.memory.view)].flatMap(({ offset, length }) => [offset, length]);
      const found = await engine.nodeStatus(job.target.node, Float64Array.from(ranges));
      const extents = [];
      for (let at = 0; at < found.length; at += 3)
        extents.push({ offset: found[at], length: found[at + 1], zero: found[at + 2] !== 0 });
      return extents;
    },
  };
}
