/** Choices that a seed decides. */
export class Choice {
  #state;

  /** @param {number} seed */
  constructor(seed) {
    this.#state = seed >>> 0;
  }

  /** In [0, 1). */
  random() {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }

  /** 0 to `count` less one. @param {number} count */
  below(count) {
    return Math.floor(this.random() * count);
  }

  /**
   * @template Value
   * @param {readonly Value[]} values
   * @returns {Value}
   */
  of(values) {
    return values[this.below(values.length)];
  }

  /** @param {number} share */
  maybe(share) {
    return this.random() < share;
  }

  /**
   * An object of those entries whose share of luck came up; values may be functions, called only then.
   *
   * @param {Record<string, readonly [share: number, value: unknown]>} entries
   * @returns {Record<string, unknown>}
   */
  some(entries) {
    /** @type {Record<string, unknown>} */
    const chosen = {};
    for (const [name, [share, value]] of Object.entries(entries)) {
      if (this.maybe(share)) chosen[name] = typeof value === "function" ? value() : value;
    }
    return chosen;
  }
}
