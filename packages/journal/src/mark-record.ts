/** The marks as they stand in the file: numbers of the regions that are not settled, in ascending order. */
import { frameBytes, marksCountAt, marksListAt, marksMagic, marksMax, marksSlotBytes } from "./layout.ts";
import { type Frame, seal, viewOf } from "./record.ts";

/** Fills `record`, a whole slot. */
export function encodeMarks(record: Uint8Array, regions: readonly number[], tag: number, sequence: number): void {
  if (regions.length > marksMax) throw new Error(`journal: ${regions.length} marks do not fit a slot`);
  record.fill(0);
  const view = viewOf(record);
  view.setUint32(marksCountAt, regions.length, true);
  for (const [index, region] of regions.entries()) view.setUint32(marksListAt + 4 * index, region, true);
  seal(record, { magic: marksMagic, tag, sequence, length: marksListAt + 4 * regions.length });
}

/** undefined where the list does not fit the record. */
export function decodeMarks(record: Uint8Array, frame: Frame): number[] | undefined {
  const view = viewOf(record);
  const count = view.getUint32(marksCountAt, true);
  if (frame.length !== marksListAt + 4 * count || frame.length < frameBytes || frame.length > marksSlotBytes)
    return undefined;
  return Array.from({ length: count }, (_, index) => view.getUint32(marksListAt + 4 * index, true));
}
