/** The command line of `heirloom info`. */
import { buildCommand, type Command, type CommandContext } from "@stricli/core";
import { inspectFlags } from "./journal-flags.ts";
import type { InspectFlags } from "./journal-image.ts";

export const infoCommand: Command<CommandContext> = buildCommand<InspectFlags, [string]>({
  docs: {
    brief: "Show the persistent bitmaps of an image and their history",
    fullDescription: `Shows what is kept for IMAGE, a raw disk in a file or a block device: its persistent bitmaps, how far they can be
believed, and what they went through. Changes nothing, takes no lock, and works while a process has the image: what
is dirty is then what is in the journal at this moment, never less than the bitmap says.

Examples:
  heirloom info vm.raw
  heirloom info /dev/vg0/vm1 --json
  heirloom info vm.raw --journal /srv/sidecars

Exit status: 0, also where nothing is kept; 1 where it cannot be read, 2 where the command line makes no sense.`,
  },
  parameters: {
    positional: {
      kind: "tuple",
      parameters: [{ brief: "Raw disk: a file or a block device", placeholder: "IMAGE", parse: String }],
    },
    flags: inspectFlags,
  },
  loader: async () => (await import("./run-info.ts")).runInfo,
});
