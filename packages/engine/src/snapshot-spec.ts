/** How a point in time becomes a node: everything that any thread needs to read it, in one specification. */
import type { NodeHandle, NodeSpec } from "@heirloom/block";
import type { RegionReference } from "./arena.ts";
import type { ViewMemory } from "./view-memory.ts";

export interface SnapshotOptions {
  /** Discards give parts of the point in time up; without it they are dropped. */
  readonly discard: boolean;
  readonly readOnly: boolean;
}

/** What the driver's handle carries. */
export interface SnapshotState {
  readonly view: RegionReference;
  /** Arenas by number: all that the view lies in. */
  readonly arenas: readonly SharedArrayBuffer[];
  readonly discard: boolean;
}

/** The driver's options. */
export interface SnapshotParts extends SnapshotOptions {
  /** The disk. */
  readonly source: NodeHandle;
  readonly target: NodeHandle | undefined;
  readonly view: RegionReference;
  readonly arenas: readonly SharedArrayBuffer[];
}

export function snapshotSpec(
  source: NodeHandle,
  memory: ViewMemory,
  arenas: readonly SharedArrayBuffer[],
  target: NodeHandle | undefined,
  options: SnapshotOptions,
): NodeSpec {
  const { arena, byteOffset } = memory.region;
  const parts: SnapshotParts = { source, target, view: { arena, byteOffset }, arenas, ...options };
  return { driver: new URL("./snapshot-node.js", import.meta.url).href, ...parts };
}
