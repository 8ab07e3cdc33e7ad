/** A block node as QMP's clients know it: a name, options, what is inside it, and the runtime's disk that it is. */
import type { Disk } from "@heirloom/runtime";
import type { BlockdevOptions } from "../generated/qmp-types.ts";

export interface GraphNode {
  readonly name: string;
  /** As they were given, or changed since by blockdev-reopen. */
  options: BlockdevOptions;
  readonly disk: Disk;
  /** What it stands on: named nodes, and nodes that were opened inside it. */
  readonly children: readonly GraphNode[];
  /** Opened inside another node: it goes with that one. */
  readonly inner: boolean;
  /** Whose disk it is to take away: a monitor's client's, or the program's that brought it in. */
  readonly owner: "monitor" | "program";
  /** Where the image lies, for people. */
  readonly filename: string;
  /** The image file, if there is one under it. */
  readonly file: string | undefined;
}

export function isReadOnly(node: GraphNode): boolean {
  return node.options["read-only"] === true || node.disk.node.readOnly;
}
