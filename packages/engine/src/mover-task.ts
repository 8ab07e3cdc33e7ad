/** The long task of one of a job's threads: connects what the job needs and runs a mover. */
import assert from "node:assert";
import { threadId } from "node:worker_threads";
import { type BitmapHandle, SharedBitmap } from "@heirloom/bitmap";
import { type BlockNode, connectNode, loadDrivers, type NodeHandle } from "@heirloom/block";
import type { RegionReference } from "./arena.ts";
import { type DiskAddress, DiskIo } from "./disk-io.ts";
import { Gate } from "./gate.ts";
import { gateBytes } from "./gate-layout.ts";
import { GuestActivity } from "./guest-activity.ts";
import { jobWords } from "./job-layout.ts";
import { Mover, type MoverEnd } from "./mover.ts";
import type { ErrorPolicy, MoverError } from "./mover-types.ts";
import type { Seat } from "./registry.ts";
import { report } from "./reports.ts";
import type { ScanBy } from "./scanner.ts";
import { type EngineAddress, ThreadContext } from "./thread-context.ts";
import { View } from "./view.ts";
import type { CopiedRecord } from "./write-guard.ts";

export interface MoverTask {
  readonly engine: EngineAddress;
  readonly seat: Seat;
  /** Arenas that there were when the job was made. */
  readonly arenaCount: number;
  readonly source: DiskAddress;
  /** A plain node, or an attached disk whose guest the job is. */
  readonly target: { readonly node: NodeHandle } | { readonly disk: DiskAddress };
  readonly targetIsZero: boolean;
  readonly view: RegionReference;
  readonly job: RegionReference;
  readonly runBytesMax: number;
  readonly detectZeroes: boolean;
  readonly discardSource: boolean;
  readonly copies: boolean;
  /** Of a resumable job: where it writes down what is on the target, for the guards' module. */
  readonly record: readonly number[] | undefined;
  /** The set was not known at the instant: what it is now. */
  readonly scan: "allocated" | BitmapHandle | undefined;
  /** Left to guests between two runs while they write; 0: the job does not yield. */
  readonly yieldMs: number;
  readonly onSourceError: ErrorPolicy;
  readonly onTargetError: ErrorPolicy;
  /** Under which the mover reports its errors (pool.ts). */
  readonly reporter: number;
}

/** How a mover ended, and how many errors it reported, which come by another way and may come later. */
export interface MoverAnswer {
  readonly end: MoverEnd;
  readonly reports: number;
}

export async function move(task: MoverTask): Promise<MoverAnswer> {
  let reports = 0;
  const say = (error: MoverError): void => {
    reports++;
    report(task.reporter, error);
  };
  const end = (await makeMover(task, say)).run();
  return { end, reports };
}

async function makeMover(task: MoverTask, say: (error: MoverError) => void): Promise<Mover> {
  const context = ThreadContext.of(task.engine);
  assert(context.goLive(task.seat), "a mover's number is reserved for it");
  context.arenas.catchUp(task.arenaCount);
  await loadDrivers(task.source.node);
  const gateWords = context.arenas.words(task.source.gate, gateBytes / 4);
  // A mover never enters its source's gate, but its death breaks the views there.
  new Gate(gateWords, task.seat.participant).markServed();
  const target = await connectTarget(task, context);
  const activity =
    task.yieldMs > 0 ? new GuestActivity(gateWords, () => context.registry.participantMax, task.yieldMs) : undefined;
  return new Mover(
    {
      words: context.arenas.words(task.job, jobWords),
      view: View.at(task.view, context.arenas),
      source: connectNode(task.source.node),
      target,
      targetIsZero: task.targetIsZero,
      runBytesMax: task.runBytesMax,
      detectZeroes: task.detectZeroes,
      discardSource: task.discardSource,
      scan: scanBy(task.scan),
      record: recordOf(task, context),
      onSourceError: task.onSourceError,
      onTargetError: task.onTargetError,
      report: say,
    },
    task.copies,
    activity,
  );
}

function recordOf({ record }: MoverTask, context: ThreadContext): CopiedRecord | undefined {
  if (record === undefined) return undefined;
  context.loadGuards();
  return context.guards?.makeCopiedRecord(record, { arenas: context.arenas, holder: threadId + 1 });
}

function scanBy(scan: MoverTask["scan"]): ScanBy | undefined {
  if (scan === undefined) return undefined;
  return scan === "allocated" ? { kind: "allocated" } : { kind: "bitmap", bitmap: SharedBitmap.from(scan) };
}

async function connectTarget(task: MoverTask, context: ThreadContext): Promise<BlockNode> {
  if ("node" in task.target) {
    await loadDrivers(task.target.node);
    return connectNode(task.target.node);
  }
  const { disk } = task.target;
  await loadDrivers(disk.node);
  if (disk.lowest !== undefined) await loadDrivers(disk.lowest);
  return new DiskIo(disk, context, task.seat.participant);
}
