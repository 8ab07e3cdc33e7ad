/**
 * A disk given as a window of another: `file` names an attached disk somewhere under drivers that keep bytes where they are
 * (raw shifts them). The other disk's node is connected, not opened again.
 */
import type { NodeSpec } from "@heirloom/block";
import { Disk } from "./disk.ts";
import { refusal, RefusalError } from "./errors.ts";

export interface Window {
  readonly spec: NodeSpec;
  readonly under: Disk | undefined;
  /** Bytes into the disk under it. */
  readonly offset: number;
}

const transparent: ReadonlySet<string> = new Set(["raw", "fault", "blkdebug", "throttle"]);

export function windowOf(spec: NodeSpec): Window {
  const under = diskIn(spec);
  if (under === undefined) return { spec, under, offset: 0 };
  return { spec: replaceDisk(spec), under, offset: offsetOf(spec) };
}

function diskIn(spec: NodeSpec): Disk | undefined {
  if (spec.file instanceof Disk) return spec.file;
  return isSpec(spec.file) ? diskIn(spec.file) : undefined;
}

/** The disk's open node takes the place of the disk: the `attached` driver hands it through. */
function replaceDisk(spec: NodeSpec): NodeSpec {
  if (!transparent.has(spec.driver)) {
    const desc = `driver '${spec.driver}' cannot stand on an attached disk; expected one of ${[...transparent].join(", ")}`;
    throw new RefusalError("attach", refusal("ERR_INVALID_ARGUMENT", desc, { driver: spec.driver }));
  }
  if (spec.file instanceof Disk) return { ...spec, file: { driver: "attached", node: spec.file.state.node } };
  return { ...spec, file: replaceDisk(spec.file as NodeSpec) };
}

function offsetOf(spec: NodeSpec): number {
  const own = spec.driver === "raw" && typeof spec.offset === "number" ? spec.offset : 0;
  return own + (isSpec(spec.file) ? offsetOf(spec.file) : 0);
}

function isSpec(value: unknown): value is NodeSpec {
  return typeof value === "object" && value !== null && !(value instanceof Disk) && "driver" in value;
}
