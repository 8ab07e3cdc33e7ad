/**
 * The one module that makes system calls. Everything above it sees offsets, lengths and errno values.
 *
 * Calls go through koffi; where that cannot be loaded (or `HEIRLOOM_NO_KOFFI=1` says so) through `node:fs`, with less:
 * `capabilities()` says what. Loaded at the first call of each thread, never at import.
 *
 * EINTR and short transfers are looped over here, so that callers see a whole transfer or an errno. No call allocates
 * on its usual path.
 */
import { EINTR, EIO, ENODEV, ENOSYS, ENOTTY, EOPNOTSUPP } from "./errno.ts";
import { loadNativeCalls } from "./libc-native.ts";
import { BLKGETSIZE64, portableCalls } from "./libc-portable.ts";
import type { Errno } from "./node.ts";

/** Raw calls: a result of 0 or more, or a negative errno. A buffer is transferred from its first byte on. */
export interface SystemCalls {
  open(path: string, flags: number, mode: number): number;
  close(fd: number): number;
  dup3(from: number, to: number, flags: number): number;
  pread(fd: number, buffer: Uint8Array, offset: number): number;
  pwrite(fd: number, buffer: Uint8Array, offset: number): number;
  preadNoWait(fd: number, buffer: Uint8Array, offset: number): number;
  copyFileRange(fdIn: number, offsetIn: number, fdOut: number, offsetOut: number, length: number): number;
  fallocate(fd: number, mode: number, offset: number, length: number): number;
  lseek(fd: number, offset: number, whence: number): number;
  fdatasync(fd: number): number;
  ftruncate(fd: number, length: number): number;
  fstatfs(fd: number, record: Uint8Array): number;
  fcntl(fd: number, command: number, record: Uint8Array): number;
  ioctl(fd: number, request: number, record: Uint8Array): number;
  /** Does not return. */
  exit(code: number): void;
}

export const O_RDONLY = 0;
export const O_RDWR = 2;
export const O_CREAT = 0o100;
export const O_EXCL = 0o200;
export const O_NONBLOCK = 0o4000;
export const O_CLOEXEC = 0o2000000;
/** An unnamed file in the directory that is opened. The directory bit in it differs between the two architectures. */
export const O_TMPFILE: number = 0o20000000 | (process.arch === "arm64" ? 0o40000 : 0o200000);

export const FALLOC_KEEP_SIZE = 0x01;
export const FALLOC_PUNCH_HOLE = 0x02;
export const FALLOC_ZERO_RANGE = 0x10;

const SEEK_END = 2;
const SEEK_DATA = 3;
const SEEK_HOLE = 4;

const BLKSSZGET = 0x1268;
const BLKDISCARD = 0x1277;
const BLKZEROOUT = 0x127f;

const F_OFD_GETLK = 36;
const F_OFD_SETLK = 37;
const F_RDLCK = 0;
const F_WRLCK = 1;
const F_UNLCK = 2;

const TMPFS_MAGIC = 0x01021994;

/** What this process can do; see `capabilities()`. */
export interface Capabilities {
  /** System calls go through koffi. Everything below is false where they do not. */
  readonly native: boolean;
  /** Why they do not. */
  readonly reason: string | undefined;
  readonly copyFileRange: boolean;
  readonly punchHole: boolean;
  readonly sparseStatus: boolean;
  readonly imageLocks: boolean;
  readonly noWaitReads: boolean;
}

let selected: SystemCalls | undefined;
let reasonWithoutNative: string | undefined;

function system(): SystemCalls {
  return selected ?? select();
}

function select(): SystemCalls {
  if (process.env.HEIRLOOM_NO_KOFFI === "1") {
    reasonWithoutNative = "HEIRLOOM_NO_KOFFI is 1";
    selected = portableCalls;
  } else {
    try {
      selected = loadNativeCalls();
    } catch (error) {
      reasonWithoutNative = `koffi could not be loaded: ${(error as Error).message}`;
      selected = portableCalls;
    }
  }
  return selected;
}

/**
 * What the system calls of this thread can do.
 *
 * @example if (!capabilities().imageLocks) console.warn(capabilities().reason);
 */
export function capabilities(): Capabilities {
  const native = system() !== portableCalls;
  return {
    native,
    reason: native ? undefined : reasonWithoutNative,
    copyFileRange: native,
    punchHole: native,
    sparseStatus: native,
    imageLocks: native,
    noWaitReads: native,
  };
}

/** Whether system calls go through `node:fs`, for the other module that makes calls (sockets.ts). */
export function withoutNativeCalls(): boolean {
  return system() === portableCalls;
}

/** A descriptor, or a negative errno. Always close-on-exec. Not tracked by Node: no thread's exit closes it. */
export function openFile(path: string, flags: number, mode = 0o600): number {
  for (;;) {
    const result = system().open(path, flags | O_CLOEXEC, mode);
    if (result !== -EINTR) return result;
  }
}

