/**
 * How bitmaps, views and tables are written down for other threads, as rows of numbers (see numbers.ts). The writer is
 * the main thread; a row is immutable once a thread can see it.
 */
import { SharedBitmap } from "@heirloom/bitmap";
import type { RegionReference } from "./arena.ts";
import type { ArenaLookup } from "./arena-map.ts";
import type { NumberReader, NumberWriter } from "./numbers.ts";

export interface BitmapDescriptor {
  readonly length: number;
  readonly granularity: number;
  readonly regions: readonly RegionReference[];
}

export function putBitmap(to: NumberWriter, bitmap: BitmapDescriptor): void {
  to.put(bitmap.length, bitmap.granularity, bitmap.regions.length);
  for (const region of bitmap.regions) to.put(region.arena, region.byteOffset);
}

export function getBitmap(from: NumberReader, arenas: ArenaLookup): SharedBitmap {
  const length = from.get();
  const granularity = from.get();
  const count = from.get();
  const regions = [];
  for (let index = 0; index < count; index++) {
    const arena = from.get();
    regions.push({ buffer: arenas.buffer(arena), byteOffset: from.get() });
  }
  return SharedBitmap.from({ length, granularity, regions });
}

export function getReference(from: NumberReader): RegionReference {
  const arena = from.get();
  return { arena, byteOffset: from.get() };
}
