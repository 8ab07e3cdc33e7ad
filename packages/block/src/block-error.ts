/**
 * What people get when a node cannot be opened, changed or used: one class with a stable `code`.
 *
 * Verbs on threads do not throw it, they return errno values. A class does not survive `postMessage`, so an error that
 * was raised on a helper thread travels as its `fields()` and is made again with `BlockError.from`.
 */
import type { Errno } from "./node.ts";
import { errnoName, errnoText } from "./errno.ts";

export type BlockErrorCode =
  /** No such driver; the message lists the known ones. */
  | "ERR_DRIVER_UNKNOWN"
  /** A driver module that cannot be loaded, or that does not keep to the interface. */
  | "ERR_DRIVER_INVALID"
  /** An option that is unknown, missing, of the wrong type or out of range; the message says what was expected. */
  | "ERR_NODE_OPTION"
  /** The system refused to open, create or measure what was named; `errno` says why. */
  | "ERR_NODE_OPEN"
  /** Another process, or this one, has the image open. */
  | "ERR_IMAGE_LOCKED"
  /** Needs a system call that is missing here (no koffi). */
  | "ERR_NOT_SUPPORTED"
  /** A request that no node would take: out of range, misaligned, or a change of a read-only node. */
  | "ERR_REQUEST"
  /** A request that failed below; `errno` says why. */
  | "ERR_IO";

export interface BlockErrorDetails {
  /** File name or driver of the node that it is about. */
  readonly node?: string | undefined;
  /** Byte offset of the request. */
  readonly offset?: number | undefined;
  readonly errno?: Errno | undefined;
  readonly cause?: unknown;
}

/** The part of a `BlockError` that can be posted to another thread. */
export interface BlockErrorFields {
  readonly code: BlockErrorCode;
  readonly message: string;
  readonly node?: string | undefined;
  readonly offset?: number | undefined;
  readonly errno?: Errno | undefined;
}

/**
 * @example
 * try { await openNode({ driver: "file", filename: "/images/a.raw" }); }
 * catch (error) { if (error instanceof BlockError && error.code === "ERR_IMAGE_LOCKED") ... }
 */
export class BlockError extends Error {
  readonly code: BlockErrorCode;
  readonly node: string | undefined;
  readonly offset: number | undefined;
  readonly errno: Errno | undefined;

  constructor(code: BlockErrorCode, message: string, details: BlockErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = "BlockError";
    this.code = code;
    this.node = details.node;
    this.offset = details.offset;
    this.errno = details.errno;
  }

  /** From the errno of a system call: "open file '/a': Permission denied (EACCES)". */
  static system(code: BlockErrorCode, operation: string, errno: Errno, details: BlockErrorDetails = {}): BlockError {
    return new BlockError(code, `${operation}: ${errnoText(errno)} (${errnoName(errno)})`, { ...details, errno });
  }

  /** What of it can be posted. */
  fields(): BlockErrorFields {
    return { code: this.code, message: this.message, node: this.node, offset: this.offset, errno: this.errno };
  }

  static from(fields: BlockErrorFields): BlockError {
    return new BlockError(fields.code, fields.message, fields);
  }
}
