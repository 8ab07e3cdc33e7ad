import { statSync } from "node:fs";
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
            .map(nodeStats)
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
  await inQemuWords(async () => {
    await graph.locks.take(node, "write");
    try {
      await node.disk.resize(size);
    } finally {
      await graph.locks.settle();
    }
  });
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
    if (options["read-only"] === true && node.writers.size > 0)
      throw new QmpError(`Read-only block node '${name}' cannot support read-write users`);
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

const counters =
  `rd_bytes wr_bytes unmap_bytes rd_operations wr_operations flush_operations unmap_operations rd_total_time_ns
  wr_total_time_ns flush_total_time_ns unmap_total_time_ns wr_highest_offset rd_merged wr_merged unmap_merged
  failed_rd_operations failed_wr_operations failed_flush_operations failed_unmap_operations invalid_rd_operations
  invalid_wr_operations invalid_flush_operations invalid_unmap_operations`
    .trim()
    .split(/\s+/);

function nodeStats(node: GraphNode): BlockStats {
  const [child] = node.children;
  const stats = {
    ...Object.fromEntries(counters.map((name) => [name, 0])),
    account_invalid: false,
    account_failed: false,
    timed_stats: [],
  };
  return {
    "node-name": node.name,
    stats: stats as unknown as BlockStats["stats"],
    ...(child === undefined ? {} : { parent: nodeStats(child) }),
  };
}
