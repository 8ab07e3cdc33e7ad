/** What exists: disks, jobs, and targets that a job has not let go of. The facts that checks ask for are read from it. */
import type { NodeHandle } from "@heirloom/block";
import { keptGranulesMax } from "@heirloom/journal";
import type { BitmapState } from "./bitmap-memory.ts";
import type { DiskState } from "./disk-state.ts";
import type { Draft } from "./draft.ts";
import type { JobState, JobTarget } from "./job-state.ts";
import type { GroupContext, GroupEffect, GroupEvent, GroupInput } from "./machines/group-machine.ts";
import type { MachineActor } from "./machines/machine-actor.ts";
import { storesNone } from "./validation/bitmap-request.ts";
import type { BitmapFacts, Facts, NodeFacts } from "./validation/facts.ts";

export type GroupActor = MachineActor<GroupInput, GroupContext, GroupEvent, GroupEffect>;

export interface World {
  readonly disks: Map<string, DiskState>;
  readonly jobs: Map<string, JobState>;
  /** Jobs that are planned and wait for their freeze: id to the identity of the target. */
  readonly starting: Map<string, string>;
  readonly groups: Map<string, GroupActor>;
  /** Identity of a target's storage to the id of the job that has ended and still has threads there. */
  readonly lettingGo: Map<string, string>;
  /** What a job writes is refused as the source of another. */
  readonly targetsAreNoSources: boolean;
}

const busyStates: ReadonlySet<string> = new Set(["folding", "frozen", "exported", "removing"]);

/**
 * The facts as the draft of a command sees them: what it planned so far included.
 *
 * Here and wherever an object is made for each job, spreads come last: V8 (of Node 20) makes new hidden classes at each
 * evaluation of `{ ...known, more }`, 1 to 5 KiB that only a full collection takes away.
 */
export function factsOf(world: World, draft: Draft, targets: readonly JobTarget[], command: number): Facts {
  return {
    node(name) {
      const disk = world.disks.get(name);
      if (disk !== undefined) return nodeFacts(world, draft, disk, command);
      const target = targets.find((one) => one.name === name);
      return target === undefined ? undefined : targetFacts(world, target);
    },
    job: (id) => world.jobs.has(id) || world.starting.has(id),
  };
}

function nodeFacts(world: World, draft: Draft, disk: DiskState, command: number): NodeFacts {
  const { node } = disk;
  return {
    name: disk.name,
    bitmap(name) {
      const bitmap = draft.bitmap(disk, name);
      return bitmap === undefined ? undefined : bitmapFacts(draft, bitmap, command);
    },
    storeRefusal: (_name, granularity) => storeRefusal(disk, granularity),
    ...nodeOnly(node, disk.layer.table.length),
    ...(isTarget(world, node.identity)
      ? { targetBlocked: inUse, ...(world.targetsAreNoSources ? { sourceBlocked: inUse } : {}) }
      : {}),
    ...lettingGoOf(world, node.identity),
  };
}

function storeRefusal(disk: DiskState, granularity: number): string | undefined {
  const { image, keepsNone, keptBy, node, layer, under } = disk;
  if (keepsNone) return storesNone;
  if (node.readOnly) return "the node is read-only";
  if (keptBy !== undefined) return `its persistent bitmaps are those of '${keptBy.name}', which stands on it`;
  if (under !== undefined && under.keptBy !== disk)
    return `it is a window of '${under.name}': give that disk the bitmap`;
  if (image === undefined) return storesNone;
  const { length } = layer.table;
  if (Math.ceil(length / granularity) <= keptGranulesMax) return undefined;
  let fits = granularity;
  while (Math.ceil(length / fits) > keptGranulesMax) fits *= 2;
  return `granularity ${granularity} makes more than 2^32 granules; use at least ${fits}`;
}

/**
 * Whether a job writes this storage, or is about to. Two cannot; but what a job writes can be backed up at the same time,
 * unless the runtime was told to refuse that, as QEMU does: the job is then one of its guests.
 */
export function isTarget(world: World, identity: string): boolean {
  for (const starting of world.starting.values()) if (starting === identity) return true;
  for (const job of world.jobs.values()) {
    if (job.target.node.identity === identity && !job.actor.done && job.actor.state !== "concluded") return true;
  }
  return false;
}

const inUse = "block device is in use by block job: backup";

function targetFacts(world: World, target: JobTarget): NodeFacts {
  const blocked = isTarget(world, target.node.identity) ? { targetBlocked: inUse } : {};
  return {
    name: target.name,
    bitmap: () => undefined,
    storeRefusal: () => storesNone,
    ...nodeOnly(target.node, target.length),
    ...blocked,
    ...lettingGoOf(world, target.node.identity),
  };
}

function nodeOnly(
  node: NodeHandle,
  length: number,
): Pick<NodeFacts, "length" | "clusterSize" | "readOnly" | "identity" | "compression"> {
  return {
    length,
    clusterSize: node.clusterSize,
    readOnly: node.readOnly,
    identity: node.identity,
    compression: false,
  };
}

function lettingGoOf(world: World, identity: string): { lettingGo?: string } {
  const lettingGo = world.lettingGo.get(identity);
  return lettingGo === undefined ? {} : { lettingGo };
}

function bitmapFacts(draft: Draft, bitmap: BitmapState, command: number): BitmapFacts {
  const { state, context } = draft.snapshotOf(bitmap);
  const { bits } = draft.memoryOf(bitmap);
  const own = state === "folding" && context.foldCommand === command;
  return {
    name: bitmap.name,
    granularity: bits.bitmap.granularity,
    size: bits.bitmap.length,
    busy: busyStates.has(state) && !own,
    readonly: context.readonly,
    inconsistent: context.broken !== null,
  };
}
