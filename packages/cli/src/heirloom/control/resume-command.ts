/** The command line of `heirloom resume`. */
import { buildCommand, type Command, type CommandContext } from "@stricli/core";
import { parseSpeed } from "./backup-command.ts";
import { aboutControl, type ControlFlags, controlFlags } from "./control-flags.ts";
import { parseJob } from "./jobs-commands.ts";
import { proposePaused } from "./propose.ts";

export interface ResumeFlags extends ControlFlags {
  readonly speed?: number;
}

export const resumeCommand: Command<CommandContext> = buildCommand<ResumeFlags, [string, string?]>({
  docs: {
    brief: "Go on with a backup that is paused, or was cut off",
    fullDescription: `Goes on with the job JOB, to its end.

A resumable backup (heirloom backup --resumable) that was cut off, by a kill, a stop or a power loss of who ran it, is
paused when its disk is served again, and its bitmap waits with it. It goes on with the point in time that it began
with, into the target that it had: TARGET where that was moved or renamed since, by default where it was. A new target
is still TARGET.partial, and gets its name when it is whole. Any other file is refused, and the job waits on.

Ctrl-C cancels it: its bitmap is reclaimed. 'heirloom cancel JOB' does the same to one that nobody wants any more.

Examples:
  heirloom jobs
  heirloom resume backup-1
  heirloom resume backup-1 /mnt/elsewhere/monday.raw

${aboutControl}`,
    customUsage: ["JOB [TARGET] [--speed SIZE] [options]"],
  },
  parameters: {
    positional: {
      kind: "tuple",
      parameters: [
        { brief: "The job's id", placeholder: "JOB", parse: parseJob, proposeCompletions: proposePaused },
        { brief: "Where its target is now: a file, a device", placeholder: "TARGET", parse: String, optional: true },
      ],
    },
    flags: {
      speed: {
        kind: "parsed",
        parse: parseSpeed,
        optional: true,
        brief: "Bytes a second at most (default: as it was)",
        placeholder: "SIZE",
      },
      ...controlFlags,
    },
  },
  loader: async () => (await import("./run-resume.ts")).runResume,
});
