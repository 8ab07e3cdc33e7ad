// Numbers from samples: medians, percentiles, and a histogram of latencies that a thread fills without allocating.

/** @param {readonly number[]} samples @param {number} share of the samples that are not above the answer, 0 to 1 */
export function percentile(samples, share) {
  if (samples.length === 0) return Number.NaN;
  const sorted = Float64Array.from(samples).sort();
  return sorted[Math.min(sorted.length - 1, Math.ceil(sorted.length * share) - 1)];
}

/** @param {readonly number[]} samples */
export function median(samples) {
  return percentile(samples, 0.5);
}

/** Values below this have a place each; above it every doubling has this many (an error of 1.6 % at most). */
const places = 64;
const halfPlaces = places / 2;
const shiftBits = 5;

/** Latencies in nanoseconds up to 2.1 s; what is longer counts as that, and `max` has the true value. */
export class Histogram {
  static words = places + 26 * halfPlaces;
  /** @param {Uint32Array} counts */
  constructor(counts = new Uint32Array(Histogram.words)) {
    this.counts = counts;
    this.max = 0;
    this.total = 0;
  }

  /** @param {number} ns */
  add(ns) {
    this.total++;
    if (ns > this.max) this.max = ns;
    this.counts[placeOf(ns)]++;
  }

  /** @param {Histogram} other */
  join(other) {
    for (let place = 0; place < this.counts.length; place++) this.counts[place] += other.counts[place];
    this.total += other.total;
    this.max = Math.max(this.max, other.max);
  }

  /** @param {number} share @returns nanoseconds, the upper edge of the place that holds it */
  percentile(share) {
    const wanted = Math.ceil(this.total * share);
    let seen = 0;
    for (let place = 0; place < this.counts.length; place++) {
      seen += this.counts[place];
      if (seen >= wanted) return Math.min(this.max, upperEdge(place));
    }
    return this.max;
  }
}

function placeOf(ns) {
  if (ns < places) return ns | 0;
  const value = ns > 0x7fffffff ? 0x7fffffff : ns | 0;
  const shift = 31 - Math.clz32(value) - shiftBits;
  return places + (shift - 1) * halfPlaces + ((value >>> shift) - halfPlaces);
}

function upperEdge(place) {
  if (place < places) return place + 1;
  const shift = Math.floor((place - places) / halfPlaces) + 1;
  return (halfPlaces + ((place - places) % halfPlaces) + 1) * 2 ** shift;
}
