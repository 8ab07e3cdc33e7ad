export { BitmapError, type BitmapErrorCode } from "./bitmap-error.ts";
export type { BitmapHandle } from "./handle.ts";
export type { Allocate, BitmapRegion } from "./memory.ts";
export type { BitmapExtent } from "./extent.ts";
export { GRANULARITY_MAX, GRANULARITY_MIN, GRANULES_MAX, LENGTH_MAX, REGION_GRANULES } from "./layout.ts";
export { SharedBitmap } from "./shared-bitmap.ts";
