/** A job's error policy, carried out on the thread that met the error. */
import type { Errno } from "@heirloom/block";
import { failedWord, pausedBySource, pausedByTarget, pausedWord } from "./job-layout.ts";
import { errnoNoSpace, type ErrorPolicy, type MoverError, type MoverJob } from "./mover-types.ts";

/** What an error means: `report` fails the job, `stop` pauses it, `ignore` tries again. */
export function actionFor(policy: ErrorPolicy, errno: Errno): MoverError["action"] {
  if (policy === "enospc") return errno === errnoNoSpace ? "stop" : "report";
  return policy;
}

/**
 * Tells the coordinator and sets what the other threads of the job look at.
 * @returns false if the job has failed
 */
export function meetError(job: MoverJob, operation: "read" | "write" | "flush", errno: Errno, offset: number): boolean {
  const action = actionFor(operation === "read" ? job.onSourceError : job.onTargetError, errno);
  if (action === "stop") Atomics.or(job.words, pausedWord, operation === "read" ? pausedBySource : pausedByTarget);
  if (action === "report") Atomics.store(job.words, failedWord, 1);
  job.report({ operation, errno, offset, action });
  return action !== "report";
}
