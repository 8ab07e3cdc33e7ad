/** The command lines of `heirloom jobs` and `heirloom cancel`. */
import { buildCommand, type Command, type CommandContext } from "@stricli/core";
import { UsageError } from "../command-error.ts";
import { aboutControl, type ControlFlags, controlFlags } from "./control-flags.ts";
import { proposeJobs } from "./propose.ts";

export const jobsCommand: Command<CommandContext> = buildCommand<ControlFlags>({
  docs: {
    brief: "Backups that run, and those that nobody has dismissed",
    fullDescription: `Lists jobs: where they stand and how far they are. Of one that was cut off, what it waits for.\n\n${aboutControl}`,
  },
  parameters: { flags: controlFlags },
  loader: async () => (await import("./run-jobs.ts")).runJobs,
});

export const cancelCommand: Command<CommandContext> = buildCommand<ControlFlags, [string]>({
  docs: {
    brief: "End a backup without success: its bitmap is reclaimed",
    fullDescription: `Cancels a job. Its bitmap is reclaimed: it says what it said before, and what was written since. A job that has
ended already and was kept is forgotten.\n\n${aboutControl}`,
  },
  parameters: {
    positional: {
      kind: "tuple",
      parameters: [{ brief: "The job's id", placeholder: "JOB", parse: parseJob, proposeCompletions: proposeJobs }],
    },
    flags: controlFlags,
  },
  loader: async () => (await import("./run-jobs.ts")).runCancel,
});

export function parseJob(text: string): string {
  if (text === "") throw new UsageError("expected the id of a job, and it is empty");
  return text;
}
