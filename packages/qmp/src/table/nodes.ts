/** Commands about block nodes. */
import {
  bool,
  command,
  type CommandTable,
  enumeration,
  int,
  list,
  optional,
  required,
  size,
  str,
  struct,
  type Struct,
  type Union,
} from "../schema/type.ts";
import { blockDeviceInfo, blockInfo, blockStats } from "./node-queries.ts";
import { blockdevDriver, blockdevOptions } from "./node-types.ts";

const preallocation = enumeration("PreallocMode", ["off", "metadata", "falloc", "full"], "room taken at once");

const createFile: Struct = struct("BlockdevCreateOptionsFile", "a new file", {
  filename: required(str, "path"),
  size: required(size, "bytes"),
  preallocation: optional(preallocation, "off (default); falloc and full are refused"),
  nocow: optional(bool, "taken, without effect"),
  "extent-size-hint": optional(size, "taken, without effect"),
});

const createOptions: Union = {
  kind: "union",
  name: "BlockdevCreateOptions",
  doc: "a new image",
  members: { driver: required(blockdevDriver, "the format; all but file are refused by the job") },
  tag: "driver",
  variants: { file: () => createFile },
};

export const nodeCommands: CommandTable = {
  "blockdev-add": command({ doc: "Opens a node and what is inside it.", arguments: blockdevOptions }),
  "blockdev-del": command({
    doc: "Closes a node that nobody uses, and what was opened inside it.",
    arguments: { "node-name": required(str, "the node") },
  }),
  "blockdev-reopen": command({
    doc: "Changes options of nodes, all or none. Every option must be given; what cannot be changed must be as it was.",
    arguments: { options: required(list(blockdevOptions), "the nodes, each with its node-name") },
  }),
  "blockdev-create": command({
    doc: "Makes an image, as a job that stays until it is dismissed. What goes wrong is the job's error.",
    arguments: { "job-id": required(str, "id of the job"), options: required(createOptions, "the image") },
  }),
  "query-named-block-nodes": command({
    doc: "All nodes, newest first.",
    arguments: { flat: optional(bool, "leave backing images out (default false); nodes have none here") },
    result: list(blockDeviceInfo),
  }),
  "query-block": command({ doc: "Guest devices: none in a storage daemon.", result: list(blockInfo) }),
  "query-blockstats": command({
    doc: "What nodes have done.",
    arguments: { "query-nodes": optional(bool, "nodes, and not guest devices (default false)") },
    result: list(blockStats),
  }),
  block_resize: command({
    doc: "Changes the length of a node. Its bitmaps follow: new space is clean.",
    arguments: {
      device: optional(str, "a device or a node"),
      "node-name": optional(str, "a node"),
      size: required(int, "bytes"),
    },
  }),
};
