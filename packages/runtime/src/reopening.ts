/**
 * A disk that is opened anew, for writing or for reading only, while others go on reading it: exports, backups, windows.
 *
 * A window has nothing open by itself: it can be written where the disk under it can, and is reopened after that one. Whoever
 * makes a disk read-only makes its windows so.
 */
import type { ImageUse } from "@heirloom/block";
import type { Coordinator } from "./coordinator.ts";
import type { DiskState } from "./disk-state.ts";
import { refusal, RefusalError } from "./errors.ts";
import type { AttachOptions } from "./options.ts";
import { recoverBitmaps, refuseKept } from "./recovering.ts";
import { handlesText } from "./resize.ts";
import { takeOver } from "./taking-over.ts";

export interface ReopenOptions {
  readonly readOnly: boolean;
  /** As of an attach: for an image that becomes writable, and may have bitmaps that are kept. */
  readonly journal?: AttachOptions["journal"];
}

/** For as long as it lasts the disk is not taken away: its number would be another file's. */
const user = { kind: "handle", id: "reopen" } as const;

/** @param use what the image is locked for @throws RefusalError, BlockError; then nothing has changed */
export async function reopenDisk(
  coordinator: Coordinator,
  disk: DiskState,
  { readOnly, journal = {} }: ReopenOptions,
  use: ImageUse,
): Promise<void> {
  coordinator.refuseClosing(disk, true, "reopen");
  if (disk.node.readOnly === readOnly) return;
  const plan = disk.actor.plan({ type: "use", user });
  if (!plan.ok) throw new RefusalError("reopen", plan.refusal);
  disk.actor.commit(plan);
  try {
    if (readOnly) await forReading(coordinator, disk, use);
    else await forWriting(coordinator, disk, journal, use);
  } finally {
    coordinator.unuse(disk, user);
  }
}

async function forReading(coordinator: Coordinator, disk: DiskState, use: ImageUse): Promise<void> {
  const { engine } = coordinator;
  const stack = [disk, ...windowsOn(disk)];
  for (const one of stack) refuseWriters(coordinator, one, disk);
  const writable = stack.filter(({ node }) => !node.readOnly);
  // Before anything waits: from here on nobody new writes it.
  for (const one of writable) await engine.reopened(one.layer, true);
  // With bitmaps that are kept it stays open for writing: what is settled about them may have to sync it.
  if (disk.under !== undefined || keepsBitmaps(disk)) return;
  try {
    await engine.reopenNode(disk.node, true, use);
  } catch (error) {
    for (const one of writable) await engine.reopened(one.layer, false);
    throw error;
  }
}

async function forWriting(
  coordinator: Coordinator,
  disk: DiskState,
  journal: AttachOptions["journal"],
  use: ImageUse,
): Promise<void> {
  const { engine } = coordinator;
  const { under } = disk;
  if (under !== undefined) {
    if (under.node.readOnly) {
      throw new RefusalError("reopen", refusal("ERR_NODE_READ_ONLY", "Block node is read-only", { node: disk.name }));
    }
    await engine.reopened(disk.layer, false);
    if (disk.takesOver) await takeOver(coordinator, disk);
    return;
  }
  if (!keepsBitmaps(disk)) await openForWriting(coordinator, disk, journal, use);
  await engine.reopened(disk.layer, false);
}

/** Nobody writes it before the bitmaps that are kept for it record. */
async function openForWriting(
  coordinator: Coordinator,
  disk: DiskState,
  journal: AttachOptions["journal"],
  use: ImageUse,
): Promise<void> {
  const { engine } = coordinator;
  const { filename } = (disk.node.state ?? {}) as { readonly filename?: string };
  await engine.reopenNode(disk.node, false, use);
  if (filename === undefined) return;
  try {
    if (disk.keepsNone) await refuseKept(coordinator, filename);
    else if (typeof journal === "object") {
      disk.image = { filename, journal };
      await recoverBitmaps(coordinator, disk);
    }
  } catch (error) {
    disk.image = undefined;
    await engine.reopenNode(disk.node, true, use);
    throw error;
  }
}

/** Its own, or those that a window of it has taken over. */
function keepsBitmaps({ journal, keptBy }: DiskState): boolean {
  return journal !== undefined || keptBy !== undefined;
}

function windowsOn({ above }: DiskState): DiskState[] {
  return [...above].flatMap((window) => [window, ...windowsOn(window)]);
}

function refuseWriters({ engine, exports, world }: Coordinator, disk: DiskState, asked: DiskState): void {
  const writers = [...exports.values()].filter((one) => one.disk === disk.name && one.writable).map(({ id }) => id);
  const names = writers.map((id) => `export '${id}'`);
  for (const { id, target, ended } of world.jobs.values())
    if (target.disk === disk && ended === undefined) names.push(`job '${id}'`);
  const handles = engine.openHandles(disk.layer);
  if (handles > 0) names.push(handlesText(handles));
  if (names.length === 0) return;
  const desc = `Disk '${asked.name}' is written by ${names.join(", ")}`;
  throw new RefusalError("reopen", refusal("ERR_DISK_IN_USE", desc, { disk: asked.name, users: names }));
}
