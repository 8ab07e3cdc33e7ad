import { createHash } from "node:crypto";
import type { TransactionAction as RuntimeAction } from "@heirloom/runtime";
import type { BlockDirtyBitmap, BlockDirtyBitmapAdd, BlockDirtyBitmapMerge } from "../generated/qmp-types.ts";
import type { GraphNode } from "../graph/graph-node.ts";
import type { NodeGraph } from "../graph/node-graph.ts";
import { inQemuWords } from "../graph/qemu-text.ts";
import { QmpError } from "../qmp-error.ts";
import type { Handlers } from "../server/command-set.ts";
import type { CommandContext } from "./context.ts";

type Family = Pick<
  Handlers,
  | "block-dirty-bitmap-add"
  | "block-dirty-bitmap-remove"
  | "block-dirty-bitmap-clear"
  | "block-dirty-bitmap-enable"
  | "block-dirty-bitmap-disable"
  | "block-dirty-bitmap-merge"
  | "x-debug-block-dirty-bitmap-sha256"
>;

export function bitmapHandlers(context: CommandContext): Family {
  const { graph, runtime, exclusive } = context;
  const run = (action: () => RuntimeAction): Promise<Readonly<Record<string, never>>> =>
    exclusive(() =>
      inQemuWords(async () => {
        await runtime.transaction([action()]);
        return {};
      }),
    );
  return {
    "block-dirty-bitmap-add": (args) => run(() => addAction(graph, args)),
    "block-dirty-bitmap-remove": (args) => run(() => simpleAction(graph, "bitmap-remove", args)),
    "block-dirty-bitmap-clear": (args) => run(() => simpleAction(graph, "bitmap-clear", args)),
    "block-dirty-bitmap-enable": (args) => run(() => simpleAction(graph, "bitmap-enable", args)),
    "block-dirty-bitmap-disable": (args) => run(() => simpleAction(graph, "bitmap-disable", args)),
    "block-dirty-bitmap-merge": (args) => run(() => mergeAction(args)),
    "x-debug-block-dirty-bitmap-sha256": ({ node, name }) =>
      inQemuWords(() => {
        const words = bitmapNode(graph, node).disk.bitmaps.serialize(name);
        return { sha256: createHash("sha256").update(words).digest("hex") };
      }),
  };
}

/** @throws QmpError */
export function addAction(graph: NodeGraph, args: BlockDirtyBitmapAdd): RuntimeAction {
  const { node, name, granularity, persistent = false, disabled = false } = args;
  const { disk } = graph.get(node);
  return {
    type: "bitmap-add",
    disk,
    name,
    persistent,
    disabled,
    ...(granularity === undefined ? {} : { granularity }),
  };
}

type Simple = "bitmap-remove" | "bitmap-clear" | "bitmap-enable" | "bitmap-disable";

/** @throws QmpError */
export function simpleAction(graph: NodeGraph, type: Simple, { node, name }: BlockDirtyBitmap): RuntimeAction {
  return { type, disk: bitmapNode(graph, node).disk, name };
}

/** By name: when its turn comes, nodes and bitmaps are looked up one after the other, as QEMU does. */
export function mergeAction({ node, target, bitmaps }: BlockDirtyBitmapMerge): RuntimeAction {
  const sources = bitmaps.map((source) =>
    typeof source === "string" ? source : { disk: source.node, name: source.name },
  );
  return { type: "bitmap-merge", disk: node, target, sources };
}

function bitmapNode(graph: NodeGraph, name: string): GraphNode {
  const node = graph.find(name);
  if (node === undefined) throw new QmpError(`Node '${name}' not found`);
  return node;
}
