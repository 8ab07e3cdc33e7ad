/** The command line of `heirloom journal check`. */
import { buildCommand, buildRouteMap, type Command, type CommandContext, type RouteMap } from "@stricli/core";
import { inspectFlags } from "./journal-flags.ts";
import type { InspectFlags } from "./journal-image.ts";

const checkCommand: Command<CommandContext> = buildCommand<InspectFlags, [string]>({
  docs: {
    brief: "Check every block of an image's journal",
    fullDescription: `Reads all of the journal of IMAGE, checks each record and each block of bits against its checksum, and whether the
image is still the one that it was written for. Changes nothing; nothing needs to be repaired: what is not whole counts as
dirty at the next attach. Works while a process has the image.

Exit status, as of qemu-img check: 0 all is whole; 1 it could not be checked; 2 something is not whole, or the image is
not what it was, so that bitmaps will say too much or be inconsistent; 63 the image has no journal.`,
  },
  parameters: {
    positional: {
      kind: "tuple",
      parameters: [{ brief: "Raw disk: a file or a block device", placeholder: "IMAGE", parse: String }],
    },
    flags: inspectFlags,
  },
  loader: async () => (await import("./run-check.ts")).runCheck,
});

export const journalRoutes: RouteMap<CommandContext> = buildRouteMap({
  routes: { check: checkCommand },
  docs: { brief: "Look after the files that persistent bitmaps are kept in" },
});