/** Never repeated after EINTR: Linux has freed the descriptor by then, and another thread may have got its number. */
export function closeFile(fd: number): Errno {
  const result = system().close(fd);
  return result < 0 && result !== -EINTR ? -result : 0;
}

/**
 * The file that `from` has open is what `to` has open from now on, at one instant: no call finds the number closed. What is under
 * way on the old one ends there. `from` stays open.
 */
export function replaceFile(from: number, to: number): Errno {
  for (;;) {
    const result = system().dup3(from, to, O_CLOEXEC);
    // EBUSY: the number is being opened elsewhere at this moment, which cannot be, as it is in use.
    if (result !== -EINTR) return result < 0 ? -result : 0;
  }
}

/** Fills the whole buffer; what lies past the end of the file reads as zeroes. */
export function readFully(fd: number, buffer: Uint8Array, offset: number): Errno {
  const calls = system();
  const first = calls.pread(fd, buffer, offset);
  if (first === buffer.length) return 0;
  let done = first;
  while (done !== buffer.length) {
    if (done < 0 && done !== -EINTR) return -done;
    done = Math.max(done, 0);
    const more = calls.pread(fd, buffer.subarray(done), offset + done);
    if (more === 0) {
      buffer.fill(0, done);
      return 0;
    }
    if (more < 0 && more !== -EINTR) return -more;
    done += Math.max(more, 0);
  }
  return 0;
}

/** Writes the whole buffer; a write that makes no progress is EIO. */
export function writeFully(fd: number, buffer: Uint8Array, offset: number): Errno {
  const calls = system();
  const first = calls.pwrite(fd, buffer, offset);
  if (first === buffer.length) return 0;
  if (first < 0 && first !== -EINTR) return -first;
  if (first === 0) return EIO;
  let done = Math.max(first, 0);
  while (done < buffer.length) {
    const more = calls.pwrite(fd, buffer.subarray(done), offset + done);
    if (more === 0) return EIO;
    if (more < 0 && more !== -EINTR) return -more;
    done += Math.max(more, 0);
  }
  return 0;
}

/**
 * Reads what the page cache has, without waiting for the device: bytes read (maybe fewer than asked, 0 at the end of
 * the file), -EAGAIN where nothing is cached, -EOPNOTSUPP where the file system does not know (tmpfs: always cached).
 */
export function readCached(fd: number, buffer: Uint8Array, offset: number): number {
  for (;;) {
    const result = system().preadNoWait(fd, buffer, offset);
    if (result !== -EINTR) return result;
  }
}

/** One call: bytes copied inside the kernel (0 at the source's end), or a negative errno (-EXDEV, -EOPNOTSUPP, ...). */
export function copyFileRange(
  fdIn: number,
  offsetIn: number,
  fdOut: number,
  offsetOut: number,
  length: number,
): number {
  for (;;) {
    const result = system().copyFileRange(fdIn, offsetIn, fdOut, offsetOut, length);
    if (result !== -EINTR) return result;
  }
}

/** `copyFileRange` until all of it is copied; EIO where the source ends before. */
export function copyFully(fdIn: number, offsetIn: number, fdOut: number, offsetOut: number, length: number): Errno {
  let done = 0;
  while (done < length) {
    const more = copyFileRange(fdIn, offsetIn + done, fdOut, offsetOut + done, length - done);
    if (more < 0) return -more;
    if (more === 0) return EIO;
    done += more;
  }
  return 0;
}

/** Room for a range, zeroed where it was a hole. Grows the file unless `FALLOC_KEEP_SIZE` is in `mode`. */
export function allocateRange(fd: number, offset: number, length: number, mode = 0): Errno {
  return loopErrno(() => system().fallocate(fd, mode, offset, length));
}

/** The range reads as zeroes and takes no room. The length of the file stays. */
export function punchHole(fd: number, offset: number, length: number): Errno {
  return allocateRange(fd, offset, length, FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE);
}

/** The range reads as zeroes and keeps its room. The length of the file stays. */
export function zeroRange(fd: number, offset: number, length: number): Errno {
  return allocateRange(fd, offset, length, FALLOC_ZERO_RANGE | FALLOC_KEEP_SIZE);
}

/** First byte of data at or after `offset`; -ENXIO where there is none up to the end, else a negative errno. */
export function seekData(fd: number, offset: number): number {
  return system().lseek(fd, offset, SEEK_DATA);
}

/** First byte of a hole at or after `offset` (the end of the file counts as one), or a negative errno. */
export function seekHole(fd: number, offset: number): number {
  return system().lseek(fd, offset, SEEK_HOLE);
}

