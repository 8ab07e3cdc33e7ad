/**
 * Resizing a disk with bitmaps. What is grown is not tracked before the commit and cannot be written before it either: the
 * table says how long the disk is. Grown space is clean, except below where the disk was cut off since a bitmap began: what was there reads as
 * zeroes now, so it has changed (QEMU calls it clean). A shrunk bitmap keeps its partial last granule.
 *
 * A window that reaches to the end of what it stands on is resized by resizing that: all disks down to the lowest change at the same
 * instant, so none of them may be in use.
 */
import { BlockError, errnoName } from "@heirloom/block";
import type { Layer } from "@heirloom/engine";
import type { DiskJournal } from "@heirloom/journal";
import type { Coordinator } from "./coordinator.ts";
import type { DiskState } from "./disk-state.ts";
import type { Draft } from "./draft.ts";
import { refusal, RefusalError } from "./errors.ts";
import { Staged } from "./keeping.ts";

/** Resizes of a stack's disks, one after the other: what one has begun with its file another must neither undo nor believe. */
const queues = new WeakMap<Layer["stack"], Promise<void>>();

/** A disk that is resized, and how long it is to be, or was: bytes. */
interface Resized {
  readonly disk: DiskState;
  readonly length: number;
}

export function resizeDisk(coordinator: Coordinator, disk: DiskState, length: number): Promise<void> {
  return betweenResizes(disk, () => resizeInTurn(coordinator, disk, length));
}

/** What looks how long a disk is and relies on it, a new window for one, has its turn among the resizes of its stack. */
export function betweenResizes<Value>({ layer }: DiskState, work: () => Promise<Value>): Promise<Value> {
  const before = queues.get(layer.stack) ?? Promise.resolve();
  const done = before.then(work);
  queues.set(
    layer.stack,
    done.then(
      () => {},
      () => {},
    ),
  );
  return done;
}

async function resizeInTurn(coordinator: Coordinator, disk: DiskState, length: number): Promise<void> {
  if (!Number.isSafeInteger(length) || length < 0) {
    throw new RefusalError(
      "resize",
      refusal("ERR_INVALID_ARGUMENT", "Parameter 'size' expects a >0 size", { size: String(length) }),
    );
  }
  refuseInUse(coordinator, disk);
  const all = withThoseUnder(disk, length);
  const intents = all.flatMap((one) =>
    [...one.disk.bitmaps.keys()].map(
      (name) => ({ disk: one.disk, name, change: "fresh", length: one.length }) as const,
    ),
  );
  await coordinator.keeping.during("resize", intents, async (staged) => {
    const kept = all.find((one) => one.disk.journal !== undefined); // of an image there is one journal
    await besideJournal(kept, () => resizeWith(coordinator, disk, all, staged));
  });
}

/** The disk, and those under it down to the lowest: each ends where the one above it does. */
function withThoseUnder(disk: DiskState, length: number): Resized[] {
  const all: Resized[] = [];
  for (let one: DiskState | undefined = disk; one !== undefined; one = one.under)
    all.push({ disk: one, length: length + disk.layer.base - one.layer.base });
  return all;
}

async function besideJournal(kept: Resized | undefined, work: () => Promise<void>): Promise<void> {
  const journal: DiskJournal | undefined = kept?.disk.journal;
  if (kept === undefined || journal === undefined || journal.failed !== undefined) return work();
  await journal.resizing(kept.length);
  try {
    await work();
  } finally {
    await journal.resized(kept.disk.layer.table.length);
  }
}

async function resizeWith(
  coordinator: Coordinator,
  disk: DiskState,
  all: readonly Resized[],
  staged: Staged,
): Promise<void> {
  const before = disk.layer.table.length;
  const [{ length }] = all;
  if (length > before) {
    await resizeNode(coordinator, disk, length);
    try {
      await setLengths(coordinator, disk, all, "clean", staged);
    } catch (error) {
      // Refused: nobody could write what was grown, since the table did not say that it is there.
      if (disk.layer.table.length === before) await resizeNode(coordinator, disk, before).catch(() => {});
      throw error;
    }
    return;
  }
  await resizeNode(coordinator, disk, before); // one that cannot be resized says so before bits are given up
  const were = all.map((one) => ({ disk: one.disk, length: one.disk.layer.table.length }));
  await setLengths(coordinator, disk, all, "clean", staged);
  try {
    await resizeNode(coordinator, disk, length);
  } catch (error) {
    // The bits beyond the end were given up, and what is there is not: it counts as changed.
    await restoreLengths(coordinator, disk, were);
    throw error;
  }
}

/** As `setLengths`, with layers of the old length for persistent bitmaps. */
async function restoreLengths(coordinator: Coordinator, disk: DiskState, all: readonly Resized[]): Promise<void> {
  const staged = new Staged();
  for (const one of all) {
    const { journal, bitmaps, name: node } = one.disk;
    for (const { name, actor, memory } of bitmaps.values()) {
      if (actor.context.persistent && actor.context.broken === null && journal !== undefined)
        staged.put(node, name, await journal.newRecorder(one.length, memory.bits.bitmap.granularity));
    }
  }
  await setLengths(coordinator, disk, all, "dirty", staged);
}

async function setLengths(
  coordinator: Coordinator,
  disk: DiskState,
  all: readonly Resized[],
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
      for (const one of all) planLength(draft, one, grown);
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

function planLength(draft: Draft, { disk, length }: Resized, grown: "clean" | "dirty"): void {
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
}

/** @throws RefusalError */
function refuseInUse(coordinator: Coordinator, disk: DiskState): void {
  let above: DiskState | undefined;
  for (let one: DiskState | undefined = disk; one !== undefined; one = one.under) {
    coordinator.refuseClosing(one, true, "resize");
    const names = usersOf(coordinator, one, above);
    if (names.length > 0) {
      const who = one === disk ? `Disk '${disk.name}'` : `Disk '${disk.name}' is a window of '${one.name}', which`;
      const desc = `${who} is in use by ${names.join(", ")}`;
      throw new RefusalError("resize", refusal("ERR_DISK_IN_USE", desc, { users: names }));
    }
    above = one;
  }
}

/** Whoever counts on its length, but for one window. */
function usersOf(coordinator: Coordinator, disk: DiskState, but: DiskState | undefined): string[] {
  const names = disk.actor.context.users.map((user) => `${user.kind} '${user.id}'`);
  for (const above of disk.above) if (above !== but) names.push(`disk '${above.name}'`);
  const handles = coordinator.engine.openHandles(disk.layer);
  if (handles > 0) names.push(handlesText(handles));
  return names;
}

export function handlesText(handles: number): string {
  return `${handles} posted handle${handles === 1 ? "" : "s"}`;
}

async function resizeNode(coordinator: Coordinator, disk: DiskState, length: number): Promise<void> {
  const errno = await coordinator.engine.resizeNode(disk.node, length);
  if (errno !== 0)
    throw new BlockError("ERR_IO", `resize of '${disk.name}' to ${length} bytes: ${errnoName(errno)}`, { errno });
}
