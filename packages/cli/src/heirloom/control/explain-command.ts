/** The command line of `heirloom explain`. */
import { buildCommand, type Command, type CommandContext } from "@stricli/core";
import { aboutControl, type ControlFlags, controlFlags } from "./control-flags.ts";
import { proposeNodes } from "./propose.ts";

export const explainCommand: Command<CommandContext> = buildCommand<ControlFlags, [string?]>({
  docs: {
    brief: "How it came to this: state and history of disks, bitmaps, jobs and exports",
    fullDescription: `Shows the state machines behind everything, each with its state and the changes that led to it: why a bitmap is
busy or inconsistent, why a backup was a full one, what became of a bitmap when a backup failed. The last jobs are
shown after their end, too.

NAME is a node, a bitmap (NAME or NODE/NAME), a job or an export; without it, all are shown.

${aboutControl}`,
  },
  parameters: {
    positional: {
      kind: "tuple",
      parameters: [
        {
          brief: "A node, bitmap, job or export",
          placeholder: "NAME",
          parse: String,
          optional: true,
          proposeCompletions: proposeNodes,
        },
      ],
    },
    flags: controlFlags,
  },
  loader: async () => (await import("./run-explain.ts")).runExplain,
});
