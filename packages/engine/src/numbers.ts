/** Writing and reading descriptors as a row of 64-bit numbers in shared memory: exact for every offset and length. */
import assert from "node:assert";

export class NumberWriter {
  readonly values: number[] = [];
  put(...values: number[]): void {
    for (const value of values) {
      assert(Number.isSafeInteger(value), "a descriptor holds integers");
      this.values.push(value);
    }
  }
}

export class NumberReader {
  readonly #values: Float64Array;
  #next = 0;
  constructor(values: Float64Array) {
    this.#values = values;
  }
  get(): number {
    assert(this.#next < this.#values.length, "a descriptor is read within its length");
    return this.#values[this.#next++];
  }
}
