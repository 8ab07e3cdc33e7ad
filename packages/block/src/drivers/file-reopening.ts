/**
 * A file or device that is open, opened anew for writing or for reading only, under the number that it has: threads go on with it
 * as if nothing had happened, and what they have under way ends on what it began on.
 *
 * For writing it is found by its name, and has to be the file that it was. Locks belong to what is open and not to the number, so they are
 * taken on the new one before it takes the old one's place: nobody finds the image unlocked in between.
 */
import assert from "node:assert/strict";
import { type BigIntStats, fstatSync } from "node:fs";
import { resolve } from "node:path";
import { BlockError } from "../block-error.ts";
import { changeImageLock, type ImageUse, joinImageLock } from "../image-lock.ts";
import * as libc from "../libc.ts";
import type { NodeHandle } from "../node.ts";
import { CLOSED_WORD, type FileState, READ_ONLY_WORD } from "./file-node.ts";

export function identityOf(status: BigIntStats): string {
  return status.isBlockDevice() ? `device:${status.rdev}` : `file:${status.dev}:${status.ino}`;
}

/**
 * @param use what a node that was opened with `locking: 'off'` is locked for now
 * @throws BlockError; then it is open as it was
 */
export function reopenFile(handle: NodeHandle, readOnly: boolean, use: ImageUse): void {
  const words = new Int32Array((handle.state as FileState).shared);
  assert.equal(Atomics.load(words, CLOSED_WORD), 0, "a file is not closed while it is reopened");
  replace(handle, readOnly, use);
  Atomics.store(words, READ_ONLY_WORD, readOnly ? 1 : 0);
}

function replace({ state, identity }: NodeHandle, readOnly: boolean, use: ImageUse): void {
  const { fd, filename, locked } = state as FileState;
  // What was written is not to be lost sight of: an error is told to those who have the file open.
  const unsynced = readOnly ? libc.syncData(fd) : 0;
  if (unsynced !== 0) throw BlockError.system("ERR_IO", `flush '${filename}'`, unsynced, { node: filename });
  // Who gives up writing needs no name for it.
  const path = readOnly ? `/proc/self/fd/${fd}` : resolve(filename);
  const fresh = libc.openFile(path, (readOnly ? libc.O_RDONLY : libc.O_RDWR) | libc.O_NONBLOCK);
  if (fresh < 0) throw BlockError.system("ERR_NODE_OPEN", `open '${filename}'`, -fresh, { node: filename });
  try {
    if (identityOf(fstatSync(fresh, { bigint: true })) !== identity) {
      const message = `reopen '${filename}': there is another file of that name now; expected the one that is open`;
      throw new BlockError("ERR_NODE_OPEN", message, { node: filename });
    }
    const after = locked ? (readOnly ? "read" : "write") : use;
    // A writer's lock is asked for where our own is: there it does not stand in its own way.
    if (locked && !readOnly) changeImageLock(fd, filename, "read", "write");
    try {
      joinImageLock(fresh, filename, after);
      const errno = libc.replaceFile(fresh, fd);
      if (errno !== 0) throw BlockError.system("ERR_NOT_SUPPORTED", `reopen '${filename}'`, errno, { node: filename });
    } catch (error) {
      if (locked && !readOnly) changeImageLock(fd, filename, "write", "read");
      throw error;
    }
  } finally {
    libc.closeFile(fresh);
  }
}
