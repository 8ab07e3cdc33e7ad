/**
 * A request from when it is made until its reply is whole: what was asked, where the answer goes, and what of it has
 * come. The reader of replies (reply-reader.ts) fills it in; it belongs to one connection at a time.
 */
import type { Errno } from "@heirloom/block";
import type { SelectedContext } from "../server/export-offer.ts";
import { CMD_BLOCK_STATUS, CMD_READ } from "../protocol/constants.ts";

export class PendingRequest {
  readonly type: number;
  readonly flags: number;
  readonly offset: number;
  /** Bytes of the export that it is about. */
  readonly length: number;
  /** What a read fills and a write sends; `length` bytes. */
  buffer: Uint8Array | undefined;
  /** Set while the socket has not taken all of it: called when it has, and the buffer is the caller's again. */
  sent: (() => void) | undefined = undefined;

  // The answer.

  /** The first error that the server told; 0: none so far. */
  errno: Errno = 0;
  /** The server's words to it. */
  errorText = "";
  chunks = 0;
  /** Of a read: the parts of the range that have come, as [start, end) pairs in order, with gaps between them. */
  filled: number[] = [];
  /** Content chunks of a read. */
  contents = 0;
  /** Of a block status request: by the context's number, lengths and status flags in turn, from `offset` on. */
  readonly extents: Map<number, number[]> = new Map();
  extentCount = 0;
  /** The contexts of the connection that answered: their numbers are its own. */
  contexts: readonly SelectedContext[] = [];

  constructor(type: number, flags: number, offset: number, length: number, buffer?: Uint8Array) {
    this.type = type;
    this.flags = flags;
    this.offset = offset;
    this.length = length;
    this.buffer = buffer;
  }

  /** Forgets what has come, before it is sent again on another connection. */
  reset(): void {
    this.errno = 0;
    this.errorText = "";
    this.chunks = 0;
    this.filled = [];
    this.contents = 0;
    this.extents.clear();
    this.extentCount = 0;
  }

  /** Whether all that a reply without an error must bring is there. */
  isAnswered(contexts: readonly { readonly id: number }[]): boolean {
    if (this.type === CMD_READ) {
      const { filled, length } = this;
      return filled.length === 2 && filled[0] === 0 && filled[1] === length;
    }
    return this.type !== CMD_BLOCK_STATUS || contexts.every(({ id }) => this.extents.has(id));
  }

  /**
   * Notes that bytes [start, end) of a read came, counted from its own start.
   * @returns false where one of them has come before, or where there are more than `runsMax` separate parts
   */
  fill(start: number, end: number, runsMax: number): boolean {
    const { filled } = this;
    const last = filled.length - 1;
    // Nearly always in order.
    if (last > 0 && filled[last] === start) {
      filled[last] = end;
      return true;
    }
    if (last < 0 || start > filled[last]) {
      filled.push(start, end);
      return filled.length <= 2 * runsMax;
    }
    // The first run that ends after the start; it must begin at the end or later.
    let low = 0;
    for (let high = filled.length / 2; low < high;) {
      const middle = (low + high) >>> 1;
      if (filled[2 * middle + 1] > start) high = middle;
      else low = middle + 1;
    }
    if (filled[2 * low] < end) return false;
    const joinsBefore = low > 0 && filled[2 * low - 1] === start;
    const joinsAfter = filled[2 * low] === end;
    if (joinsBefore && joinsAfter) filled.splice(2 * low - 1, 2);
    else if (joinsBefore) filled[2 * low - 1] = end;
    else if (joinsAfter) filled[2 * low] = start;
    else filled.splice(2 * low, 0, start, end);
    return filled.length <= 2 * runsMax;
  }
}
