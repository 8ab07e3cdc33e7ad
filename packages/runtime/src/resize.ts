/**
 * Resizing a disk with bitmaps. What is grown is not tracked before the commit and cannot be written before it either: the
 * table says how long the disk is. Grown space is clean; a shrunk bitmap keeps its partial last granule.
 */
import { BlockError, errnoName } from "@heirloom/block";
import type { Coordinator } from "./coordinator.ts";
import type { DiskState } from "./disk-state.ts";
import { refusal, RefusalError } from "./errors.ts";

export async function resizeDisk(coordinator: Coordinator, disk: DiskState, length: number): Promise<void> {
  if (!Number.isSafeInteger(length) || length <= 0) {
    throw new RefusalError("resize", refusal("ERR_INVALID_ARGUMENT", "Parameter 'size' expects a >0 size", { size: String(length) }));
  }
  refuseInUse(disk);
  const { engine } = coordinator;
  const grows = length > disk.layer.table.length;
  if (grows) await resizeNode(coordinator, disk, length);
  const draft = coordinator.draft(coordinator.nextCommand(), "resize");
  await engine.transitions.run({
    name: "resize",
    stacks: [disk.layer.stack],
    deadlineMs: 5000,
    prepare: () => {
      refuseInUse(disk);
      draft.setLength(disk, length);
      for (const bitmap of disk.bitmaps.values()) {
        const into = { node: disk.name, name: bitmap.name };
        draft.plan(bitmap, { type: "mergeSource", into, command: draft.command });
      }
      return {
        tables: draft.tables(),
        committed: () => {
          draft.commit();
          void coordinator.runFolds(draft.folds);
        },
        abandoned: () => draft.abandon(),
      };
    },
  });
  if (!grows) await resizeNode(coordinator, disk, length);
}

function refuseInUse(disk: DiskState): void {
  const { users } = disk.actor.context;
  if (users.length === 0) return;
  const names = users.map((user) => `${user.kind} '${user.id}'`);
  throw new RefusalError("resize", refusal("ERR_DISK_IN_USE", `Disk '${disk.name}' is in use by ${names.join(", ")}`, { users: names }));
}

async function resizeNode(coordinator: Coordinator, disk: DiskState, length: number): Promise<void> {
  const errno = await coordinator.engine.resizeNode(disk.node, length);
  if (errno !== 0) throw new BlockError("ERR_IO", `resize of '${disk.name}' to ${length} bytes: ${errnoName(errno)}`, { errno });
}
