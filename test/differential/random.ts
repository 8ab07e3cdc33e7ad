/** Numbers in [0, 1) that a seed decides. */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Choices that a seed decides. */
export class Choice {
  readonly random: () => number;
  constructor(seed: number) {
    this.random = seeded(seed);
  }
  /** 0 to `count` less one. */
  below(count: number): number {
    return Math.floor(this.random() * count);
  }
  of<Value>(values: readonly Value[]): Value {
    return values[this.below(values.length)];
  }
  maybe(share: number): boolean {
    return this.random() < share;
  }
}
