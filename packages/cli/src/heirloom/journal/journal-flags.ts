/** The flags that `heirloom info` and `heirloom journal check` share. */
import type { FlagParametersForType } from "@stricli/core";
import type { InspectFlags } from "./journal-image.ts";

export const inspectFlags: FlagParametersForType<InspectFlags> = {
  journal: {
    kind: "parsed",
    parse: String,
    optional: true,
    brief: "Where the journal is: 'beside' the image (the default), or in a directory",
    placeholder: "PLACE",
  },
  json: { kind: "boolean", optional: true, withNegated: false, brief: "Print JSON, for programs" },
};
