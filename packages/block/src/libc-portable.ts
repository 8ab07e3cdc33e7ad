/**
 * The same calls through `node:fs`, for where koffi cannot be loaded. Imported by `libc.ts` only.
 *
 * What Node does not offer answers ENOSYS: callers fall back (writing zeroes instead of punching holes, copying
 * instead of copy_file_range) or refuse (locks).
 */
import {
  closeSync,
  fdatasyncSync,
  fstatSync,
  ftruncateSync,
  openSync,
  readFileSync,
  readSync,
  statfsSync,
  writeSync,
} from "node:fs";
import { EINVAL, EIO, ENOSYS } from "./errno.ts";
import type { SystemCalls } from "./libc.ts";

/** The request for a block device's length in bytes. */
export const BLKGETSIZE64 = 0x80081272;

export const portableCalls: SystemCalls = {
  open: (path, flags, mode) => attempt(() => openSync(path, flags, mode)),
  close: (fd) => attempt(() => (closeSync(fd), 0)),
  pread: (fd, buffer, offset) => attempt(() => readSync(fd, buffer, 0, buffer.length, offset)),
  pwrite: (fd, buffer, offset) => attempt(() => writeSync(fd, buffer, 0, buffer.length, offset)),
  dup3: () => -ENOSYS,
  preadNoWait: () => -ENOSYS,
  copyFileRange: () => -ENOSYS,
  fallocate: () => -ENOSYS,
  lseek: () => -ENOSYS,
  fdatasync: (fd) => attempt(() => (fdatasyncSync(fd), 0)),
  ftruncate: (fd, length) => attempt(() => (ftruncateSync(fd, length), 0)),
  fstatfs: (fd, record) =>
    attempt(() => {
      const words = new BigUint64Array(record.buffer, record.byteOffset, 5);
      const answer = statfsSync(`/proc/self/fd/${fd}`, { bigint: true });
      words.set([answer.type, answer.bsize, answer.blocks, answer.bfree, answer.bavail]);
      return 0;
    }),
  fcntl: () => -ENOSYS,
  ioctl: (fd, request, record) => (request === BLKGETSIZE64 ? deviceLength(fd, record) : -ENOSYS),
  // All that Node offers waits for threads, but for a signal that cannot be handled.
  exit: () => void process.kill(process.pid, "SIGKILL"),
};

/** BLKGETSIZE64 from sysfs, which counts in 512 bytes whatever the device's sectors are. */
function deviceLength(fd: number, record: Uint8Array): number {
  return attempt(() => {
    const status = fstatSync(fd);
    if (!status.isBlockDevice()) return -EINVAL;
    const major = Math.floor(status.rdev / 2 ** 8) & 0xfff;
    const minor = (status.rdev & 0xff) | (Math.floor(status.rdev / 2 ** 12) & 0xfff00);
    const sectors = Number(readFileSync(`/sys/dev/block/${major}:${minor}/size`, "utf8"));
    new DataView(record.buffer, record.byteOffset).setBigUint64(0, BigInt(sectors) * 512n, true);
    return 0;
  });
}

function attempt(call: () => number): number {
  try {
    return call();
  } catch (error) {
    // Node's errno is negative already; an error without one is not from the system.
    const errno = (error as NodeJS.ErrnoException).errno;
    return errno === undefined ? -EIO : errno;
  }
}
