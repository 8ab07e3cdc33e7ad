/**
 * Persistent bitmaps where disks stand on each other. An image has one sidecar, and tools put their bitmaps on the topmost node of
 * what they call a disk (`raw` on `file`): so a window of all of a disk can take that disk's journal over, its persistent bitmaps
 * with it, and gives both back when it is detached. Guests of either go on: they share a gate, and the move is one transition.
 */
import type { Layer, Recorder } from "@heirloom/engine";
import type { BitmapState } from "./bitmap-memory.ts";
import { nextOrder } from "./bitmap-memory.ts";
import type { Coordinator } from "./coordinator.ts";
import type { DiskState } from "./disk-state.ts";
import { Draft } from "./draft.ts";
import { refusal, RefusalError } from "./errors.ts";
import type { JobState } from "./job-state.ts";
import { Staged } from "./keeping.ts";
import { bitmapMachine } from "./machines/bitmap-machine.ts";
import { isBitmapBusy } from "./machines/bitmap-refusal.ts";
import { MachineActor } from "./machines/machine-actor.ts";

/**
 * A window that does not cover all of the disk, or of a disk that keeps nothing, is an ordinary one. Where a job or an export
 * has a bitmap, they move when it is given back; resumable jobs that wait for their target move with them.
 */
export async function takeOver(coordinator: Coordinator, window: DiskState): Promise<void> {
  const { under } = window;
  if (under?.image === undefined || !coversAll(window.layer, under.layer) || window.node.readOnly) return;
  await coordinator.keeping.alone(new Set([under, window]), async () => {
    if (under.image === undefined) return; // another window was quicker
    const waiting = new Set(idleJobs(coordinator, under).map(({ bitmap }) => bitmap));
    if (kept(under).some((one) => isBitmapBusy(one.actor.snapshot) && !waiting.has(one))) return;
    await move(coordinator, under, window, coordinator.freezeDeadlineMs);
    under.keptBy = window;
  });
}

/** Its users have ended. @throws RefusalError */
export async function giveBack(coordinator: Coordinator, window: DiskState): Promise<void> {
  const { under } = window;
  if (under?.keptBy !== window) return;
  await coordinator.keeping.alone(new Set([under, window]), async () => {
    await move(coordinator, window, under); // as long as it takes: the bitmaps must not be lost
    under.keptBy = undefined;
  });
}

/** The disk under it has a bitmap of its own of that name: they cannot both be there. */
export function refuseGivingBack(window: DiskState): void {
  const { under } = window;
  if (under?.keptBy !== window) return;
  const twin = kept(window).find(({ name }) => under.bitmaps.has(name));
  if (twin === undefined) return;
  const desc = `Bitmap '${twin.name}' would become one of '${under.name}', which has another of that name`;
  throw new RefusalError("detach", refusal("ERR_BITMAP_EXISTS", desc, { node: under.name, bitmap: twin.name }));
}

/** Somebody has let go of the disk: a window that waits for its bitmaps may have them now. */
export function takeOverWhatIsFree(coordinator: Coordinator, disk: DiskState): void {
  for (const window of disk.above)
    if (window.takesOver && window.actor.state === "open") takeOver(coordinator, window).catch(() => {}); // at the next time
}

function coversAll(window: Layer, under: Layer): boolean {
  return window.base === under.base && window.table.length === under.table.length;
}

function kept({ bitmaps }: DiskState): BitmapState[] {
  return [...bitmaps.values()].filter(({ actor }) => actor.context.persistent);
}

/** Resumable jobs without a thread at work: waiting for their target, or left. They go with their bitmap. */
function idleJobs({ world }: Coordinator, disk: DiskState): JobState[] {
  return [...world.jobs.values()].filter((job) => job.disk === disk && (job.awaitsTarget || job.left));
}

/** What is said, recorded and guarded goes from one layer to the other at one instant. */
async function move(coordinator: Coordinator, from: DiskState, to: DiskState, deadlineMs?: number): Promise<void> {
  const { journal } = from;
  const { keeping, world } = coordinator;
  const disks = new Map(world.disks).set(from.name, from).set(to.name, to);
  const staged = new Staged();
  const make = (length: number, granularity: number): Recorder => coordinator.engine.recorder(length, granularity);
  const draft = new Draft(coordinator.nextCommand(), "attach", disks, make, staged);
  const jobs = idleJobs(coordinator, from);
  await coordinator.engine.transitions.run({
    name: "attach",
    stacks: [to.layer.stack],
    deadlineMs,
    prepare: () => {
      for (const bitmap of kept(from).sort((one, other) => one.memory.order - other.memory.order)) {
        const twin = to.bitmaps.get(bitmap.name);
        if (twin !== undefined) draft.plan(twin, { type: "remove", command: draft.command }); // forced: it goes with its disk
        const moved = onDisk(coordinator, to, bitmap);
        draft.move(bitmap, from, to, moved);
        const job = jobs.find((one) => one.bitmap === bitmap);
        if (job !== undefined) moveJob(draft, staged, job, from, to, moved);
      }
      journal?.moveTo({ layer: to.layer, onFailure: keeping.onFailure(to) });
      return {
        tables: draft.tables(),
        committed: () => {
          draft.commit();
          for (const job of jobs) followBitmap(job, from, to);
          to.image = from.image;
          from.image = undefined;
          to.journal = journal;
          from.journal = undefined;
        },
        abandoned: () => journal?.moveTo({ layer: from.layer, onFailure: keeping.onFailure(from) }),
      };
    },
  });
}

/** The freeze that it has, and its view, are the other disk's from the same instant on. */
function moveJob(
  draft: Draft,
  staged: Staged,
  job: JobState,
  from: DiskState,
  to: DiskState,
  moved: BitmapState,
): void {
  const { successor } = moved.memory;
  if (successor === undefined) return;
  staged.put(to.name, moved.name, successor);
  moved.memory = { ...moved.memory, successor: undefined };
  const user = { kind: "job", id: job.id } as const;
  draft.plan(moved, { type: "freeze", user, mode: job.request.bitmap?.mode ?? "on-success", command: draft.command });
  draft.removeView(from, job.view);
  draft.addView(to, job.view);
}

function followBitmap(job: JobState, from: DiskState, to: DiskState): void {
  const user = { kind: "job", id: job.id } as const;
  job.bitmap = to.bitmaps.get(job.bitmap?.name ?? "");
  job.disk = to;
  if (job.left) return; // it is nobody's user any more
  from.actor.send({ type: "unuse", user });
  to.actor.send({ type: "use", user });
}

/** The same bitmap under another disk's name. */
function onDisk({ now }: Coordinator, disk: DiskState, { name, actor, memory }: BitmapState): BitmapState {
  const { recording, broken } = actor.context;
  const origin = actor.history[0]?.reason;
  const moved = new MachineActor(
    `bitmap ${disk.name}/${name}`,
    bitmapMachine,
    { node: disk.name, name, recording, persistent: true, ...(broken === null ? {} : { inconsistent: broken }) },
    { now, ...(origin === undefined ? {} : { origin }) },
  );
  return { name, disk: disk.name, actor: moved, memory: { ...memory, order: nextOrder() } };
}
