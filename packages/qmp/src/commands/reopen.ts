/** blockdev-reopen: options of nodes that are there, all or none. What is wrong with any of them is found before anything changes. */
import type { BlockdevOptions } from "../generated/qmp-types.ts";
import { type GraphNode, isReadOnly, isUnwritable, keepsPointInTime, standingOn } from "../graph/graph-node.ts";
import type { NodeGraph } from "../graph/node-graph.ts";
import { QmpError } from "../qmp-error.ts";
import type { CommandContext } from "./context.ts";

/** What may change; the others must be as they were. */
const changeable: ReadonlySet<string> = new Set([
  "node-name",
  "read-only",
  "auto-read-only",
  "discard",
  "detect-zeroes",
  "cache",
  "aio",
  "aio-max-batch",
  "drop-cache",
  "locking",
]);

interface Change {
  readonly node: GraphNode;
  readonly options: BlockdevOptions;
  /** What it stands on from now on, if that is another node. */
  readonly child: GraphNode | undefined;
}

/** @throws QmpError; then nothing has changed */
export async function reopen({ graph, runtime }: CommandContext, given: readonly BlockdevOptions[]): Promise<void> {
  const changes = given.flatMap((options) => {
    const name = options["node-name"];
    if (name === undefined) throw new QmpError("node-name not specified");
    const node = graph.find(name);
    if (node === undefined) throw new QmpError(`Failed to find node with node-name='${name}'`);
    return plan(node, options, graph);
  });
  const jobs = runtime.jobs.filter(({ info }) => info.status !== "concluded");
  const targets = new Set(jobs.map(({ target }) => target.name));
  for (const { node, options } of changes) {
    if (options["read-only"] !== true || isReadOnly(node)) continue;
    const users = [node, ...standingOn(node, graph.list())];
    const isTarget = users.some(({ name }) => targets.has(name));
    if (isTarget || users.some(({ writers }) => writers.size > 0))
      throw new QmpError(`Read-only block node '${node.name}' cannot support read-write users`);
  }
  const before = changes.map(({ node }) => ({ node, options: node.options, children: node.children }));
  for (const { node, options, child } of changes) {
    node.options = options;
    if (child !== undefined) node.children = [child, ...node.children.slice(1)];
  }
  try {
    await open(graph, changes);
  } catch (error) {
    for (const { node, options, children } of before) Object.assign(node, { options, children });
    throw error;
  }
}

/** Disks become what the options of their nodes say, from below. */
async function open(graph: NodeGraph, changes: readonly Change[]): Promise<void> {
  const touched = new Set(changes.flatMap(({ node }) => [node, ...standingOn(node, graph.list())]));
  const nodes = [...touched]
    .filter(({ job, options }) => job === undefined && options.driver !== "snapshot-access")
    .sort((one, other) => heightOf(one) - heightOf(other));
  const before = new Map<GraphNode, boolean>();
  try {
    for (const node of nodes) {
      before.set(node, node.disk.node.readOnly);
      await graph.reopen(node, wantsReadOnly(node));
    }
  } catch (error) {
    for (const [node, readOnly] of before) await graph.reopen(node, readOnly).catch(() => {}); // as far as it can be
    throw error;
  }
}

/** A node that has nothing under it is what its options say; those that could not be opened for writing are tried again. */
function wantsReadOnly(node: GraphNode): boolean {
  return node.children.length === 0 ? node.options["read-only"] === true : isUnwritable(node);
}

function heightOf(node: GraphNode): number {
  return node.children.length === 0 ? 0 : 1 + heightOf(node.children[0]);
}

/** The change of a node, and of those that were opened inside it. @throws QmpError */
function plan(node: GraphNode, options: BlockdevOptions, graph: NodeGraph): readonly Change[] {
  if (keepsPointInTime(node.options.driver)) {
    throw new QmpError(
      `Block format '${node.options.driver}' used by node '${node.name}' does not support reopening files`,
    );
  }
  let child: GraphNode | undefined;
  const inner: Change[] = [];
  const before = node.options as unknown as Readonly<Record<string, unknown>>;
  const after = options as unknown as Readonly<Record<string, unknown>>;
  for (const name of new Set([...Object.keys(before), ...Object.keys(after)])) {
    if (changeable.has(name)) continue;
    if (after[name] === undefined) throw new QmpError(`Option '${name}' cannot be reset to its default value`);
    if (name === "driver" || isSame(before[name], after[name], node)) continue;
    child = name === "file" || name === "image" ? otherChild(node, after[name], graph) : undefined;
    if (child === undefined) throw new QmpError(`Cannot change the option '${name}'`);
  }
  if (before.driver !== after.driver) throw new QmpError("Cannot change the option 'driver'");
  const [owned] = node.owned;
  if (child === undefined && owned?.followsParent) {
    const { "read-only": _, ...own } = owned.options;
    const inherited = options["read-only"] === undefined ? {} : { "read-only": options["read-only"] };
    inner.push(...plan(owned, { ...own, ...inherited }, graph));
  }
  return [...inner, { node, options, child }];
}

/**
 * A copy-before-write node can be put between a node and what it stands on, and taken out again: the data comes from where it
 * came from. @throws QmpError for a node that is not there, or that stands on this one
 */
function otherChild(node: GraphNode, reference: unknown, graph: NodeGraph): GraphNode | undefined {
  if (typeof reference !== "string" || node.children.length === 0) return undefined;
  const child = graph.find(reference);
  if (child === undefined) throw new QmpError(`Cannot find device='' nor node-name='${reference}'`);
  if (standsOn(child, node))
    throw new QmpError(`Making '${reference}' a file child of '${node.name}' would create a cycle`);
  return dataOf(child) === dataOf(node.children[0]) ? child : undefined;
}

function standsOn(node: GraphNode, other: GraphNode): boolean {
  return node === other || node.children.some((child) => standsOn(child, other));
}

/** What a copy-before-write node hands through. */
function dataOf(node: GraphNode): GraphNode {
  return node.options.driver === "copy-before-write" ? dataOf(node.children[0]) : node;
}

/** A child may be named that was opened inside the node. */
function isSame(before: unknown, after: unknown, node: GraphNode): boolean {
  if (JSON.stringify(before) === JSON.stringify(after)) return true;
  return typeof after === "string" && typeof before === "object" && node.children[0]?.name === after;
}
