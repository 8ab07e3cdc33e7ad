/**
 * How a disk goes: its users end, its recorders leave the table, and when every thread has let go, its node is closed. What
 * a thread that hangs keeps from happening goes on happening behind the scenes; the disk's name stays taken until then.
 */
import { interruptNbd } from "@heirloom/nbd";
import type { Coordinator } from "./coordinator.ts";
import type { DiskState } from "./disk-state.ts";
import type { DraftFold } from "./draft.ts";
import { refusal, RefusalError } from "./errors.ts";
import { handlesText } from "./resize.ts";
import { giveBack, refuseGivingBack } from "./taking-over.ts";

/** Between two looks whether a guest's thread has closed its handle or ended. */
const handleLookMs = 50;

/** Why it cannot be detached without force. */
export function refuseDetach(coordinator: Coordinator, disk: DiskState): void {
  refuseGivingBack(disk);
  const names = disk.actor.context.users.map((user) => `${user.kind} '${user.id}'`);
  for (const above of disk.above) names.push(`disk '${above.name}'`);
  const handles = coordinator.engine.openHandles(disk.layer);
  if (handles > 0) names.push(handlesText(handles));
  if (names.length === 0) return;
  throw new RefusalError(
    "detach",
    refusal("ERR_DISK_IN_USE", `Disk '${disk.name}' is in use by ${names.join(", ")}`, {
      disk: disk.name,
      users: names,
    }),
  );
}

/** Ends jobs and views, and takes the disk away. The windows on it are gone. @returns when its node is closed */
export async function detachDisk(coordinator: Coordinator, disk: DiskState): Promise<void> {
  const { engine } = coordinator;
  await coordinator.detach(disk, true, (user) => {
    if (user.kind === "job") coordinator.jobs.leaveIfPossible(user.id, disk);
    else if (user.kind === "export") void coordinator.exports.get(user.id)?.end("hard");
    else
      void coordinator.views
        .get(user.id)
        ?.fail()
        .catch(() => {});
  });
  await giveBack(coordinator, disk);
  await leaveTable(coordinator, disk);
  engine.revokeUnopened(disk.layer);
  interruptNbd(disk.node); // a request that a server never answers would keep its thread
  await Promise.all([coordinator.jobs.ending.released(disk), handlesClosed(coordinator, disk)]);
  // Whatever cannot be closed as it should be: the rest is let go of all the same, and the first failure is told at the end.
  const closed = [
    await settled(disk.journal?.close()),
    await settled(engine.removeLayer(disk.layer)),
    await settled(engine.closeNode(disk.node)),
  ];
  disk.under?.above.delete(disk);
  disk.actor.send({ type: "closed" });
  for (const failure of closed) if (failure !== undefined) throw failure.error;
}

async function settled(work: Promise<unknown> | undefined): Promise<{ readonly error: unknown } | undefined> {
  try {
    await work;
    return undefined;
  } catch (error) {
    return { error };
  }
}

/**
 * The disk's recorders leave the table, and nothing of it can be written any more: a guest's thread that still has it open
 * is answered EINVAL for what would change it.
 */
async function leaveTable(coordinator: Coordinator, disk: DiskState): Promise<void> {
  const draft = coordinator.draft(coordinator.nextCommand(), "detach");
  await coordinator.engine.transitions.run({
    name: "detach",
    stacks: [disk.layer.stack],
    prepare: () => {
      const left = [...coordinator.world.jobs.values()].filter((job) => job.left && job.disk === disk);
      for (const job of left) draft.removeView(disk, job.view);
      const { command } = draft;
      for (const bitmap of disk.bitmaps.values()) {
        // Of one that a job has left frozen this is said in memory alone: its record stays.
        if (bitmap.actor.state === "frozen") draft.plan(bitmap, { type: "reclaim", command });
        draft.plan(bitmap, { type: "remove", command });
      }
      draft.setLength(disk, 0);
      return {
        tables: draft.tables(),
        commit: () => {
          for (const job of left) job.view.stop();
        },
        committed: () => {
          draft.commit();
          for (const fold of draft.folds) letGoOf(fold);
          for (const job of left) coordinator.jobs.ending.letGoOfLeft(job);
        },
      };
    },
  });
}

/** A fold that nobody needs any more. */
function letGoOf({ from, into, dropFrom }: DraftFold): void {
  if (from !== "uncopied") {
    if (dropFrom) from.drop();
    from.letGo();
  }
  into.letGo();
}

async function handlesClosed(coordinator: Coordinator, disk: DiskState): Promise<void> {
  while (coordinator.engine.openHandles(disk.layer) > 0) {
    await new Promise((resolve) => setTimeout(resolve, handleLookMs).unref());
  }
}
