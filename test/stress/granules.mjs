/**
 * What a bitmap may say: for each granule surely clean (0), unknown (1) or surely dirty (2). Unknown is what a request leaves
 * that ran across a command: nobody can know on which side it was.
 */

export const clean = 0;
export const unknown = 1;
export const dirty = 2;

/** @param {number} length bytes @param {number} granularity */
export function granuleCount(length, granularity) {
  return Math.ceil(length / granularity);
}

/** A bitmap's serialized bits, a byte a granule. @param {Uint8Array} bits @param {number} count */
export function fromBits(bits, count) {
  const granules = new Uint8Array(count);
  for (let at = 0; at < count; at++) if ((bits[at >>> 3] & (1 << (at & 7))) !== 0) granules[at] = dirty;
  return granules;
}

/** @param {Uint8Array} granules @param {number} granularity @param {number} offset @param {number} length @param {number} value */
export function mark(granules, granularity, offset, length, value) {
  const last = Math.min(granules.length - 1, Math.floor((offset + length - 1) / granularity));
  for (let at = Math.floor(offset / granularity); at <= last; at++) if (granules[at] < value) granules[at] = value;
}

/** The larger of both, granule by granule. @param {Uint8Array} into @param {Uint8Array} from */
export function join(into, from) {
  for (let at = 0; at < into.length; at++) if (from[at] > into[at]) into[at] = from[at];
}

/** Joins across granularities: each source granule marks what it covers. @param {Uint8Array} into @param {number} intoSize @param {Uint8Array} from @param {number} fromSize @param {number} length */
export function joinAcross(into, intoSize, from, fromSize, length) {
  for (let at = 0; at < from.length; at++) {
    if (from[at] === clean) continue;
    const offset = at * fromSize;
    mark(into, intoSize, offset, Math.min(fromSize, length - offset), from[at]);
  }
}

/**
 * @param {Uint8Array} may @param {Uint8Array} actual clean or dirty
 * @returns {{ granule: number, says: "clean" | "dirty" } | undefined} the first that cannot be
 */
export function firstWrong(may, actual) {
  for (let at = 0; at < may.length; at++) {
    if (actual[at] === dirty && may[at] === clean) return { granule: at, says: "dirty" };
    if (actual[at] === clean && may[at] === dirty) return { granule: at, says: "clean" };
  }
  return undefined;
}
