/**
 * Seeded randomness. Every decision of the main program and every request of a writer comes from here; what the seed cannot
 * replay is when the threads run. A part of a run has a stream of its own (`fork`), so that a change in one part does not
 * shift the others.
 */

/** @param {string} text @returns {number} 32 bits */
function hash(text) {
  let h = 0x811c9dc5;
  for (let at = 0; at < text.length; at++) h = Math.imul(h ^ text.charCodeAt(at), 0x01000193);
  h = Math.imul(h ^ (h >>> 15), 0x2c1b3c6d);
  return (h ^ (h >>> 13)) >>> 0;
}

export class Random {
  /** @param {string} name the seed and the path to this stream */
  constructor(name) {
    this.name = name;
    this.state = hash(name);
  }

  /** A stream of its own. @param {string | number} part */
  fork(part) {
    return new Random(`${this.name}/${part}`);
  }

  /** 32 bits (mulberry32). */
  next() {
    this.state = (this.state + 0x6d2b79f5) | 0;
    let t = Math.imul(this.state ^ (this.state >>> 15), this.state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return (t ^ (t >>> 14)) >>> 0;
  }

  /** From `low` to `high`, both included. @param {number} low @param {number} high */
  int(low, high) {
    return low + Math.floor((this.next() / 2 ** 32) * (high - low + 1));
  }

  /** Small ones as likely as large ones: lengths of requests. @param {number} low from 1 @param {number} high */
  spread(low, high) {
    const x = Math.exp((this.next() / 2 ** 32) * Math.log(high / low)) * low;
    return Math.min(high, Math.floor(x));
  }

  /** @param {number} percent */
  chance(percent) {
    return this.int(1, 100) <= percent;
  }

  /** @template T @param {readonly T[]} list @returns {T} */
  pick(list) {
    return list[this.int(0, list.length - 1)];
  }

  /** @template T @param {ReadonlyArray<readonly [number, T]>} weighted weights and values @returns {T} */
  weighted(weighted) {
    let left = this.int(
      1,
      weighted.reduce((sum, [weight]) => sum + weight, 0),
    );
    for (const [weight, value] of weighted) {
      left -= weight;
      if (left <= 0) return value;
    }
    return weighted[0][1];
  }

  /** @template T @param {readonly T[]} list @returns {T[]} */
  shuffle(list) {
    const copy = [...list];
    for (let at = copy.length - 1; at > 0; at--) {
      const other = this.int(0, at);
      [copy[at], copy[other]] = [copy[other], copy[at]];
    }
    return copy;
  }
}
