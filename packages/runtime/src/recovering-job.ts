/** A resumable job as it comes back at attach: paused, its bitmap frozen, its view armed before anybody writes the disk. */
import type { RecoveredBitmap } from "@heirloom/journal";
import type { NodeHandle } from "@heirloom/block";
import type { BitmapState } from "./bitmap-memory.ts";
import type { Coordinator } from "./coordinator.ts";
import type { DiskState } from "./disk-state.ts";
import type { Draft } from "./draft.ts";
import type { JobState } from "./job-state.ts";
import { newJob } from "./new-job.ts";
import { readSettings, type Resumable } from "./resumable.ts";

/** Plans the freeze that was, and arms the view: true with the draft's commit. @throws HeirloomError */
export function recoverJob(
  coordinator: Coordinator,
  draft: Draft,
  disk: DiskState,
  bitmap: BitmapState,
  { frozen }: RecoveredBitmap,
): JobState | undefined {
  if (frozen === undefined) return undefined;
  const { engine, now } = coordinator;
  const { entry, records, spill, copied, flushed } = frozen.job;
  const { request: asked, settings } = readSettings(entry);
  const id = freeId(coordinator, entry.id);
  const request = { ...asked, jobId: id };
  const mode = request.bitmap?.mode ?? "on-success";
  draft.plan(bitmap, { type: "freeze", user: { kind: "job", id }, mode, command: draft.command });
  const view = engine.view(
    disk.layer,
    {
      length: disk.layer.table.length,
      clusterSize: request.clusterSize,
      // The cluster size is what it was: the spill is made of it.
      alignment: entry.clusterSize,
      guestDelayMaxMs: settings.guestDelayMaxMs,
      breakGuestWrite: settings.breakGuestWrite,
      spillMemory: 0,
      spillFile: settings.spillFile,
      kept: spill.spill,
      syncSpill: settings.syncSpill,
    },
    entry.all ? undefined : bitmap.memory.bits,
    settings.spill,
    (error) => coordinator.tell("SPILL_REFUSED", { job: id, error: error.message }),
  );
  view.restore(copied, flushed, spill.entries);
  draft.addView(disk, view);
  const resumable: Resumable = {
    target: entry.target,
    targetName: entry.targetName,
    spill: spill.spill,
    clusterSize: entry.clusterSize,
    settings,
    frozenAt: entry.frozenAt,
    waitingSince: entry.waitingSince || now(),
    records,
    adopted: true,
  };
  const target = {
    name: entry.targetName,
    label: entry.targetName,
    node: awaitedNode(entry.target),
    length: disk.layer.table.length,
    disk: undefined,
  };
  return newJob(now, {
    ...{ request, disk, bitmap, target, awaitsTarget: true, resumable, view, group: null },
    movers: settings.movers,
    records,
    onCopied: undefined,
    onKept: undefined,
    origin: originOf(entry),
  });
}

/** Its own, unless a job that began since has it. */
function freeId({ world }: Coordinator, id: string): string {
  for (let number = 1; ; number++) {
    const one = number === 1 ? id : `${id}.${number}`;
    if (!world.jobs.has(one) && !world.starting.has(one)) return one;
  }
}

function originOf({ frozenAt, targetName }: { readonly frozenAt: number; readonly targetName: string }): string {
  return `cut off by a stop; its point in time is of ${new Date(frozenAt).toISOString()}; it waits for its target '${targetName}'`;
}

/** Stands for a target that is not there: nothing reads or writes it. */
function awaitedNode(identity: string): NodeHandle {
  const none = { driver: "awaited", readOnly: false, alignment: 1, clusterSize: 0, children: [], state: undefined };
  return { ...none, identity: `awaited:${identity}` };
}
