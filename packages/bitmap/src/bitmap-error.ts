/**
 * The one error class of this package. The code is stable and says what the caller may do next; the message starts
 * with the operation and says what was expected. Whatever is refused has changed nothing.
 */

export type BitmapErrorCode =
  /** Length is no whole number of bytes from 0 to 2^53. */
  | "invalid-length"
  /** Granularity is no power of two from 512 to 2^31. */
  | "invalid-granularity"
  /** More than 2^37 granules: the message and `smallestGranularity` name one that fits. */
  | "too-many-granules"
  /** A range that does not lie inside the bitmap. */
  | "out-of-range"
  /** A clear that would say "clean" of a granule that it covers only in part. */
  | "unaligned"
  /** Two bitmaps of disks of different length. */
  | "length-mismatch"
  /** Regions that do not hold this bitmap: wrong number, size, alignment or kind, or not zeroed. */
  | "invalid-region"
  /** Serialized bits of the wrong size, or with bits past the end of the disk. */
  | "invalid-bits"
  /** The process cannot have that much memory. */
  | "out-of-memory";

export class BitmapError extends Error {
  override readonly name = "BitmapError";
  readonly code: BitmapErrorCode;
  /** With `too-many-granules`: the smallest granularity, in bytes, that this length can have. */
  readonly smallestGranularity: number | undefined;

  constructor(code: BitmapErrorCode, message: string, options: { cause?: unknown; smallestGranularity?: number } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.smallestGranularity = options.smallestGranularity;
  }
}
