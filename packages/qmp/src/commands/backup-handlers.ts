import { existsSync } from "node:fs";
import { BlockError, errnoText, type NodeSpec } from "@heirloom/block";
import {
  type BackupOptions,
  type Disk,
  HeirloomError,
  type TransactionAction as RuntimeAction,
} from "@heirloom/runtime";
import type { BlockdevBackup, DriveBackup, TransactionAction } from "../generated/qmp-types.ts";
import { isUnwritable } from "../graph/graph-node.ts";
import { isReadable } from "../graph/job-filters.ts";
import { guestFirst } from "../graph/points-in-time.ts";
import { asQmpError } from "../graph/qemu-text.ts";
import { QmpError } from "../qmp-error.ts";
import type { Handlers } from "../server/command-set.ts";
import { addAction, mergeAction, simpleAction } from "./bitmap-handlers.ts";
import type { CommandContext } from "./context.ts";

type Family = Pick<Handlers, "blockdev-backup" | "drive-backup" | "transaction">;

export function backupHandlers(context: CommandContext): Family {
  return {
    "blockdev-backup": (data) => run(context, [{ type: "blockdev-backup", data }], "individual"),
    "drive-backup": (data) => run(context, [{ type: "drive-backup", data }], "individual"),
    transaction: ({ actions, properties }) => run(context, actions, properties?.["completion-mode"] ?? "individual"),
  };
}

function run(
  context: CommandContext,
  actions: readonly TransactionAction[],
  completionMode: "individual" | "grouped",
): Promise<Readonly<Record<string, never>>> {
  return context.exclusive(async () => {
    // What is wrong with an action is told in its turn: an earlier one may be wrong as well.
    const planned: RuntimeAction[] = [];
    for (const [index, action] of actions.entries()) {
      try {
        if (completionMode === "grouped") refuseUngrouped(action.type);
        planned.push(plan(context, action));
        await lockImages(context, action);
      } catch (error) {
        planned[index] = { type: "abort", because: asQmpError(error) };
      }
    }
    try {
      await context.runtime.transaction(planned, { completionMode });
      actions.forEach((action) => noteFilter(context, action));
    } catch (error) {
      tellRolledBack(context, actions, error, planned);
      await context.graph.locks.settle();
      throw asCreationError(error, actions) ?? namingTop(asQmpError(error), actions);
    }
    return {};
  });
}

/** The node that QEMU has put above the source. */
function noteFilter({ graph }: CommandContext, action: TransactionAction): void {
  if (action.type !== "blockdev-backup") return;
  const { "job-id": job = "", "filter-node-name": name, device, target } = action.data;
  graph.addFilter(job, name, graph.get(device), graph.get(target));
}

function plan(context: CommandContext, action: TransactionAction): RuntimeAction {
  const { graph } = context;
  switch (action.type) {
    case "abort":
      return { type: "abort" };
    case "block-dirty-bitmap-add":
      return addAction(graph, action.data);
    case "block-dirty-bitmap-remove":
    case "block-dirty-bitmap-clear":
    case "block-dirty-bitmap-enable":
    case "block-dirty-bitmap-disable": {
      const verb = action.type.slice("block-dirty-bitmap-".length) as "remove" | "clear" | "enable" | "disable";
      return simpleAction(graph, `bitmap-${verb}`, action.data);
    }
    case "block-dirty-bitmap-merge":
      return mergeAction(action.data);
    case "blockdev-backup":
      return planBlockdevBackup(context, action.data);
    case "drive-backup":
      return planDriveBackup(context, action.data);
  }
}

/** Before the job begins. @throws QmpError */
async function lockImages({ graph }: CommandContext, { type, data }: TransactionAction): Promise<void> {
  if (type !== "blockdev-backup" && type !== "drive-backup") return;
  try {
    await graph.locks.take(graph.get(data.device), "read");
    if (type === "blockdev-backup") await graph.locks.take(graph.get(data.target), "write");
  } catch (error) {
    throw new QmpError(`Could not replace node: ${asQmpError(error).desc}`);
  }
}

/** Asked before anything of the action is looked at. */
function refuseUngrouped(type: TransactionAction["type"]): void {
  if (!type.startsWith("block-dirty-bitmap-")) return;
  throw new QmpError(`Action '${type}' does not support Transaction property completion-mode = grouped`);
}

/** A refusal that names the mode names the one that was asked for. */
function namingTop(error: QmpError, actions: readonly TransactionAction[]): QmpError {
  const [, mode] = /^Bitmap sync mode '([a-z-]+)' .* combined with sync mode 'full'$/.exec(error.desc) ?? [];
  if (mode === undefined) return error;
  // A drive-backup of sync top has become a full one by then.
  const refused = actions.find(
    ({ type, data }) =>
      (type === "blockdev-backup" || type === "drive-backup") &&
      (data.sync === "top" || data.sync === "full") &&
      data.bitmap !== undefined &&
      data["bitmap-mode"] === mode,
  );
  return refused?.type === "blockdev-backup" && refused.data.sync === "top"
    ? new QmpError(error.desc.replace(/'full'$/, "'top'"))
    : error;
}

/** A file that a drive-backup could not make. */
function asCreationError(error: unknown, actions: readonly TransactionAction[]): QmpError | undefined {
  if (!(error instanceof BlockError) || error.errno === undefined) return undefined;
  const made = actions.some(
    ({ type, data }) => type === "drive-backup" && data.target === error.node && data.mode !== "existing",
  );
  if (!made) return undefined;
  if (error.code === "ERR_IMAGE_LOCKED") return new QmpError('Failed to get "resize" lock');
  return error.code === "ERR_NODE_OPEN"
    ? new QmpError(`Could not create '${error.node ?? ""}': ${errnoText(error.errno)}`)
    : undefined;
}

