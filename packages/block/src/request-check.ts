/**
 * The one boundary where a request is checked, before it reaches any driver: drivers do not check again.
 *
 * There is no largest length; whoever accepts a request splits it. A length of 0 passes: the caller answers success
 * without a node.
 */
import { BlockError } from "./block-error.ts";
import { EINVAL, EPERM } from "./errno.ts";
import type { Errno, RequestKind } from "./node.ts";

/** What a request is held against. `length` is the node's as of now. */
export interface RequestLimits {
  readonly length: number;
  /** Offsets and lengths must be multiples of it. */
  readonly alignment: number;
  readonly readOnly: boolean;
}

/** Whether a request changes the disk. */
export function isChange(kind: RequestKind): boolean {
  return kind === "write" || kind === "discard" || kind === "write-zeroes";
}

/**
 * 0, or why it is refused: EPERM for a change of a read-only node, EINVAL for a range that is no range of this node or
 * is not aligned. A flush has no range.
 */
export function checkRequest(limits: RequestLimits, kind: RequestKind, offset: number, length: number): Errno {
  if (limits.readOnly && isChange(kind)) return EPERM;
  if (kind === "flush") return 0;
  if (!Number.isSafeInteger(offset) || !Number.isSafeInteger(length) || offset < 0 || length < 0) return EINVAL;
  // Written so that no sum can pass 2^53 and round.
  if (offset > limits.length || length > limits.length - offset) return EINVAL;
  if (limits.alignment > 1 && (offset % limits.alignment !== 0 || length % limits.alignment !== 0)) return EINVAL;
  return 0;
}

/**
 * The same check for people.
 *
 * @throws BlockError ERR_REQUEST that says which rule was broken, with `offset` and `errno`.
 */
export function assertRequest(
  limits: RequestLimits,
  kind: RequestKind,
  offset: number,
  length: number,
  node?: string,
): void {
  const errno = checkRequest(limits, kind, offset, length);
  if (errno === 0) return;
  const reason = refusal(limits, errno, offset, length);
  throw new BlockError("ERR_REQUEST", `${kind}${node === undefined ? "" : ` on '${node}'`}: ${reason}`, {
    node,
    offset,
    errno,
  });
}

function refusal(limits: RequestLimits, errno: Errno, offset: number, length: number): string {
  if (errno === EPERM) return "the node is read-only";
  if (!Number.isSafeInteger(offset) || offset < 0) return `offset must be an integer from 0 to 2^53-1, not ${offset}`;
  if (!Number.isSafeInteger(length) || length < 0) return `length must be an integer from 0 to 2^53-1, not ${length}`;
  if (offset > limits.length || length > limits.length - offset) {
    return `offset ${offset} and length ${length} reach past the end of the node, which is ${limits.length} bytes long`;
  }
  return `offset ${offset} and length ${length} must be multiples of ${limits.alignment}`;
}
