/**
 * Locks on image files: open file description locks on the bytes that QEMU uses, so that QEMU's tools and we refuse
 * each other's open images, and so do two of us, in one process or in two.
 *
 * A permission is a bit. Byte 100 + bit is share-locked by who uses it, byte 200 + bit by who does not let others use
 * it. Taking is: lock our bytes, then look whether anybody stands against them. Both sides lock before they look, so of
 * two openers at least one sees the other; both may refuse, none goes through unseen.
 */
import { BlockError } from "./block-error.ts";
import { errnoText, EAGAIN, EACCES } from "./errno.ts";
import { byteLockedElsewhere, capabilities, lockByteShared, unlockByte } from "./libc.ts";

const USED_BASE = 100;
const UNSHARED_BASE = 200;

const CONSISTENT_READ = 0;
const WRITE = 1;
const RESIZE = 3;

interface Permissions {
  readonly used: readonly number[];
  /** Kept from everybody else. */
  readonly unshared: readonly number[];
}

/** Others may still read consistently, as they may from an image that a QEMU guest writes. */
const WRITER: Permissions = { used: [CONSISTENT_READ, WRITE, RESIZE], unshared: [WRITE, RESIZE] };
const READER: Permissions = { used: [CONSISTENT_READ], unshared: [WRITE, RESIZE] };

const permissionNames: Readonly<Record<number, string>> = {
  [CONSISTENT_READ]: "consistent read",
  [WRITE]: "write",
  [RESIZE]: "resize",
};

/** What somebody does with an image: nothing, read what others may be writing, read what nobody writes, or write. */
export type ImageUse = "none" | "watch" | "read" | "write";

const permissionsOf: Readonly<Record<ImageUse, Permissions>> = {
  none: { used: [], unshared: [] },
  watch: { used: [CONSISTENT_READ], unshared: [] },
  read: READER,
  write: WRITER,
};

/**
 * Locks an open image until its descriptor is closed.
 *
 * @throws BlockError ERR_IMAGE_LOCKED where somebody has it open in a way that excludes us; ERR_NOT_SUPPORTED where
 * the file system or this platform has no such locks.
 */
export function lockImage(fd: number, filename: string, readOnly: boolean): void {
  changeImageLock(fd, filename, "none", readOnly ? "read" : "write");
}

/**
 * The same for an image whose use changes while it is open. Where it is refused, what was locked before still is.
 *
 * @throws BlockError as `lockImage` does
 */
export function changeImageLock(fd: number, filename: string, before: ImageUse, after: ImageUse): void {
  const readOnly = after !== "write";
  if (!capabilities().imageLocks) {
    // A reader alone cannot hurt an image; a writer without a lock can.
    if (readOnly) return;
    throw new BlockError(
      "ERR_NOT_SUPPORTED",
      `open '${filename}' for writing: image locks need koffi (${capabilities().reason}); ` +
        `expected locking: 'off', with nobody else using the image`,
      { node: filename },
    );
  }
  const permissions = permissionsOf[after];
  const held = bytesOf(permissionsOf[before]);
  const wanted = bytesOf(permissions);
  const taken = wanted.filter((byte) => !held.includes(byte));
  for (const byte of taken) {
    const errno = lockByteShared(fd, byte);
    if (errno === 0) continue;
    release(fd, taken);
    if (errno === EAGAIN || errno === EACCES) throw lockedError(filename, readOnly, "exclusive");
    throw new BlockError(
      "ERR_NOT_SUPPORTED",
      `lock '${filename}': ${errnoText(errno)}; expected a file system with open file description locks, or locking: 'off'`,
      { node: filename, errno },
    );
  }
  for (const bit of permissions.used) refuseIfLocked(fd, filename, readOnly, UNSHARED_BASE + bit, bit, taken);
  for (const bit of permissions.unshared) refuseIfLocked(fd, filename, readOnly, USED_BASE + bit, bit, taken);
  release(
    fd,
    held.filter((byte) => !wanted.includes(byte)),
  );
}

/** Locks what another descriptor of ours has locked already, so that it can take that one's place. @throws BlockError */
export function joinImageLock(fd: number, filename: string, use: ImageUse): void {
  if (!capabilities().imageLocks) return;
  for (const byte of bytesOf(permissionsOf[use])) {
    const errno = lockByteShared(fd, byte); // shared, as all are: ours does not stand against it
    if (errno !== 0) throw BlockError.system("ERR_NODE_OPEN", `lock '${filename}'`, errno, { node: filename });
  }
}

/** Of whoever opened it, whatever it was locked for. */
export function unlockImage(fd: number): void {
  if (!capabilities().imageLocks) return;
  release(fd, bytesOf({ used: WRITER.used, unshared: WRITER.unshared }));
}

function bytesOf({ used, unshared }: Permissions): number[] {
  return [...used.map((bit) => USED_BASE + bit), ...unshared.map((bit) => UNSHARED_BASE + bit)];
}

function refuseIfLocked(
  fd: number,
  filename: string,
  readOnly: boolean,
  byte: number,
  bit: number,
  taken: readonly number[],
): void {
  const answer = byteLockedElsewhere(fd, byte);
  if (answer === 0) return;
  release(fd, taken);
  if (answer < 0) throw BlockError.system("ERR_NODE_OPEN", `lock '${filename}'`, -answer, { node: filename });
  throw lockedError(filename, readOnly, permissionNames[bit] ?? String(bit));
}

function release(fd: number, taken: readonly number[]): void {
  for (const byte of taken) unlockByte(fd, byte);
}

function lockedError(filename: string, readOnly: boolean, permission: string): BlockError {
  return new BlockError(
    "ERR_IMAGE_LOCKED",
    `open '${filename}' for ${readOnly ? "reading" : "writing"}: another process, or this one, has it open ` +
      `(its "${permission}" lock is in the way); expected an image that nobody ${readOnly ? "writes" : "else writes or guards"}`,
    { node: filename, errno: EAGAIN },
  );
}
