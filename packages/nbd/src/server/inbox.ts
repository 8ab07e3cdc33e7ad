/**
 * Bytes that have come in and were not taken yet, in one piece. Holds no more than was pushed, and nothing of what was
 * skipped: whoever drains a long payload does it as the bytes arrive.
 */
const NOTHING = new Uint8Array(0);

export class Inbox {
  #bytes: Uint8Array = NOTHING;
  #start = 0;
  #end = 0;

  get length(): number {
    return this.#end - this.#start;
  }

  /** Copies them: a caller may use its buffer again. */
  push(bytes: Uint8Array): void {
    if (this.#end + bytes.length > this.#bytes.length) this.#makeRoom(this.length + bytes.length);
    this.#bytes.set(bytes, this.#end);
    this.#end += bytes.length;
  }

  /** The first `length` bytes, or undefined as long as there are fewer. Valid until the next push. */
  take(length: number): Uint8Array | undefined {
    if (this.length < length) return undefined;
    const taken = this.#bytes.subarray(this.#start, this.#start + length);
    this.#start += length;
    return taken;
  }

  /** Forgets up to `length` bytes. @returns how many there were */
  skip(length: number): number {
    const skipped = Math.min(length, this.length);
    this.#start += skipped;
    return skipped;
  }

  /** Everything, as a copy of its own. */
  takeAll(): Uint8Array {
    const all = this.#bytes.slice(this.#start, this.#end);
    this.#bytes = NOTHING;
    this.#start = 0;
    this.#end = 0;
    return all;
  }

  /** Doubles, so that a client that sends byte by byte costs a copy per byte, and not one of all bytes before. */
  #makeRoom(length: number): void {
    const fits = length <= this.#bytes.length;
    const moved = fits ? this.#bytes : new Uint8Array(Math.max(length, 2 * this.#bytes.length));
    moved.set(this.#bytes.subarray(this.#start, this.#end));
    this.#end = this.length;
    this.#bytes = moved;
    this.#start = 0;
  }
}
