/** Commands about dirty bitmaps. */
import {
  type Alternate,
  alternate,
  bool,
  command,
  type CommandTable,
  list,
  optional,
  required,
  str,
  struct,
  type Struct,
  uint32,
} from "../schema/type.ts";
import { bitmapOfNode } from "./node-types.ts";

export const bitmapAdd: Struct = struct("BlockDirtyBitmapAdd", "a new bitmap", {
  node: required(str, "name of the node"),
  name: required(str, "name of the bitmap, 1 to 1023 bytes"),
  granularity: optional(uint32, "bytes, a power of two from 512 (default: the node's cluster size, else 64 KiB)"),
  persistent: optional(bool, "store it with the node (default false)"),
  disabled: optional(bool, "does not record until it is enabled (default false)"),
});

export const bitmapOrName: Alternate = alternate(
  "BlockDirtyBitmapOrStr",
  "a bitmap of the same node by name, or of any node",
  [() => str, () => bitmapOfNode],
);

export const bitmapMerge: Struct = struct("BlockDirtyBitmapMerge", "bitmaps to join into another", {
  node: required(str, "name of the target's node"),
  target: required(str, "the bitmap that they are joined into"),
  bitmaps: required(list(bitmapOrName), "the bitmaps"),
});

export const bitmapCommands: CommandTable = {
  "block-dirty-bitmap-add": command({ doc: "Adds a bitmap. It says what changes from now on.", arguments: bitmapAdd }),
  "block-dirty-bitmap-remove": command({ doc: "Removes a bitmap that nobody uses.", arguments: bitmapOfNode }),
  "block-dirty-bitmap-clear": command({ doc: "Forgets what a bitmap says.", arguments: bitmapOfNode }),
  "block-dirty-bitmap-enable": command({ doc: "The bitmap records from now on.", arguments: bitmapOfNode }),
  "block-dirty-bitmap-disable": command({
    doc: "The bitmap does not record from now on, and keeps what it says.",
    arguments: bitmapOfNode,
  }),
  "block-dirty-bitmap-merge": command({
    doc: "Joins what bitmaps say into another, all or none. Granularities may differ, lengths may not.",
    arguments: bitmapMerge,
  }),
  "x-debug-block-dirty-bitmap-sha256": command({
    doc: "A checksum of what a bitmap says.",
    arguments: bitmapOfNode,
    result: struct("BlockDirtyBitmapSha256", "a checksum", { sha256: required(str, "in hexadecimal digits") }),
    features: ["unstable"],
  }),
};