function planBlockdevBackup(context: CommandContext, args: BlockdevBackup): RuntimeAction {
  const { graph } = context;
  const source = graph.get(args.device);
  const target = graph.get(args.target);
  const options = backupOptions(context, args, source.disk);
  if (isUnwritable(target) && !target.disk.node.readOnly)
    throw new QmpError("Could not create node: Block node is read-only");
  return { type: "backup", ...options, target: target.disk };
}

function planDriveBackup(context: CommandContext, args: DriveBackup): RuntimeAction {
  const { graph } = context;
  const source = graph.get(args.device);
  const { target: filename, mode = "absolute-paths", format = "raw" } = args;
  if (format !== "raw")
    throw new QmpError(
      knownFormats.has(format)
        ? `Format '${format}' is not supported: only raw images can be made`
        : `Unknown file format '${format}'`,
    );
  if (context.runtime.jobs.some((job) => job.target.name === source.name && job.info.status !== "concluded"))
    throw new QmpError(`Node '${source.name}' is busy: block device is in use by block job: backup`);
  // QEMU makes the disk the backing image of a target that is to hold old data alone.
  if (args.sync === "none" && mode !== "existing")
    throw new QmpError(`Backing file not supported for file format 'raw'`);
  if (mode === "existing" && !existsSync(filename))
    throw new QmpError(`Could not open '${filename}': No such file or directory`);
  if (args.sync === "none") throw new QmpError(`Driver 'raw' of node '${filename}' does not support backing files`);
  const create = mode === "existing" ? {} : { create: { length: source.disk.length, overwrite: true } };
  const target: NodeSpec = { driver: "file", filename, ...create };
  return { type: "backup", ...backupOptions(context, args, source.disk), target };
}

/** Formats that QEMU has. */
const knownFormats: ReadonlySet<string> = new Set([
  "qcow2",
  "qcow",
  "qed",
  "vmdk",
  "vdi",
  "vpc",
  "vhdx",
  "luks",
  "parallels",
]);

function backupOptions(
  context: CommandContext,
  args: Omit<BlockdevBackup, "target">,
  disk: Disk,
): Omit<BackupOptions, "target"> {
  const jobId = args["job-id"] ?? "";
  if (context.createJobs.has(jobId)) throw new QmpError(`Job ID '${jobId}' already in use`);
  const perf = args["x-perf"] ?? {};
  return {
    disk,
    jobId,
    // Of a node without a backing image all is its own: holes as well, which are zeroes that belong to it.
    sync: args.sync === "top" ? "full" : args.sync,
    compress: args.compress ?? false,
    speed: args.speed ?? 0,
    onSourceError: args["on-source-error"] ?? "report",
    onTargetError: args["on-target-error"] ?? "report",
    autoFinalize: args["auto-finalize"] ?? true,
    autoDismiss: args["auto-dismiss"] ?? true,
    ...guestFirst(args["on-cbw-error"] ?? "break-snapshot", args["cbw-timeout"] ?? 0),
    readable: isReadable(args),
    discardSource: args["discard-source"] ?? false,
    resumable: args.resumable ?? false,
    syncSpill: args["sync-spill"] ?? false,
    ...defined("bitmap", args.bitmap),
    ...defined("bitmapMode", args["bitmap-mode"]),
    ...defined("filterNodeName", args["filter-node-name"]),
    ...defined("maxWorkers", perf["max-workers"]),
    ...defined("maxChunk", perf["max-chunk"]),
    ...defined("minClusterSize", perf["min-cluster-size"]),
  };
}

function defined<Name extends string, Value>(name: Name, value: Value | undefined): { readonly [N in Name]?: Value } {
  return value === undefined ? {} : ({ [name]: value } as { readonly [N in Name]: Value });
}

/**
 * QEMU has made the jobs of a transaction when a later action is refused, and tells how they go. Nothing was made here, and
 * the same is told. A speed that is refused is told so too: QEMU sees it when the job is there.
 */
function tellRolledBack(
  context: CommandContext,
  actions: readonly TransactionAction[],
  error: unknown,
  planned: readonly RuntimeAction[],
): void {
  const because = planned.findIndex((action) => action.type === "abort" && action.because === error);
  const failed = because >= 0 ? because : error instanceof HeirloomError ? error.action : undefined;
  if (failed === undefined) return;
  const jobs = actions.slice(0, failed).flatMap(jobOf);
  for (const id of jobs) context.emit("JOB_STATUS_CHANGE", { id, status: "created" });
  if (error instanceof HeirloomError && error.code === "ERR_JOB_SPEED") {
    for (const id of jobOf(actions[failed])) {
      for (const status of ["created", "null"] as const) context.emit("JOB_STATUS_CHANGE", { id, status });
    }
  }
  for (const id of jobs.reverse()) {
    for (const status of ["aborting", "concluded", "null"] as const) context.emit("JOB_STATUS_CHANGE", { id, status });
  }
}

function jobOf(action: TransactionAction): string[] {
  const backup = action.type === "blockdev-backup" || action.type === "drive-backup";
  return backup && action.data["job-id"] !== undefined ? [action.data["job-id"]] : [];
}
