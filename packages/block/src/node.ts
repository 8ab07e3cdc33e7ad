/**
 * What a disk is to everything above it: a node with one small set of verbs.
 *
 * A node lives on one thread. The same disk on another thread is another `BlockNode`, connected from the same
 * `NodeHandle`; what they must share (a hang's switch, a throttle's bucket) lies in shared memory in the handle.
 * Verbs are synchronous and return an errno (0 is success): they run in straight-line code on worker threads, where
 * nothing is thrown across. No verb keeps its buffer after it returned. Requests were checked by whoever accepted them
 * (range, alignment, `readOnly`): a driver does not check again.
 */

import type { ImageUse } from "./image-lock.ts";
import type { OptionTable } from "./options.ts";

/** A positive Linux errno, or 0 for success. */
export type Errno = number;

/** What a guest or a job asks of a node; the names that fault rules and throttles match. */
export type RequestKind = "read" | "write" | "discard" | "write-zeroes" | "flush" | "status";

/** Answer of `status`: filled in by the callee, so that the caller can use one object for ever. */
export interface StatusExtent {
  /** Bytes from the asked offset on that share one answer; at least 1, at most what was asked. */
  length: number;
  /** Reads as zeroes without being read. May be false for zeroes that nobody knows of, never true for data. */
  zero: boolean;
  /** Takes room in this layer (`sync=top` copies what is allocated). */
  allocated: boolean;
}

export interface BlockNode {
  /** Virtual length in bytes, as of now. */
  length(): number;
  /** Fills `buffer` from `offset`. */
  read(buffer: Uint8Array, offset: number): Errno;
  /** Writes all of `buffer` at `offset`. */
  write(buffer: Uint8Array, offset: number): Errno;
  /** The range may read as anything, preferably zeroes, afterwards, and its room is given back where possible. */
  discard(offset: number, length: number): Errno;
  /** The range reads as zeroes afterwards; `unmap` allows to give its room back. */
  writeZeroes(offset: number, length: number, unmap: boolean): Errno;
  /**
   * `read` of what is at hand; EAGAIN where it would have to wait for a device. A node without it may wait for anything in
   * any of its verbs (a network, a rule that hangs): who must not wait lets another thread call them.
   */
  readonly readNow?: ((buffer: Uint8Array, offset: number) => Errno) | undefined;
  /** `writeZeroes` that answers ENOTSUP where it would have to write zeroes. A node without it can promise nothing. */
  readonly writeZeroesFast?: ((offset: number, length: number, unmap: boolean) => Errno) | undefined;
  /** Of a node that injects faults: what the node above it is about to do. Others have none, and nobody need call it. */
  readonly announce?: ((event: "read_aio" | "write_aio" | "flush_to_os" | "flush_to_disk") => void) | undefined;
  /** Everything written before is on stable storage after it returned 0. */
  flush(): Errno;
  /** Allocation from `offset` on; looks at most `length` bytes far. */
  status(offset: number, length: number, extent: StatusExtent): Errno;
  /**
   * For how many bytes from `offset` on, at most `length`, the node is known to read as zeroes; 0 where it is not. Costs
   * little, unlike `status`, which may look far for the end of the data.
   */
  readonly zeroesFrom?: ((offset: number, length: number) => number) | undefined;
  /** Changes the virtual length; what is grown reads as zeroes. */
  resize(length: number): Errno;
  /**
   * Milliseconds that the caller should wait before it sends this request (0: go ahead, and it is charged). A throttle
   * answers here, so that a guest can wait outside of its gate.
   */
  admit(kind: RequestKind, length: number): number;
  /** Where a range of this node is a range of a plain file: for copy_file_range. `undefined` otherwise. */
  readonly direct: DirectFile | undefined;
}

/** A node whose bytes are bytes of an open file: node offset `o` is file offset `o + shift`. */
export interface DirectFile {
  readonly fd: number;
  readonly shift: number;
}

/** What `openNode` returns: can be posted to threads, which `connectNode` it. Holds descriptors until `closeNode`. */
export interface NodeHandle {
  /** Name of a built-in driver, or the file URL of a driver module. */
  readonly driver: string;
  /** What it was when it was posted: a node may be reopened. */
  readonly readOnly: boolean;
  /** Offsets and lengths of requests must be multiples of it: 1 where any byte can be addressed. */
  readonly alignment: number;
  /** Largest cluster that the format under it allocates at once; 0 where there is none (a raw file). */
  readonly clusterSize: number;
  /** Identifies what is written below, for "source and target are the same": equal strings are the same storage. */
  readonly identity: string;
  /** The driver's own, structured-cloneable (shared buffers included). */
  readonly state: unknown;
  readonly children: readonly NodeHandle[];
}

/**
 * A driver: a module whose `driver` export is this. Built-in ones are named; any other is given by file URL as the
 * `driver` of a node's specification, with the rest of the specification as its options.
 */
export interface Driver {
  /** The options that it takes. Where given they are checked, and defaults filled in, before `open` sees them. */
  readonly options?: OptionTable;
  /** Opens on a helper thread (may block). Throws a `BlockError` that names what was expected. */
  open(options: Record<string, unknown>, context: OpenContext): NodeHandle;
  /** Makes the verbs on this thread; must not block. */
  connect(handle: NodeHandle, context: ConnectContext): BlockNode;
  /**
   * From now on the node can be written, or not. Threads that have it connected go on. Called on a helper thread (may block),
   * one at a time. A driver without it cannot. @param use what a file that is locked when it is used is locked for now
   * @throws BlockError; then it is as it was
   */
  reopen?(handle: NodeHandle, readOnly: boolean, use: ImageUse): void;
  /** Gives back descriptors and locks; called once, on a helper thread, when no thread uses the node any more. */
  close(handle: NodeHandle, context: CloseContext): void;
}

export interface OpenContext extends ConnectContext {
  /** Opens a child given in the options (`file`). Whoever opened it must close it if it fails afterwards. */
  open(spec: NodeSpec): NodeHandle;
  close(handle: NodeHandle): void;
}
export interface ConnectContext {
  connect(handle: NodeHandle): BlockNode;
}
export interface CloseContext {
  close(handle: NodeHandle): void;
}

/** A node's specification: the name of its driver, and the options that this one takes (for the built-in ones the README has them). */
export interface NodeSpec {
  readonly driver: string;
  readonly [option: string]: unknown;
}
