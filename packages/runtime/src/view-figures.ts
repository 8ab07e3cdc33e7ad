/** How much of a point in time can be read, and how much of it guests have overwritten. */
import type { EngineView } from "@heirloom/engine";

export interface ViewFigures {
  /** Bytes of a unit in which is counted: the job's cluster. */
  readonly unit: number;
  /** Bytes that can be read, in whole units. */
  readonly readable: number;
  /** Bytes whose old data is kept, in whole units that hold any. */
  readonly kept: number;
  /** Bytes whose old data is still to be kept or copied. */
  readonly left: number;
}

export function viewFigures({ memory }: EngineView): ViewFigures {
  const { view } = memory;
  const perUnit = view.setUnit / view.clusterSize;
  const inSet = view.set === undefined ? Math.ceil(view.clusters / perUnit) : unitsOf(view.set.extents(), view.setUnit);
  const readable = inSet - unitsWithAny(view.retired, perUnit);
  const kept = unitsWithAny(view.preserved, perUnit);
  const left = Math.max(0, readable - kept);
  return {
    unit: view.setUnit,
    readable: readable * view.setUnit,
    kept: kept * view.setUnit,
    left: left * view.setUnit,
  };
}

/** Most words are 0, and cost a load. */
function unitsWithAny(bits: Int32Array, perUnit: number): number {
  let count = 0;
  let last = -1;
  for (let word = 0; word < bits.length; word++) {
    for (let left = bits[word]; left !== 0; left &= left - 1) {
      const unit = Math.floor((word * 32 + 31 - Math.clz32(left & -left)) / perUnit);
      if (unit !== last) count++;
      last = unit;
    }
  }
  return count;
}

function unitsOf(extents: Iterable<{ readonly offset: number; readonly length: number }>, unit: number): number {
  let count = 0;
  let counted = 0; // units below this are counted: extents may share one
  for (const { offset, length } of extents) {
    const first = Math.max(counted, Math.floor(offset / unit));
    const end = Math.ceil((offset + length) / unit);
    count += Math.max(0, end - first);
    counted = Math.max(counted, end);
  }
  return count;
}
