/** What contexts say of a range, as descriptors: pairs of length and status, 32 bits each, or 64 with extended headers. */
import type { SharedBitmap } from "@heirloom/bitmap";
import { EINVAL, type Errno, type StatusExtent } from "@heirloom/block";
import { STATE_DIRTY, STATE_HOLE, STATE_ZERO } from "../protocol/constants.ts";
import type { Context } from "./exported.ts";

const LENGTH_32_MAX = 2 ** 32 - 1;
const extent: StatusExtent = { length: 0, zero: false, allocated: false };

/** Who knows what is zeroes and what takes room. */
export interface StatusSource {
  status(offset: number, length: number, extent: StatusExtent): Errno;
}

/** Collects descriptors; neighbours that say the same are one. */
export class Descriptors {
  readonly #view: DataView;
  readonly #start: number;
  readonly #wide: boolean;
  readonly #max: number;
  /** How many there are. */
  count = 0;
  #length = 0;
  #status = -1;

  /** @param start where they go in `view` @param wide of 64 bits @param max how many at most */
  constructor(view: DataView, start: number, wide: boolean, max: number) {
    this.#view = view;
    this.#start = start;
    this.#wide = wide;
    this.#max = max;
  }

  static bytes(count: number, wide: boolean): number {
    return count * (wide ? 16 : 8);
  }

  /** @returns false if there is no room for it */
  add(length: number, status: number): boolean {
    // A descriptor of 32 bits cannot say more; the client asks for the rest.
    const joined = this.#length + length;
    if (status === this.#status && (this.#wide || joined <= LENGTH_32_MAX)) {
      this.#length = joined;
      this.#store(this.count - 1);
      return true;
    }
    if (this.count === this.#max) return false;
    this.#length = this.#wide ? length : Math.min(length, LENGTH_32_MAX);
    this.#status = status;
    this.#store(this.count++);
    return this.#length === length;
  }

  #store(index: number): void {
    if (!this.#wide) {
      this.#view.setUint32(this.#start + index * 8, this.#length);
      this.#view.setUint32(this.#start + index * 8 + 4, this.#status);
      return;
    }
    const at = this.#start + index * 16;
    this.#view.setUint32(at, Math.floor(this.#length / 2 ** 32));
    this.#view.setUint32(at + 4, this.#length >>> 0);
    this.#view.setUint32(at + 8, 0);
    this.#view.setUint32(at + 12, this.#status);
  }
}

/** Describes as much of the range as there is room for; at least one extent of at least one byte. */
export function describe(
  source: StatusSource,
  context: Context,
  offset: number,
  length: number,
  descriptors: Descriptors,
): Errno {
  return context.kind === "bitmap"
    ? describeBitmap(context.bitmap, offset, length, descriptors)
    : describeAllocation(source, context.kind, offset, length, descriptors);
}

function describeAllocation(
  source: StatusSource,
  kind: "allocation" | "depth",
  offset: number,
  length: number,
  descriptors: Descriptors,
): Errno {
  const end = offset + length;
  for (let at = offset; at < end; at += extent.length) {
    const errno = source.status(at, end - at, extent);
    if (errno !== 0) return errno;
    const allocation = (extent.zero ? STATE_ZERO : 0) | (extent.allocated ? 0 : STATE_HOLE);
    const status = kind === "allocation" ? allocation : extent.allocated ? 1 : 0;
    if (!descriptors.add(extent.length, status)) break;
  }
  return 0;
}

function describeBitmap(bitmap: SharedBitmap, offset: number, length: number, descriptors: Descriptors): Errno {
  const end = Math.min(offset + length, bitmap.length);
  if (end <= offset) return EINVAL; // grown since the bitmap was exported
  for (let at = offset; at < end;) {
    const dirty = bitmap.nextDirty(at);
    const from = dirty === -1 ? end : Math.min(dirty, end);
    if (from > at && !descriptors.add(from - at, 0)) break;
    if (from === end) break;
    const to = Math.min(bitmap.nextClean(from), end);
    if (!descriptors.add(to - from, STATE_DIRTY)) break;
    at = to;
  }
  return 0;
}
