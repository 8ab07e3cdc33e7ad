import { statSync } from "node:fs";
import type { KindCounts } from "@heirloom/runtime";
import type { BlockdevOptions, BlockDeviceInfo, BlockDirtyInfo, BlockStats } from "../generated/qmp-types.ts";
import { type GraphNode, isReadOnly } from "../graph/graph-node.ts";
import { inQemuWords } from "../graph/qemu-text.ts";
import { QmpError } from "../qmp-error.ts";
import type { Handlers } from "../server/command-set.ts";
import type { CommandContext } from "./context.ts";

type Family = Pick<
  Handlers,
  | "blockdev-add"
  | "blockdev-del"
  | "blockdev-reopen"
  | "blockdev-create"
  | "query-named-block-nodes"
  | "query-block"
  | "query-blockstats"
  | "block_resize"
>;

export function nodeHandlers(context: CommandContext): Family {
  const { graph, exclusive } = context;
  return {
    "blockdev-add": (options) =>
      exclusive(async () => {
        await graph.add(options);
        return {};
      }),
    "blockdev-del": ({ "node-name": name }) =>
      exclusive(async () => {
        await graph.remove(name);
        return {};
      }),
    "blockdev-reopen": ({ options }) =>
      exclusive(async () => {
        reopen(context, options);
        return {};
      }),
    "blockdev-create": ({ "job-id": id, options }) => {
      context.createJobs.start(id, options, (other) => context.runtime.jobs.some((job) => job.id === other));
      return {};
    },
    "query-named-block-nodes": () => graph.list().map(nodeInfo),
    "query-block": () => [],
    "query-blockstats": ({ "query-nodes": nodes = false }) =>
      nodes
        ? graph
            .list()
            .reverse()
            .filter((node) => !node.inner)
            .map((node) => nodeStats(node, graph.list()))
        : [],
    block_resize: (args) =>
      exclusive(async () => {
        await resize(context, args);
        return {};
      }),
  };
}

async function resize(
  { graph, runtime }: CommandContext,
  args: { readonly device?: string; readonly "node-name"?: string; readonly size: number },
): Promise<void> {
  const { device = "", "node-name": name = "", size } = args;
  const node = device === "" ? graph.find(name) : undefined;
  if (node === undefined) throw new QmpError(`Cannot find device='${device}' nor node-name='${name}'`);
  if (size < 0) throw new QmpError("Parameter 'size' expects a >0 size");
  if (runtime.jobs.some((job) => job.target.name === node.name && job.info.status !== "concluded")) {
    throw new QmpError("Device '(null)' is in use");
  }
  if (isReadOnly(node)) throw new QmpError("Image is read-only");
  if (node.options.driver === "null-co" || node.options.driver === "null-aio") {
    throw new QmpError("Image format driver does not support resize");
  }
  const { jobs, views, exports } = node.disk.users;
  if (jobs.length + views.length + exports.length > 0) {
    throw new QmpError(
      `Permission conflict on node '${node.name}': permissions 'resize' are both required by an unnamed block device ` +
        `(uses node '${node.name}' as 'root' child) and unshared by ${whoOf(jobs, views, node)}.`,
    );
  }
  await inQemuWords(() => node.disk.resize(size));
}

function whoOf(jobs: readonly string[], views: readonly string[], node: GraphNode): string {
  if (jobs.length > 0) return `job '${jobs[0]}'`;
  if (views.length > 0) return `view '${views[0]}'`;
  return `an unnamed block device (uses node '${node.name}' as 'root' child)`;
}

/** What blockdev-reopen may change here. */
const changeable: ReadonlySet<string> = new Set([
  "node-name",
  "read-only",
  "auto-read-only",
  "discard",
  "detect-zeroes",
  "cache",
  "force-share",
  "aio",
  "aio-max-batch",
  "drop-cache",
  "locking",
]);

/** All or none: everything is checked before anything changes. */
function reopen({ graph, runtime }: CommandContext, given: readonly BlockdevOptions[]): void {
  const changes = given.map((options) => {
    const name = options["node-name"];
    if (name === undefined) throw new QmpError("node-name not specified");
    const node = graph.find(name);
    if (node === undefined) throw new QmpError(`Failed to find node with node-name='${name}'`);
    refuseChange(node, options);
    const isTarget = runtime.jobs.some((job) => job.target.name === name && job.info.status !== "concluded");
    if (options["read-only"] === true && isTarget)
      throw new QmpError(`Cannot make block node read-only, there is a writer on it`);
    return { node, options };
  });
  for (const { node, options } of changes) node.options = options;
}

function refuseChange(node: GraphNode, options: BlockdevOptions): void {
  const before = node.options as unknown as Readonly<Record<string, unknown>>;
  const after = options as unknown as Readonly<Record<string, unknown>>;
  for (const name of new Set([...Object.keys(before), ...Object.keys(after)])) {
    if (changeable.has(name)) continue;
    if (after[name] === undefined) throw new QmpError(`Option '${name}' cannot be reset to its default value`);
    if (name !== "driver" && !isSame(before[name], after[name], node))
      throw new QmpError(`Cannot change the option '${name}'`);
  }
  if (before.driver !== after.driver) throw new QmpError("Cannot change the option 'driver'");
  if (options["read-only"] !== true && node.disk.node.readOnly) {
    throw new QmpError(
      `Cannot change the option 'read-only': the image is open for reading only; take the node away and add it anew`,
    );
  }
}