/** Length of the file as of now, or a negative errno. */
export function seekEnd(fd: number): number {
  return system().lseek(fd, 0, SEEK_END);
}

export function syncData(fd: number): Errno {
  return loopErrno(() => system().fdatasync(fd));
}

export function truncateFile(fd: number, length: number): Errno {
  return loopErrno(() => system().ftruncate(fd, length));
}

export interface FileSystemFacts {
  /** `f_type` of statfs. */
  readonly type: number;
  readonly isTmpfs: boolean;
  /** What an unprivileged writer may still take. */
  readonly bytesAvailable: number;
  readonly bytesTotal: number;
}

/** The file system that holds an open file, or an errno. */
export function fileSystemOf(fd: number): FileSystemFacts | Errno {
  // struct statfs, 64-bit Linux: f_type, f_bsize, f_blocks, f_bfree, f_bavail, ... each 8 bytes; 120 in all.
  const words = new BigUint64Array(16);
  const result = system().fstatfs(fd, new Uint8Array(words.buffer));
  if (result < 0) return -result;
  const type = Number(words[0]);
  const blockSize = Number(words[1]);
  return {
    type,
    isTmpfs: type === TMPFS_MAGIC,
    bytesAvailable: Number(words[4]) * blockSize,
    bytesTotal: Number(words[2]) * blockSize,
  };
}

/** A shared lock on one byte, owned by the open file description. EAGAIN where somebody holds it exclusively. */
export function lockByteShared(fd: number, offset: number): Errno {
  return loopErrno(() => system().fcntl(fd, F_OFD_SETLK, lockRecord(F_RDLCK, offset)));
}

export function unlockByte(fd: number, offset: number): Errno {
  return loopErrno(() => system().fcntl(fd, F_OFD_SETLK, lockRecord(F_UNLCK, offset)));
}

/** 1 if somebody else holds any lock on this byte, 0 if not, or a negative errno. Our own locks do not count. */
export function byteLockedElsewhere(fd: number, offset: number): number {
  const record = lockRecord(F_WRLCK, offset);
  const result = system().fcntl(fd, F_OFD_GETLK, record);
  if (result < 0) return result;
  return new DataView(record.buffer).getInt16(0, true) === F_UNLCK ? 0 : 1;
}

/** struct flock: short type, short whence, 4 of padding, int64 start, int64 length, int pid (0), 4 of padding = 32. */
function lockRecord(type: number, offset: number): Uint8Array {
  const record = new Uint8Array(32);
  const fields = new DataView(record.buffer);
  fields.setInt16(0, type, true);
  fields.setBigInt64(8, BigInt(offset), true);
  fields.setBigInt64(16, 1n, true);
  return record;
}

/** Length of a block device in bytes, or a negative errno. */
export function deviceLength(fd: number): number {
  const record = new BigUint64Array(1);
  const result = system().ioctl(fd, BLKGETSIZE64, new Uint8Array(record.buffer));
  return result < 0 ? result : Number(record[0]);
}

/** Logical sector of a block device in bytes, or a negative errno. */
export function deviceSectorSize(fd: number): number {
  const record = new Int32Array(1);
  const result = system().ioctl(fd, BLKSSZGET, new Uint8Array(record.buffer));
  return result < 0 ? result : record[0];
}

/** Both must be multiples of the sector. The range may read as anything afterwards. */
export function discardDevice(fd: number, offset: number, length: number): Errno {
  return deviceRange(fd, BLKDISCARD, offset, length);
}

/** Both must be multiples of the sector. The range reads as zeroes afterwards. */
export function zeroDevice(fd: number, offset: number, length: number): Errno {
  return deviceRange(fd, BLKZEROOUT, offset, length);
}

function deviceRange(fd: number, request: number, offset: number, length: number): Errno {
  const record = new Uint8Array(BigUint64Array.of(BigInt(offset), BigInt(length)).buffer);
  return loopErrno(() => system().ioctl(fd, request, record));
}

/**
 * Ends the process now: no exit handler runs, nothing that is buffered is written, and no thread is waited for.
 * `process.exit` waits for threads, and one that sits in a system call of a device that hangs keeps it for ever; so this
 * is the last step of a stop. Without koffi the process ends by SIGKILL instead, and its status says so.
 *
 * @param code 0 to 255
 */
export function exitNow(code: number): never {
  system().exit(code);
  throw new Error("exit: the system did not end the process");
}

/** Whether an errno says "not here" rather than "it failed": the caller has another way. */
export function isUnsupported(errno: Errno): boolean {
  return errno === ENOSYS || errno === EOPNOTSUPP || errno === ENOTTY || errno === ENODEV;
}

function loopErrno(call: () => number): Errno {
  for (;;) {
    const result = call();
    if (result >= 0) return 0;
    if (result !== -EINTR) return -result;
  }
}
