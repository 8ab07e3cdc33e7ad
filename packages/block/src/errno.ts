/**
 * Errno values: the numbers that verbs answer with, their names, and the texts that people know from strerror.
 *
 * Numbers come from the running kernel's own table (`os.constants.errno`), so that arm64 and x86-64 read the same.
 */
import { constants } from "node:os";
import { getSystemErrorMap } from "node:util";
import type { Errno } from "./node.ts";

const numbers: Readonly<Record<string, number>> = constants.errno;

export const EPERM: Errno = constants.errno.EPERM;
export const ENOENT: Errno = constants.errno.ENOENT;
export const EINTR: Errno = constants.errno.EINTR;
export const EIO: Errno = constants.errno.EIO;
export const ENXIO: Errno = constants.errno.ENXIO;
export const EAGAIN: Errno = constants.errno.EAGAIN;
export const ENOMEM: Errno = constants.errno.ENOMEM;
export const EACCES: Errno = constants.errno.EACCES;
export const EFAULT: Errno = constants.errno.EFAULT;
export const EBUSY: Errno = constants.errno.EBUSY;
export const EEXIST: Errno = constants.errno.EEXIST;
export const EXDEV: Errno = constants.errno.EXDEV;
export const ENODEV: Errno = constants.errno.ENODEV;
export const EINVAL: Errno = constants.errno.EINVAL;
export const ENOTTY: Errno = constants.errno.ENOTTY;
export const EFBIG: Errno = constants.errno.EFBIG;
export const ENOSPC: Errno = constants.errno.ENOSPC;
export const EROFS: Errno = constants.errno.EROFS;
export const ENOSYS: Errno = constants.errno.ENOSYS;
export const EOPNOTSUPP: Errno = constants.errno.EOPNOTSUPP;
/** The kernel's ENOTSUP is the same number. */
export const ENOTSUP: Errno = constants.errno.EOPNOTSUPP;

/** What glibc's strerror says; libuv's wording differs for a few, and tools compare texts. */
const texts: Readonly<Record<number, string>> = {
  0: "Success",
  [EPERM]: "Operation not permitted",
  [ENOENT]: "No such file or directory",
  [EINTR]: "Interrupted system call",
  [EIO]: "Input/output error",
  [ENXIO]: "No such device or address",
  [EAGAIN]: "Resource temporarily unavailable",
  [ENOMEM]: "Cannot allocate memory",
  [EACCES]: "Permission denied",
  [EFAULT]: "Bad address",
  [EBUSY]: "Device or resource busy",
  [EEXIST]: "File exists",
  [EXDEV]: "Invalid cross-device link",
  [EINVAL]: "Invalid argument",
  [ENOTTY]: "Inappropriate ioctl for device",
  [EFBIG]: "File too large",
  [ENOSPC]: "No space left on device",
  [EROFS]: "Read-only file system",
  [ENOSYS]: "Function not implemented",
  [EOPNOTSUPP]: "Operation not supported",
  [constants.errno.EBADF]: "Bad file descriptor",
  [constants.errno.EISDIR]: "Is a directory",
  [ENODEV]: "No such device",
  [constants.errno.ENOTDIR]: "Not a directory",
  [constants.errno.EDQUOT]: "Disk quota exceeded",
  [constants.errno.ETIMEDOUT]: "Connection timed out",
  [constants.errno.ECONNRESET]: "Connection reset by peer",
  [constants.errno.EPIPE]: "Broken pipe",
  [constants.errno.ESTALE]: "Stale file handle",
  [constants.errno.ECANCELED]: "Operation canceled",
};

/**
 * The name of an errno value, `"0"` for success and the number itself for one that Linux does not name.
 *
 * @example errnoName(28) // "ENOSPC"
 */
export function errnoName(errno: Errno): string {
  for (const name in numbers) {
    // Two names share a number in three places; the ones that people use come first here.
    if (numbers[name] === errno && name !== "ENOTSUP" && name !== "EWOULDBLOCK") return name;
  }
  return String(errno);
}

/**
 * The text of an errno value, as strerror of glibc has it.
 *
 * @example errnoText(28) // "No space left on device"
 */
export function errnoText(errno: Errno): string {
  return texts[errno] ?? getSystemErrorMap().get(-errno)?.[1] ?? `Unknown error ${errno}`;
}

/**
 * The number of a name; `undefined` where there is no such name.
 *
 * @example errnoNumber("ENOSPC") // 28
 */
export function errnoNumber(name: string): Errno | undefined {
  return Object.hasOwn(numbers, name) ? numbers[name] : undefined;
}
