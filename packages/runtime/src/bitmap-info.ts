/** What a query says of a bitmap. */
import type { BitmapState } from "./bitmap-memory.ts";
import { isBitmapBusy } from "./machines/bitmap-refusal.ts";
import type { BitmapInfo } from "./options.ts";

/** The heir of a frozen bitmap, which has no name; undefined where there is none. */
export function successorInfo(bitmap: BitmapState): BitmapInfo | undefined {
  const { successor, records } = bitmap.memory;
  if (successor === undefined) return undefined;
  return {
    name: "",
    count: successor.bitmap.count(),
    granularity: successor.bitmap.granularity,
    recording: records,
    busy: false,
    persistent: false,
    inconsistent: false,
    state: "successor",
  };
}

export function bitmapInfo(bitmap: BitmapState): BitmapInfo {
  const { actor, memory } = bitmap;
  const { context } = actor;
  return {
    name: bitmap.name,
    count: memory.bits.bitmap.count(),
    granularity: memory.bits.bitmap.granularity,
    recording: context.recording,
    busy: isBitmapBusy(actor.snapshot),
    persistent: context.persistent,
    inconsistent: actor.state === "inconsistent",
    state: actor.state,
  };
}
