/** Starting backups, and transactions. */
import {
  bool,
  command,
  type CommandTable,
  enumeration,
  type Enum,
  int,
  list,
  type Members,
  nothing,
  optional,
  required,
  str,
  struct,
  type Struct,
  uint32,
  type Union,
} from "../schema/type.ts";
import { bitmapAdd, bitmapMerge } from "./bitmaps.ts";
import { bitmapOfNode } from "./node-types.ts";

const sync: Enum = enumeration("MirrorSyncMode", ["top", "full", "none", "incremental", "bitmap"], "what is copied");
const bitmapMode: Enum = enumeration(
  "BitmapSyncMode",
  ["on-success", "never", "always"],
  "what becomes of the bitmap when the job ends",
);
const onError: Enum = enumeration(
  "BlockdevOnError",
  ["report", "ignore", "enospc", "stop", "auto"],
  "what an I/O error does to a job",
);
const onCbwError: Enum = enumeration(
  "OnCbwError",
  ["break-guest-write", "break-snapshot"],
  "what gives way when old data cannot be kept",
);

const perf: Struct = struct("BackupPerf", "how the copying is done", {
  "use-copy-range": optional(bool, "taken; files are copied by the kernel wherever that is possible"),
  "max-workers": optional(int, "threads at most (default 64); there are never more than are useful"),
  "max-chunk": optional(int, "bytes of a transfer at most, at least a cluster; 0: no limit (default)"),
  "min-cluster-size": optional(int, "bytes, a power of two: raises the job's cluster"),
});

const common: Members = {
  "job-id": optional(str, "id of the job; required, as nodes here are no devices"),
  device: required(str, "the node to back up"),
  sync: required(sync, "what is copied"),
  speed: optional(int, "bytes a second; 0: unlimited (default)"),
  bitmap: optional(str, "a bitmap of the node"),
  "bitmap-mode": optional(bitmapMode, "what becomes of the bitmap; incremental implies on-success"),
  compress: optional(bool, "write compressed clusters (default false); no target here can"),
  "on-source-error": optional(onError, "an error of the node (default report)"),
  "on-target-error": optional(onError, "an error of the target (default report)"),
  "on-cbw-error": optional(
    onCbwError,
    "what gives way when old data cannot be kept (default break-snapshot: the job fails and the guest does not notice)",
  ),
  "cbw-timeout": optional(uint32, "seconds that a guest's write waits for old data to be kept; 0: no limit (default)"),
  "auto-finalize": optional(bool, "the job ends by itself (default true)"),
  "auto-dismiss": optional(bool, "the job goes when it has ended (default true)"),
  "filter-node-name": optional(
    str,
    "a name for the job as a node: to look it up, to export it, to read its point in time",
  ),
  "discard-source": optional(bool, "discard what was copied (default false); only of a snapshot-access node"),
  "x-perf": optional(perf, "how the copying is done", ["unstable"]),
  resumable: optional(
    bool,
    "ours alone: the job goes on after a restart, once job-resume finds its target (default false); needs a persistent bitmap",
  ),
  "sync-spill": optional(
    bool,
    "ours alone, with resumable: after every power loss too, for a sync at a guest's first write to each cluster (default false)",
  ),
};

export const blockdevBackup: Struct = struct("BlockdevBackup", "a backup to a node", {
  ...common,
  target: required(str, "the node to write to"),
});

const newImageMode: Enum = enumeration("NewImageMode", ["existing", "absolute-paths"], "whether the file is there");
export const driveBackup: Struct = struct("DriveBackup", "a backup to a file", {
  ...common,
  target: required(str, "path of the file"),
  format: optional(str, "raw (default); others are refused"),
  mode: optional(newImageMode, "absolute-paths (default): the file is made anew"),
});

const action = (data: Struct, doc: string): (() => Struct) => {
  const wrapped = struct(`${data.name}Wrapper`, doc, { data: required(data, "arguments of the command of this name") });
  return () => wrapped;
};
const abort: Struct = struct("Abort", "", {});

const transactionAction: Union = {
  kind: "union",
  name: "TransactionAction",
  doc: "one action of a transaction",
  members: {
    type: required(
      enumeration(
        "TransactionActionKind",
        [
          "abort",
          "block-dirty-bitmap-add",
          "block-dirty-bitmap-remove",
          "block-dirty-bitmap-clear",
          "block-dirty-bitmap-enable",
          "block-dirty-bitmap-disable",
          "block-dirty-bitmap-merge",
          "blockdev-backup",
          "drive-backup",
        ],
        "actions",
      ),
      "what is done",
    ),
  },
  tag: "type",
  variants: {
    abort: action(abort, "fails: for tests"),
    "block-dirty-bitmap-add": action(bitmapAdd, "adds a bitmap"),
    "block-dirty-bitmap-remove": action(bitmapOfNode, "removes a bitmap, when all actions are planned"),
    "block-dirty-bitmap-clear": action(bitmapOfNode, "forgets what a bitmap says"),
    "block-dirty-bitmap-enable": action(bitmapOfNode, "the bitmap records"),
    "block-dirty-bitmap-disable": action(bitmapOfNode, "the bitmap does not record"),
    "block-dirty-bitmap-merge": action(bitmapMerge, "joins bitmaps"),
    "blockdev-backup": action(blockdevBackup, "starts a backup"),
    "drive-backup": action(driveBackup, "starts a backup to a file"),
  },
};

const properties: Struct = struct("TransactionProperties", "how the actions hang together", {
  "completion-mode": optional(
    enumeration("ActionCompletionMode", ["individual", "grouped"], "whether jobs end together"),
    "grouped: all jobs succeed at one instant, or none does (default individual)",
  ),
});

export const backupCommands: CommandTable = {
  "blockdev-backup": command({
    doc: "Starts a backup of what a node holds now to another node. The bitmap is frozen until the job ends.",
    arguments: blockdevBackup,
  }),
  "drive-backup": command({
    doc: "Starts a backup to a file, which is made anew unless mode says otherwise.",
    arguments: driveBackup,
    features: ["deprecated"],
  }),
  transaction: command({
    doc: "Several actions at one instant, all or none.",
    arguments: {
      actions: required(list(transactionAction), "the actions, in order"),
      properties: optional(properties, "how they hang together"),
    },
    result: nothing,
  }),
};
