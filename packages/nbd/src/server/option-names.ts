/** What options are called in the texts of refusals: QEMU's words, which people search for. */
import {
  OPT_ABORT,
  OPT_EXPORT_NAME,
  OPT_EXTENDED_HEADERS,
  OPT_GO,
  OPT_INFO,
  OPT_LIST,
  OPT_LIST_META_CONTEXT,
  OPT_SET_META_CONTEXT,
  OPT_STARTTLS,
  OPT_STRUCTURED_REPLY,
} from "../protocol/constants.ts";

const names: ReadonlyMap<number, string> = new Map([
  [OPT_EXPORT_NAME, "export name"],
  [OPT_ABORT, "abort"],
  [OPT_LIST, "list"],
  [OPT_STARTTLS, "starttls"],
  [OPT_INFO, "info"],
  [OPT_GO, "go"],
  [OPT_STRUCTURED_REPLY, "structured reply"],
  [OPT_LIST_META_CONTEXT, "list meta context"],
  [OPT_SET_META_CONTEXT, "set meta context"],
  [OPT_EXTENDED_HEADERS, "extended headers"],
]);

export function optionName(option: number): string {
  return names.get(option) ?? "<unknown>";
}
