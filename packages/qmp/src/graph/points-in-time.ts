/**
 * copy-before-write and snapshot-access nodes on points in time of the runtime's.
 *
 * A copy-before-write node is a window of the node that it stands on, and a view of it from the moment in which it is added. What
 * guests write through any node of the stack is preserved for it, so it does not matter through which of them they come: a
 * filter that is put above or below another changes what queries say, and nothing of what happens to data. Old data goes to
 * the target by way of the spill.
 */
import { type Disk, HeirloomError, type Job, type View, type ViewRequest } from "@heirloom/runtime";
import type { BlockdevOptions } from "../generated/qmp-types.ts";
import { QmpError } from "../qmp-error.ts";
import type { GraphNode } from "./graph-node.ts";
import { asQmpError } from "./qemu-text.ts";

type Options = Extract<BlockdevOptions, { driver: "copy-before-write" }>;

const views = new WeakMap<Disk, View>();
const secondMs = 1000;
/** What the runtime lets a guest wait that must not fail. */
const delaySecondsMax = 3600;

/** The view of a node of that driver. */
export function viewOf(node: GraphNode): View | undefined {
  return views.get(node.disk);
}

/** What a snapshot-access node on this one reads. */
export function pointInTimeOf(node: GraphNode): { readonly view: View } | { readonly job: Job } | undefined {
  if (node.job !== undefined) return { job: node.job };
  const view = viewOf(node);
  return view && { view };
}

/** @param find looks a node up @throws QmpError where the bitmap is not there or cannot be used */
export async function openView(
  disk: Disk,
  target: Disk,
  options: Options,
  find: (name: string) => GraphNode | undefined,
): Promise<void> {
  const { bitmap } = options;
  const limited = bitmap === undefined ? undefined : find(bitmap.node);
  if (bitmap !== undefined && limited === undefined) throw new QmpError(`Node '${bitmap.node}' not found`);
  const view = disk.view({
    target,
    ...guestFirst(options["on-cbw-error"] ?? "break-guest-write", options["cbw-timeout"] ?? 0),
    ...(bitmap === undefined || limited === undefined ? {} : { limit: { disk: limited.disk, name: bitmap.name } }),
  });
  try {
    await view.ready;
  } catch (error) {
    throw asCopyError(error, bitmap?.name);
  }
  views.set(disk, view);
}

/** The disk may go after this. */
export async function closeView(disk: Disk): Promise<void> {
  await views.get(disk)?.fail();
}

/**
 * Who gives way, and when. A guest's write that must not fail waits for the spill as long as any does here; one that may fail
 * waits for the target, as in QEMU.
 * @param seconds 0: no limit
 */
export function guestFirst(
  onError: "break-guest-write" | "break-snapshot",
  seconds: number,
): Pick<ViewRequest, "onSpillFull" | "waitForTarget" | "guestDelayMax"> {
  if (onError === "break-guest-write")
    return { onSpillFull: onError, waitForTarget: true, guestDelayMax: seconds === 0 ? Infinity : seconds * secondMs };
  const delay = Math.min(seconds, delaySecondsMax) * secondMs;
  return { onSpillFull: onError, ...(seconds === 0 ? {} : { guestDelayMax: delay }) };
}

/** What the block layer says of a bitmap, as its caller passes it on. */
function asCopyError(error: unknown, bitmap: string | undefined): QmpError {
  const told = asQmpError(error);
  if (bitmap === undefined || !(error instanceof HeirloomError) || error.code === "ERR_BITMAP_NOT_FOUND") return told;
  if (!error.code.startsWith("ERR_BITMAP_")) return told;
  const desc = `Cannot create block-copy-state: Failed to merge bitmap '${bitmap}' to internal copy-bitmap: ${told.desc}`;
  return new QmpError(desc, "GenericError", { cause: error });
}
