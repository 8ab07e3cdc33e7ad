/**
 * The verbs of an open file or block device on one thread.
 *
 * - Byte-exact: zeroes and holes start and end where they were asked to, whatever the file system's blocks are.
 * - `status` says zero only for what the kernel calls a hole; a file system that knows none answers "data".
 * - What the kernel does not support is remembered per thread and done the long way.
 */
import { EAGAIN, ENOSYS, ENOTSUP, ENXIO, EPERM } from "../errno.ts";
import * as libc from "../libc.ts";
import type { BlockNode, DirectFile, Errno, NodeHandle, StatusExtent } from "../node.ts";
import { loadSharedInteger, SHARED_INTEGER_WORDS, storeSharedInteger } from "../shared-integer.ts";
import { zeroes, ZEROES_LENGTH } from "../zero-test.ts";

export interface FileState {
  readonly fd: number;
  readonly filename: string;
  /** Locked from the beginning to the end, as it is used. */
  readonly locked: boolean;
  /** 0 for a regular file; else what offsets and lengths of a device's discards are rounded to. */
  readonly deviceUnit: number;
  /** Discards give room back. */
  readonly discard: boolean;
  /** The length (shared-integer.ts), then the words below. */
  readonly shared: SharedArrayBuffer;
}

/** 1: it is closed, and its number may be somebody else's. */
export const CLOSED_WORD: number = SHARED_INTEGER_WORDS;
/** 1: it can only be read. It may change while threads have the file. */
export const READ_ONLY_WORD: number = SHARED_INTEGER_WORDS + 1;
export const SHARED_WORDS: number = SHARED_INTEGER_WORDS + 2;

export class FileNode implements BlockNode {
  readonly direct: DirectFile;
  readonly #fd: number;
  readonly #state: FileState;
  readonly #words: Int32Array;
  #punchUnsupported = false;
  #zeroRangeUnsupported = false;
  #seekUnsupported = false;
  #readNowUnsupported = false;
  /** The last run of data that SEEK_HOLE found, from where the last question was: see `status`. */
  #dataFrom = 0;
  #dataEnd = 0;

