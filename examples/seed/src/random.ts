/** Random numbers from a seed (mulberry32): an example does the same each time, up to how its threads interleave. */
export class Random {
  readonly seed: number;
  #state: number;

  constructor(seed: number) {
    this.seed = seed;
    this.#state = seed | 0;
  }

  /** A whole number from 0 to `limit - 1`. */
  below(limit: number): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)) ^ mixed;
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * limit);
  }

  /** `length` bytes that no other call will give. */
  bytes(length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    for (let at = 0; at < length; at++) bytes[at] = this.below(256);
    return bytes;
  }
}

/** The seed after `--seed`, or 1. Printed, so that a run can be repeated. */
export function seedFromArguments(): number {
  const at = process.argv.indexOf("--seed");
  const seed = at === -1 ? 1 : Number(process.argv[at + 1]);
  if (!Number.isSafeInteger(seed)) throw new Error("--seed: expected a whole number");
  console.log(`seed ${seed}`);
  return seed;
}
