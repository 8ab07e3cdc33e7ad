/** What queries say of a node. */
import { statSync } from "node:fs";
import type { ViewFigures } from "@heirloom/runtime";
import type { BlockDeviceInfo, BlockDirtyInfo, ImageInfo } from "../generated/qmp-types.ts";
import { type GraphNode, isFilter, isReadOnly } from "../graph/graph-node.ts";
import { viewOf } from "../graph/points-in-time.ts";

/** @param flat leaves out what filters stand on @param all every node, newest first */
export function nodeInfo(node: GraphNode, flat: boolean, all: readonly GraphNode[]): BlockDeviceInfo {
  const { options, filename } = node;
  const bitmaps = dirtyInfo(node, all);
  const { cache } = options;
  return {
    file: filename,
    "node-name": node.name,
    ro: isReadOnly(node),
    drv: options.driver,
    backing_file_depth: flat ? 0 : depthOf(node),
    encrypted: false,
    detect_zeroes: options["detect-zeroes"] ?? "off",
    bps: 0,
    bps_rd: 0,
    bps_wr: 0,
    iops: 0,
    iops_rd: 0,
    iops_wr: 0,
    image: imageInfo(node, flat),
    cache: { writeback: true, direct: cache?.direct ?? false, "no-flush": cache?.["no-flush"] ?? false },
    write_threshold: 0,
    ...(bitmaps.length === 0 ? {} : { "dirty-bitmaps": bitmaps }),
  };
}

function imageInfo(node: GraphNode, flat: boolean): ImageInfo {
  const { disk, options, filename, file } = node;
  // A snapshot says of no image that it was closed well: there is none.
  const hasFlag = file !== undefined && options.driver !== "snapshot-access";
  return {
    filename,
    format: options.driver,
    ...(hasFlag ? { "dirty-flag": false } : {}),
    "actual-size": actualSize(file),
    "virtual-size": disk.length,
    ...(isFilter(node) && !flat ? { "backing-image": imageInfo(node.children[0], flat) } : {}),
  };
}

function depthOf(node: GraphNode): number {
  return isFilter(node) ? 1 + depthOf(node.children[0]) : 0;
}

function actualSize(file: string | undefined): number {
  if (file === undefined) return 0;
  return (statSync(file, { throwIfNoEntry: false })?.blocks ?? 0) * 512;
}

function dirtyInfo(node: GraphNode, all: readonly GraphNode[]): BlockDirtyInfo[] {
  // What a copy-before-write node can be read of and what it keeps are bitmaps of the node in QEMU, without names; what it has
  // still to keep is one of the node under it.
  const own = figuresOf(node);
  const above = all.flatMap((other) => (other.children[0] === node ? (figuresOf(other) ?? []) : []));
  const named = node.job !== undefined ? [] : node.disk.bitmaps.list({ successors: true });
  return [
    ...(own === undefined ? [] : [anonymous(own, own.readable), anonymous(own, own.kept)]),
    ...above.map((figures) => anonymous(figures, figures.left)),
    ...named.map(({ name, count, granularity, recording, busy, persistent, inconsistent }): BlockDirtyInfo => ({
      ...(name === "" ? {} : { name }),
      count,
      granularity,
      recording,
      busy,
      persistent,
      ...(inconsistent ? { inconsistent } : {}),
    })),
  ];
}

function figuresOf(node: GraphNode): ViewFigures | undefined {
  return node.job === undefined ? viewOf(node)?.figures : node.job.figures;
}

function anonymous({ unit }: ViewFigures, count: number): BlockDirtyInfo {
  return { count, granularity: unit, recording: false, busy: false, persistent: false };
}
