import type { BitmapRegion } from "./memory.ts";

/** All that another thread needs to attach to a bitmap: can be posted, and costs no copy of the bits. */
export interface BitmapHandle {
  /** Bytes of the disk. */
  readonly length: number;
  /** Bytes of the disk that one bit stands for. */
  readonly granularity: number;
  readonly regions: readonly BitmapRegion[];
}
