/**
 * Locks of a file node that change while it is open: of one that was opened with `locking: 'off'` by somebody who knows when it
 * is used, so that it is open for other programs in between; and of one that nobody uses any more, but cannot be closed yet.
 */
import assert from "node:assert/strict";
import { changeImageLock, type ImageUse, unlockImage } from "../image-lock.ts";
import type { NodeHandle } from "../node.ts";
import type { FileState } from "./file-node.ts";

/** @throws BlockError ERR_IMAGE_LOCKED; then what was locked before still is */
export function lockNode(handle: NodeHandle, before: ImageUse, after: ImageUse): void {
  assert(handle.driver === "file" || handle.driver === "host_device", "expected the handle of a file or a device");
  const { fd, filename } = handle.state as FileState;
  changeImageLock(fd, filename, before, after);
}

/** Gives back the locks of the files and devices that were opened with a node. What is read through it from now on may be anybody's. */
export function unlockNode(handle: NodeHandle): void {
  if (handle.driver === "file" || handle.driver === "host_device") unlockImage((handle.state as FileState).fd);
  if (handle.driver !== "attached") for (const child of handle.children) unlockNode(child);
}
