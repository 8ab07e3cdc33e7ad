/** A block node as QMP's clients know it: a name, options, what is inside it, and the runtime's disk that it is. */
import type { Disk, Job } from "@heirloom/runtime";
import type { BlockdevOptions } from "../generated/qmp-types.ts";

export interface GraphNode {
  readonly name: string;
  /** Later ones have greater numbers. */
  readonly order: number;
  /** As they were given, or changed since by blockdev-reopen. */
  options: BlockdevOptions;
  readonly disk: Disk;
  /** What it stands on, then what else it uses: named nodes, and nodes that were opened inside it. */
  children: readonly GraphNode[];
  /** Opened inside it: they go with it, also where blockdev-reopen has put it on another node since. */
  readonly owned: readonly GraphNode[];
  /** Opened inside another node: it goes with that one. */
  readonly inner: boolean;
  /** It is as read-only as the node that it was opened inside, whose options said nothing else. */
  readonly followsParent: boolean;
  /** Whose disk it is to take away: a monitor's client's, or the program's that brought it in. */
  readonly owner: "monitor" | "program";
  /** Where the image lies, for people. */
  readonly filename: string;
  /** Ids of the exports through which it is written. */
  readonly writers: Set<string>;
  /** The image file, if there is one under it. */
  readonly file: string | undefined;
  /** Of the filter of a job. */
  readonly job?: Job;
}

let nodes = 0;
export function nextNodeOrder(): number {
  return nodes++;
}

const filters: ReadonlySet<string> = new Set(["blkdebug", "copy-before-write", "throttle"]);

/** Drivers whose nodes come and go with a point in time. */
export function keepsPointInTime(driver: string): boolean {
  return driver === "copy-before-write" || driver === "snapshot-access";
}

/** What it stands on passes through it unchanged. */
export function isFilter(node: GraphNode): boolean {
  return filters.has(node.options.driver);
}

/** By its own options, or because it could not be opened otherwise. */
export function isReadOnly(node: GraphNode): boolean {
  return node.options["read-only"] === true || (node.children.length === 0 && node.disk.node.readOnly);
}

/** Or because of what it stands on: a snapshot stands on nothing that is written through it. */
export function isUnwritable(node: GraphNode): boolean {
  if (isReadOnly(node)) return true;
  return node.options.driver !== "snapshot-access" && node.children.length > 0 && isUnwritable(node.children[0]);
}

/** All nodes that lead to this one. */
export function standingOn(node: GraphNode, all: readonly GraphNode[]): readonly GraphNode[] {
  return all.filter(({ children }) => children[0] === node).flatMap((one) => [one, ...standingOn(one, all)]);
}
