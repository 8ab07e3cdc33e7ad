/** A job that begins, or that comes back: what it is made of, and how everything else of it begins. */
import type { JobRecords } from "@heirloom/journal";
import type { JobState } from "./job-state.ts";
import { jobMachine } from "./machines/job-machine.ts";
import { MachineActor } from "./machines/machine-actor.ts";
import type { JobResult } from "./options.ts";
import type { PreparedBackup } from "./prepared-backup.ts";
import type { NormalizedBackup } from "./validation/backup-request.ts";
import { withResolvers } from "./waiting.ts";

const runBytesDefault: number = 1024 * 1024;

type Parts = Pick<
  JobState,
  "request" | "disk" | "bitmap" | "target" | "awaitsTarget" | "resumable" | "view" | "onCopied" | "onKept"
>;

/** @param origin how it came to be, for its history */
export function newJob(
  now: () => number,
  parts: Parts & {
    readonly group: string | null;
    readonly movers: PreparedBackup["movers"];
    readonly records: JobRecords | undefined;
    readonly origin?: string;
  },
): JobState {
  const { group, movers, records, origin, ...given } = parts;
  const { request } = given;
  const { jobId: id, speed, autoFinalize, autoDismiss } = request;
  const { promise, resolve } = withResolvers<JobResult>();
  const input = { id, speed, autoFinalize, autoDismiss, group };
  return {
    ...given,
    id,
    actor: new MachineActor(`job ${id}`, jobMachine, input, { now, ...(origin === undefined ? {} : { origin }) }),
    movers: {
      runBytesMax: request.maxChunk === 0 ? runBytesDefault : request.maxChunk,
      copies: request.copies,
      onSourceError: policyOf(request.onSourceError),
      onTargetError: policyOf(request.onTargetError),
      ...movers,
      record: records?.row,
    },
    left: false,
    resumeTimer: undefined,
    flushTimer: undefined,
    done: promise,
    finish: resolve,
    setClusters: 0,
    error: undefined,
    safe: undefined,
    decided: undefined,
    brokenSeen: false,
    flushing: undefined,
    ended: undefined,
    freezeMs: 0,
    endMs: 0,
  };
}

function policyOf(policy: NormalizedBackup["onSourceError"]): "report" | "ignore" | "stop" | "enospc" {
  return policy === "auto" ? "enospc" : policy;
}
