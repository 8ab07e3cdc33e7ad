/**
 * How a disk goes: its users end, its recorders leave the table, and when every thread has let go, its node is closed.
 *
 * A thread may hang for ever. One that could still change the image keeps it, name and lock: nobody else may have it. One that
 * only read it, a job's whose target hangs, keeps nothing but the descriptor: name and image are free without it.
 */
import { interruptNbd } from "@heirloom/nbd";
import type { Coordinator } from "./coordinator.ts";
import type { DiskState } from "./disk-state.ts";
import type { DraftFold } from "./draft.ts";
import { refusal, RefusalError } from "./errors.ts";
import { handlesText } from "./resize.ts";
import { giveBack, refuseGivingBack } from "./taking-over.ts";
import { within } from "./waiting.ts";

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

/** How long a thread that only reads is waited for, before the image is let go of without it. */
const readersMs = 500;

/**
 * Ends jobs and views, and takes the disk away. The windows on it are free.
 *
 * @returns when nobody can change the image any more and its journal is closed: name and image are free. `closed` is when no
 * thread uses it, and its node is closed
 */
export async function detachDisk(
  coordinator: Coordinator,
  disk: DiskState,
): Promise<{ readonly closed: Promise<void> }> {
  const { engine } = coordinator;
  const { ending } = coordinator.jobs;
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
  await Promise.all([ending.released(disk, "changing"), handlesClosed(coordinator, disk)]);
  const released = ending.released(disk);
  await within(readersMs, released);
  const failures: Failure[] = [await settled(disk.journal?.close())];
  disk.under?.above.delete(disk);
  const early = ending.holds(disk);
  // A window's file is that of the disk under it, and so is that of a point in time.
  if (early && disk.under === undefined && disk.layer.snapshotOf === undefined)
    failures.push(await settled(engine.unlockNode(disk.node)));
  const closed = released.then(() => close(coordinator, disk, failures));
  if (early) {
    closed.catch(() => {}); // told to those who wait for it
    throwFirst(failures);
  } else await closed;
  return { closed };
}

/** Whatever cannot be closed as it should be: the rest is let go of all the same, and the first failure is told at the end. */
async function close({ engine }: Coordinator, disk: DiskState, failures: Failure[]): Promise<void> {
  failures.push(await settled(engine.removeLayer(disk.layer)), await settled(engine.closeNode(disk.node)));
  disk.actor.send({ type: "closed" });
  throwFirst(failures);
}

function throwFirst(failures: readonly Failure[]): void {
  for (const failure of failures) if (failure !== undefined) throw failure.error;
}

type Failure = { readonly error: unknown } | undefined;

async function settled(work: Promise<unknown> | undefined): Promise<Failure> {
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
