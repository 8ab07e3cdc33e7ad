/** A backup on its way into a command: checked, its bitmap's freeze planned, its view laid out. Nothing is frozen yet. */
import type { Coordinator } from "./coordinator.ts";
import type { Draft } from "./draft.ts";
import { invariant, refusal, RefusalError, unwrap } from "./errors.ts";
import { disksOf, type JobState } from "./job-state.ts";
import { newJob } from "./new-job.ts";
import type { PreparedBackup } from "./prepared-backup.ts";
import { refuseView } from "./refuse-view.ts";
import { notResumable } from "./resumable.ts";
import { checkBackup } from "./validation/backup-request.ts";
import { factsOf } from "./world.ts";

/** Checks a backup and plans its freeze. @throws RefusalError */
export function planJob(
  coordinator: Coordinator,
  draft: Draft,
  backup: PreparedBackup,
  group: string | null,
  emit: (name: string, data: Readonly<Record<string, unknown>>) => void,
): JobState {
  const { world, engine, now } = coordinator;
  const facts = factsOf(world, draft, [backup.target], draft.command);
  const request = unwrap("backup", checkBackup(backup.request, facts));
  const disk = coordinator.disk(request.source, "backup");
  if (backup.target.disk !== undefined) coordinator.refuseClosing(backup.target.disk, true, "backup");
  if (backup.movers.discardSource && disk.layer.snapshotOf === undefined) {
    const desc = `discard-source: '${disk.name}' is no snapshot, and what it holds would be lost`;
    throw new RefusalError("backup", refusal("ERR_INVALID_ARGUMENT", desc, { disk: disk.name }));
  }
  const alignment = Math.max(disk.node.alignment, backup.target.node.alignment);
  refuseView("backup", disk.layer, request.clusterSize, alignment);
  const bitmap = request.bitmap === null ? undefined : draft.bitmap(disk, request.bitmap.name);
  const settled = bitmap === undefined || draft.snapshotOf(bitmap).context.folds === 0;
  if (bitmap !== undefined && request.bitmap !== null) {
    const user = { kind: "job", id: request.jobId } as const;
    draft.plan(bitmap, { type: "freeze", user, mode: request.bitmap.mode, command: draft.command });
  }
  const { resumable } = backup;
  if (resumable !== undefined) {
    if (group !== null) throw notResumable("a group succeeds or fails as one");
    if (!settled) throw notResumable("what its bitmap says is still being joined");
    invariant(resumable.records !== undefined, "the records of a resumable job are made before its freeze");
    resumable.frozenAt = now();
    resumable.adopted = true;
  }
  const set = request.set === "bitmap" && settled && bitmap !== undefined ? draft.memoryOf(bitmap).bits : undefined;
  const view = engine.view(
    disk.layer,
    {
      length: disk.layer.table.length,
      clusterSize: request.clusterSize,
      alignment,
      guestDelayMaxMs: backup.guestDelayMaxMs,
      breakGuestWrite: backup.breakGuestWrite,
      synchronous: backup.waitForTarget,
      readers: backup.readable && !request.copies,
      ...(backup.readable && !request.copies ? { target: backup.target.node } : {}),
      spillMemory: backup.spillMemory,
      spillFile: backup.spillFile,
      kept: resumable?.spill,
      syncSpill: resumable?.settings.syncSpill === true,
    },
    set,
    backup.spill,
    (error) => emit("SPILL_REFUSED", { job: request.jobId, error: error.message }),
  );
  draft.addView(disk, view);
  const job = newJob(now, {
    ...{ request, disk, bitmap, target: backup.target, awaitsTarget: false, resumable, view, group },
    movers: backup.movers,
    records: resumable?.records,
    onCopied: backup.onCopied,
    onKept: backup.onKept,
  });
  // From here on, and not from the commit: neither a detach nor another job of this id or target must come in between.
  world.starting.set(job.id, job.target.node.identity);
  for (const used of disksOf(job)) used.actor.send({ type: "use", user: { kind: "job", id: job.id } });
  return job;
}
