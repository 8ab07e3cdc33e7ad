/** Why a job does what it does, and why it ended, in words for events and for people. */
import { errnoText } from "@heirloom/block";
import { type JobState, jobLength } from "./job-state.ts";
import type { JobDecision } from "./machines/job-types.ts";

/** Why a backup copies what it copies. */
export function why(job: JobState): { readonly sync: string; readonly bytes: number; readonly reason: string } {
  const { request, bitmap } = job;
  return {
    sync: request.sync,
    bytes: jobLength(job),
    reason:
      bitmap === undefined
        ? `sync ${request.sync} without a bitmap`
        : request.set === "bitmap"
          ? `what bitmap ${bitmap.name} says changed since its last backup`
          : `sync ${request.sync}: bitmap ${bitmap.name} begins anew when it succeeds`,
  };
}

/** Why a bitmap abdicates or is reclaimed. */
export function endReason({ id, actor }: JobState, outcome: JobDecision): string {
  const { error } = actor.context;
  return `backup ${id} ${outcome === "success" ? "succeeded" : outcome === "failure" ? "failed" : outcome}${outcome === "failure" && error !== null ? `: ${error}` : ""}`;
}

/** Why a view could not be kept. */
export function brokenText(reason: string, errno: number): string {
  const because: Record<string, string> = {
    "spill-full": "the spill was full for longer than a guest may wait",
    "source-unreadable": `old data could not be read (${errnoText(errno)})`,
    "thread-died": "a thread that served the disk died",
    "claim-held": "a thread of the job took too long to read old data that a guest waited for",
    "spill-failed": `the spill file failed (${errnoText(errno)})`,
  };
  return `the point in time was given up: ${because[reason] ?? reason}`;
}