  constructor(handle: NodeHandle) {
    this.#state = handle.state as FileState;
    this.#fd = this.#state.fd;
    this.#words = new Int32Array(this.#state.shared);
    this.direct = { fd: this.#fd, shift: 0 };
  }

  length(): number {
    return loadSharedInteger(this.#words, 0);
  }

  read(buffer: Uint8Array, offset: number): Errno {
    return libc.readFully(this.#fd, buffer, offset);
  }

  readNow(buffer: Uint8Array, offset: number): Errno {
    if (!this.#readNowUnsupported) {
      const result = libc.readCached(this.#fd, buffer, offset);
      if (result === buffer.length) return 0;
      if (result >= 0) return EAGAIN; // a part of it; or the end of a file that is being cut
      if (result !== -ENOTSUP && result !== -ENOSYS) return -result;
      this.#readNowUnsupported = true; // a tmpfs, whose files are at hand always
    }
    return this.read(buffer, offset);
  }

  write(buffer: Uint8Array, offset: number): Errno {
    return libc.writeFully(this.#fd, buffer, offset);
  }

  discard(offset: number, length: number): Errno {
    if (!this.#state.discard || length === 0) return 0;
    this.#dataEnd = 0;
    const unit = this.#state.deviceUnit;
    if (unit === 0) return this.#advisory(this.#punch(offset, length));
    // A device: only whole units inside the range, as a discard is advice.
    const start = Math.ceil(offset / unit) * unit;
    const end = Math.floor((offset + length) / unit) * unit;
    return end > start ? this.#advisory(libc.discardDevice(this.#fd, start, end - start)) : 0;
  }

  writeZeroes(offset: number, length: number, unmap: boolean): Errno {
    if (length === 0) return 0;
    this.#dataEnd = 0;
    const unit = this.#state.deviceUnit;
    if (unit === 0) return this.#zero(offset, length, unmap);
    const start = Math.min(Math.ceil(offset / unit) * unit, offset + length);
    const end = Math.max(Math.floor((offset + length) / unit) * unit, start);
    return (
      this.#writeZeroBytes(offset, start - offset) ||
      (end > start ? this.#zero(start, end - start, unmap) : 0) ||
      this.#writeZeroBytes(end, offset + length - end)
    );
  }

  writeZeroesFast(offset: number, length: number, unmap: boolean): Errno {
    if (this.#state.deviceUnit !== 0) return ENOTSUP; // a device that has no command for it is written by the kernel
    this.#dataEnd = 0;
    return length === 0 ? 0 : this.#zeroFast(offset, length, unmap);
  }

  flush(): Errno {
    return this.#readOnly ? 0 : libc.syncData(this.#fd);
  }

  status(offset: number, length: number, extent: StatusExtent): Errno {
    extent.length = length;
    extent.zero = false;
    extent.allocated = true;
    if (this.#state.deviceUnit !== 0 || this.#seekUnsupported) return 0;
    // On tmpfs SEEK_HOLE walks every page up to the hole: a scan that asked again for each piece of one long run would
    // take quadratic time. So a run is kept while questions go forward in it. What was punched in it meanwhile by
    // another thread is called data until a question does not go forward; never the other way round, as holes are not kept.
    if (offset > this.#dataFrom && offset < this.#dataEnd) {
      this.#dataFrom = offset;
      extent.length = Math.min(length, this.#dataEnd - offset);
      return 0;
    }
    const data = libc.seekData(this.#fd, offset);
    if (data === -ENXIO || data > offset) {
      // A hole up to the next data; past the last data up to the end of the node.
      extent.zero = true;
      extent.allocated = false;
      if (data > offset) extent.length = Math.min(length, data - offset);
      return 0;
    }
    if (data < 0) {
      this.#seekUnsupported = true;
      return 0;
    }
    const hole = libc.seekHole(this.#fd, offset);
    // Not past the offset: somebody punched here between the two calls. "Data" is then still a true answer.
    if (hole > offset) {
      this.#dataFrom = offset;
      this.#dataEnd = hole;
      extent.length = Math.min(length, hole - offset);
    }
    return 0;
  }

  zeroesFrom(offset: number, length: number): number {
    if (this.#state.deviceUnit !== 0 || this.#seekUnsupported) return 0;
    const data = libc.seekData(this.#fd, offset);
    return data === -ENXIO ? length : Math.max(0, Math.min(length, data - offset));
  }

  resize(length: number): Errno {
    if (this.#readOnly) return EPERM;
    if (this.#state.deviceUnit !== 0) return ENOTSUP;
    this.#dataEnd = 0;
    const before = this.length();
    // Other threads hear of a shorter length before the bytes go, and of a longer one after they are there.
    if (length < before) storeSharedInteger(this.#words, 0, length);
    const errno = libc.truncateFile(this.#fd, length);
    storeSharedInteger(this.#words, 0, errno === 0 ? length : before);
    return errno;
  }

  admit(): number {
    return 0;
  }

  get #readOnly(): boolean {
    return Atomics.load(this.#words, READ_ONLY_WORD) === 1;
  }

  #advisory(errno: Errno): Errno {
    return libc.isUnsupported(errno) ? 0 : errno;
  }

  /** ENOTSUP where holes cannot be punched here. */
  #punch(offset: number, length: number): Errno {
    if (this.#punchUnsupported) return ENOTSUP;
    const errno = libc.punchHole(this.#fd, offset, length);
    if (!libc.isUnsupported(errno)) return errno;
    this.#punchUnsupported = true;
    return ENOTSUP;
  }

  #zero(offset: number, length: number, unmap: boolean): Errno {
    const errno = this.#zeroFast(offset, length, unmap);
    return errno === ENOTSUP ? this.#writeZeroBytes(offset, length) : errno;
  }

  /** ENOTSUP where the bytes would have to be written. */
  #zeroFast(offset: number, length: number, unmap: boolean): Errno {
    if (unmap && !this.#punchUnsupported) {
      const errno = this.#punch(offset, length);
      if (errno !== ENOTSUP) return errno;
    }
    if (!this.#zeroRangeUnsupported) {
      const errno = libc.zeroRange(this.#fd, offset, length);
      if (!libc.isUnsupported(errno)) return errno;
      this.#zeroRangeUnsupported = true;
    }
    return ENOTSUP;
  }

  #writeZeroBytes(offset: number, length: number): Errno {
    for (let done = 0; done < length;) {
      const count = Math.min(length - done, ZEROES_LENGTH);
      const errno = libc.writeFully(this.#fd, zeroes(count), offset + done);
      if (errno !== 0) return errno;
      done += count;
    }
    return 0;
  }
}
