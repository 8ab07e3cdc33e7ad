import type { KindCounts } from "@heirloom/runtime";
import type { BlockStats } from "../generated/qmp-types.ts";
import { type GraphNode, isUnwritable, standingOn } from "../graph/graph-node.ts";
import { inQemuWords } from "../graph/qemu-text.ts";
import { QmpError } from "../qmp-error.ts";
import type { Handlers } from "../server/command-set.ts";
import type { CommandContext } from "./context.ts";
import { nodeInfo } from "./node-info.ts";
import { reopen } from "./reopen.ts";

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
        await reopen(context, options);
        return {};
      }),
    "blockdev-create": ({ "job-id": id, options }) => {
      context.createJobs.start(id, options, (other) => context.runtime.jobs.some((job) => job.id === other));
      return {};
    },
    "query-named-block-nodes": ({ flat = false }) => {
      const nodes = graph.list();
      return nodes.map((node) => nodeInfo(node, flat, nodes));
    },
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
  if (node.options.driver === "null-co" || node.options.driver === "null-aio") {
    throw new QmpError("Image format driver does not support resize");
  }
  const filter = graph
    .list()
    .find((other) => other.options.driver === "copy-before-write" && other.children.includes(node));
  if (filter !== undefined && filter.job === undefined) {
    const role = filter.children[0] === node ? "file" : "target";
    throw new QmpError(
      `Permission conflict on node '${name}': permissions 'resize' are both required by an unnamed block device (uses node ` +
        `'${name}' as 'root' child) and unshared by node '${filter.name}' (uses node '${name}' as '${role}' child).`,
    );
  }
  const { jobs, views, exports } = node.disk.users;
  if (jobs.length + views.length + exports.length > 0) {
    throw new QmpError(
      `Permission conflict on node '${node.name}': permissions 'resize' are both required by an unnamed block device ` +
        `(uses node '${node.name}' as 'root' child) and unshared by ${whoOf(jobs, views, node)}.`,
    );
  }
  if (isUnwritable(node)) throw new QmpError("Image is read-only");
  if (node.options.driver === "snapshot-access") {
    throw new QmpError("Image format driver does not support resize");
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

/** What is there for QEMU's tools and never happens here: requests are not merged. */
const neverMerged = { rd_merged: 0, wr_merged: 0, unmap_merged: 0 };

/**
 * Through a node goes what goes through those that stand on it. QEMU's daemon, whose exports keep no account, fills in
 * wr_highest_offset alone.
 */
function nodeStats(node: GraphNode, above: readonly GraphNode[]): BlockStats {
  const [child] = node.children;
  // A job's filter is the disk that it stands on.
  const disks = new Set([node, ...standingOn(node, above)].map(({ disk }) => disk));
  const all = [...disks].map((disk) => disk.counts);
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

/** In bytes of this node: what stands on it may begin in the middle of it. */
function highestOf(node: GraphNode, all: readonly GraphNode[]): number {
  const above = all.filter(({ children }) => children[0] === node);
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
