/**
 * Locks of a file node that was opened with `locking: 'off'` by somebody who knows when it is used: locked for that long, it
 * is open for other programs in between.
 */
import assert from "node:assert/strict";
import { changeImageLock, type ImageUse } from "../image-lock.ts";
import type { NodeHandle } from "../node.ts";
import type { FileState } from "./file-node.ts";

/** @throws BlockError ERR_IMAGE_LOCKED; then what was locked before still is */
export function lockNode(handle: NodeHandle, before: ImageUse, after: ImageUse): void {
  assert(handle.driver === "file" || handle.driver === "host_device", "expected the handle of a file or a device");
  const { fd, filename } = handle.state as FileState;
  changeImageLock(fd, filename, before, after);
}
