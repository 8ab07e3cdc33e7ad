/** The reply to block status: a chunk for each context. */
import type { Errno } from "@heirloom/block";
import { describe, Descriptors, type StatusSource } from "./block-status.ts";
import type { Context } from "./exported.ts";
import { EXTENTS_MAX, OUTPUT_BYTES } from "./limits.ts";
import type { PostedConnection } from "./messages.ts";
import * as replies from "./replies.ts";
import type { Answered } from "./replies.ts";

/** A descriptor of 64 bits. */
const DESCRIPTOR_BYTES = 16;

/**
 * Writes it from `start` on, where OUTPUT_BYTES are free.
 * @param one a single extent for each context
 * @returns where it ends, or a negative errno
 */
export function statusReply(
  source: StatusSource,
  contextsOfExport: readonly Context[],
  contexts: PostedConnection["contexts"],
  to: Answered,
  extended: boolean,
  one: boolean,
  offset: number,
  length: number,
  view: DataView,
  start: number,
): number {
  const room = OUTPUT_BYTES / contexts.length - replies.statusHeaderBytes(extended);
  const max = one ? 1 : Math.max(1, Math.min(EXTENTS_MAX, Math.floor(room / DESCRIPTOR_BYTES)));
  let at = start;
  for (const [position, { id, index }] of contexts.entries()) {
    const body = at + replies.statusHeaderBytes(extended);
    const descriptors = new Descriptors(view, body, extended, max);
    const errno: Errno = describe(source, contextsOfExport[index], offset, length, descriptors);
    if (errno !== 0) return -errno;
    const last = position === contexts.length - 1;
    replies.putStatus(view, at, to, extended, last, id, descriptors.count);
    at = body + Descriptors.bytes(descriptors.count, extended);
  }
  return at;
}
