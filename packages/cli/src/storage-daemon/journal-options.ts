/** What `--journal` takes: where persistent bitmaps of raw images are kept. */
import { readArguments } from "@heirloom/qmp";
import { bool, optional, required, size, str, struct, type Struct } from "@heirloom/qmp/schema";
import type { JournalOptions } from "@heirloom/runtime";
import { readOption, textOf } from "../keyval/keyval.ts";
import { UsageError } from "./arguments.ts";

const journalOptions: Struct = struct("JournalOptions", "persistent bitmaps of raw images", {
  place: required(str, "`beside`, or a directory for the sidecars of all images"),
  bound: optional(size, "bytes that a power loss may make dirty beyond what was written (default 4G)"),
  "allow-tmpfs": optional(bool, "take a place that does not outlive a power loss (default off)"),
});

/** The word for a sidecar beside each image. A directory of that name is written `./beside`. */
const beside = "beside";

/** @throws UsageError */
export function readJournal(text: string): JournalOptions {
  try {
    const { value, notation } = readOption(text, "place");
    const given = readArguments(journalOptions, value, notation) as {
      readonly place: string;
      readonly bound?: number;
      readonly "allow-tmpfs"?: boolean;
    };
    const { place, bound, "allow-tmpfs": allowTmpfs = false } = given;
    if (place === "") throw new Error("Parameter 'place' expects 'beside' or a directory");
    return {
      allowTmpfs,
      ...(place === beside ? {} : { directory: place }),
      ...(bound === undefined ? {} : { bound }),
    };
  } catch (error) {
    throw new UsageError(`--journal ${text}: ${textOf(error)}`);
  }
}