/** A child may be named that was opened inside the node. */
function isSame(before: unknown, after: unknown, node: GraphNode): boolean {
  if (JSON.stringify(before) === JSON.stringify(after)) return true;
  return typeof after === "string" && typeof before === "object" && node.children[0]?.name === after;
}

function nodeInfo(node: GraphNode): BlockDeviceInfo {
  const { disk, options, filename } = node;
  const bitmaps = disk.bitmaps.list({ successors: true });
  const { cache } = options;
  return {
    file: filename,
    "node-name": node.name,
    ro: isReadOnly(node),
    drv: options.driver,
    backing_file_depth: 0,
    encrypted: false,
    detect_zeroes: options["detect-zeroes"] ?? "off",
    bps: 0,
    bps_rd: 0,
    bps_wr: 0,
    iops: 0,
    iops_rd: 0,
    iops_wr: 0,
    image: {
      filename,
      format: options.driver,
      ...(node.file === undefined ? {} : { "dirty-flag": false }),
      "actual-size": actualSize(node.file),
      "virtual-size": disk.length,
    },
    cache: { writeback: true, direct: cache?.direct ?? false, "no-flush": cache?.["no-flush"] ?? false },
    write_threshold: 0,
    ...(bitmaps.length === 0
      ? {}
      : {
          "dirty-bitmaps": bitmaps.map(
            ({ name, count, granularity, recording, busy, persistent, inconsistent }): BlockDirtyInfo => ({
              ...(name === "" ? {} : { name }),
              count,
              granularity,
              recording,
              busy,
              persistent,
              ...(inconsistent ? { inconsistent } : {}),
            }),
          ),
        }),
  };
}

function actualSize(file: string | undefined): number {
  if (file === undefined) return 0;
  return (statSync(file, { throwIfNoEntry: false })?.blocks ?? 0) * 512;
}

/** What is there for QEMU's tools and never happens here: requests are not merged. */
const neverMerged = { rd_merged: 0, wr_merged: 0, unmap_merged: 0 };

/**
 * Through a node goes what goes through those that stand on it. QEMU's daemon, whose exports keep no account, fills in
 * wr_highest_offset alone.
 */
function nodeStats(node: GraphNode, above: readonly GraphNode[]): BlockStats {
  const [child] = node.children;
  const all = [node, ...standingOn(node, above)].map(({ disk }) => disk.counts);
  const of = (kind: "read" | "write" | "flush" | "discard", field: keyof KindCounts): number =>
    all.reduce((total, counts) => total + counts[kind][field], 0);
  const lastAt = Math.max(...all.map((counts) => counts.lastAt));
  const stats: BlockStats["stats"] = {
    rd_bytes: of("read", "bytes"),
    wr_bytes: of("write", "bytes"),
    unmap_bytes: of("discard", "bytes"),
    rd_operations: of("read", "operations"),
    wr_operations: of("write", "operations"),
    flush_operations: of("flush", "operations"),
    unmap_operations: of("discard", "operations"),
    rd_total_time_ns: of("read", "timeNs"),
    wr_total_time_ns: of("write", "timeNs"),
    flush_total_time_ns: of("flush", "timeNs"),
    unmap_total_time_ns: of("discard", "timeNs"),
    wr_highest_offset: highestOf(node, above),
    ...neverMerged,
    ...(lastAt === 0 ? {} : { idle_time_ns: Math.max(0, Math.round((Date.now() - lastAt) * 1e6)) }),
    failed_rd_operations: of("read", "failed"),
    failed_wr_operations: of("write", "failed"),
    failed_flush_operations: of("flush", "failed"),
    failed_unmap_operations: of("discard", "failed"),
    invalid_rd_operations: of("read", "invalid"),
    invalid_wr_operations: of("write", "invalid"),
    invalid_flush_operations: of("flush", "invalid"),
    invalid_unmap_operations: of("discard", "invalid"),
    account_invalid: false,
    account_failed: true,
    timed_stats: [],
  };
  return {
    "node-name": node.name,
    stats,
    ...(child === undefined ? {} : { parent: nodeStats(child, above) }),
  };
}

/** All nodes that lead to this one. */
function standingOn(node: GraphNode, all: readonly GraphNode[]): readonly GraphNode[] {
  return all.filter(({ children }) => children.includes(node)).flatMap((one) => [one, ...standingOn(one, all)]);
}

/** In bytes of this node: what stands on it may begin in the middle of it. */
function highestOf(node: GraphNode, all: readonly GraphNode[]): number {
  const above = all.filter(({ children }) => children.includes(node));
  return Math.max(
    node.disk.counts.writeHighest,
    ...above.map((one) => {
      const highest = highestOf(one, all);
      return highest === 0 ? 0 : highest + offsetOf(one);
    }),
  );
}

function offsetOf({ options }: GraphNode): number {
  return options.driver === "raw" ? (options.offset ?? 0) : 0;
}
