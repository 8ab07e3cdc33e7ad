/**
 * Resizing a disk with bitmaps. What is grown is not tracked before the commit and cannot be written before it either: the
 * table says how long the disk is. Grown space is clean, except below where the disk was cut off since a bitmap began: what was there reads as
 * zeroes now, so it has changed (QEMU calls it clean). A shrunk bitmap keeps its partial last granule.
 */
import { BlockError, errnoName } from "@heirloom/block";
import type { Coordinator } from "./coordinator.ts";
import type { DiskState } from "./disk-state.ts";
import { refusal, RefusalError } from "./errors.ts";
import { Staged } from "./keeping.ts";

/** Resizes of a disk, one after the other: what one has begun with its file another must not undo. */
const queues = new WeakMap<DiskState, Promise<void>>();

export async function resizeDisk(coordinator: Coordinator, disk: DiskState, length: number): Promise<void> {
  const before = queues.get(disk) ?? Promise.resolve();
  const resized = before.then(() => resizeInTurn(coordinator, disk, length));
  queues.set(
    disk,
    resized.catch(() => {}),
  );
  await resized;
}

async function resizeInTurn(coordinator: Coordinator, disk: DiskState, length: number): Promise<void> {
  if (!Number.isSafeInteger(length) || length < 0) {
    throw new RefusalError(
      "resize",
      refusal("ERR_INVALID_ARGUMENT", "Parameter 'size' expects a >0 size", { size: String(length) }),
    );
  }
  refuseInUse(coordinator, disk);
  const intents = [...disk.bitmaps.keys()].map((name) => ({ disk, name, change: "fresh", length }) as const);
  await coordinator.keeping.during("resize", intents, async (staged) => {
    const { journal } = disk;
    if (journal === undefined || journal.failed !== undefined) return resizeWith(coordinator, disk, length, staged);
    await journal.resizing(length);
    try {
      await resizeWith(coordinator, disk, length, staged);
    } finally {
      await journal.resized(disk.layer.table.length);
    }
  });
}

async function resizeWith(coordinator: Coordinator, disk: DiskState, length: number, staged: Staged): Promise<void> {
  const before = disk.layer.table.length;
  if (length > before) {
    await resizeNode(coordinator, disk, length);
    try {
      await setLength(coordinator, disk, length, "clean", staged);
    } catch (error) {
      // Refused: nobody could write what was grown, since the table did not say that it is there.
      if (disk.layer.table.length === before) await resizeNode(coordinator, disk, before).catch(() => {});
      throw error;
    }
    return;
  }
  await setLength(coordinator, disk, length, "clean", staged);
  try {
    await resizeNode(coordinator, disk, length);
  } catch (error) {
    // The bits beyond the end were given up, and what is there is not: it counts as changed.
    await restoreLength(coordinator, disk, before);
    throw error;
  }
}

/** As `setLength`, with layers of the old length for persistent bitmaps. */
async function restoreLength(coordinator: Coordinator, disk: DiskState, length: number): Promise<void> {
  const staged = new Staged();
  for (const { name, actor, memory } of disk.bitmaps.values()) {
    if (actor.context.persistent && actor.context.broken === null && disk.journal !== undefined)
      staged.put(disk.name, name, await disk.journal.newRecorder(length, memory.bits.bitmap.granularity));
  }
  await setLength(coordinator, disk, length, "dirty", staged);
}

async function setLength(
  coordinator: Coordinator,
  disk: DiskState,
  length: number,
  grown: "clean" | "dirty",
  staged: Staged,
): Promise<void> {
  const draft = coordinator.draft(coordinator.nextCommand(), "resize", staged);
  let folded: Promise<void> | undefined;
  const resized = coordinator.engine.transitions.run({
    name: "resize",
    stacks: [disk.layer.stack],
    deadlineMs: coordinator.freezeDeadlineMs,
    prepare: () => {
      refuseInUse(coordinator, disk);
      const before = disk.layer.table.length;
      draft.setLength(disk, length);
      for (const bitmap of disk.bitmaps.values()) {
        const into = { node: disk.name, name: bitmap.name };
        draft.plan(bitmap, { type: "mergeSource", into, command: draft.command });
        const { bits, cutFrom, records } = draft.memoryOf(bitmap);
        const dirtyEnd = grown === "dirty" ? length : Math.min(length, cutFrom);
        if (dirtyEnd > before) bits.bitmap.set(before, dirtyEnd - before);
        if (length < before && records) draft.noteCut(bitmap, before);
      }
      return {
        tables: draft.tables(),
        committed: () => {
          draft.commit();
          folded = coordinator.runFolds(draft.folds);
        },
        abandoned: () => draft.abandon(),
      };
    },
  });
  await resized.catch((error: unknown) => {
    draft.abandon();
    throw coordinator.asRefusal(error, "resize");
  });
  await folded;
}

function refuseInUse(coordinator: Coordinator, disk: DiskState): void {
  coordinator.refuseClosing(disk, true, "resize");
  const { users } = disk.actor.context;
  const names = users.map((user) => `${user.kind} '${user.id}'`);
  for (const above of disk.above) names.push(`disk '${above.name}'`);
  const handles = coordinator.engine.openHandles(disk.layer);
  if (handles > 0) names.push(handlesText(handles));
  if (names.length === 0) return;
  throw new RefusalError(
    "resize",
    refusal("ERR_DISK_IN_USE", `Disk '${disk.name}' is in use by ${names.join(", ")}`, { users: names }),
  );
}

export function handlesText(handles: number): string {
  return `${handles} posted handle${handles === 1 ? "" : "s"}`;
}

async function resizeNode(coordinator: Coordinator, disk: DiskState, length: number): Promise<void> {
  const errno = await coordinator.engine.resizeNode(disk.node, length);
  if (errno !== 0)
    throw new BlockError("ERR_IO", `resize of '${disk.name}' to ${length} bytes: ${errnoName(errno)}`, { errno });
}
