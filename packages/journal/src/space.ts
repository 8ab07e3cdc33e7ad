/** Which bytes of the sidecar belong to which layer: first fit, in memory; the directory is what it is made from. */
import { layersAt } from "./layout.ts";

export class Space {
  /** Ascending, without overlap. */
  readonly #taken: { readonly offset: number; readonly length: number }[] = [];

  /** @throws where two layers overlap: the directory is not to be believed then */
  take(offset: number, length: number): void {
    const index = this.#taken.findIndex((one) => one.offset > offset);
    const at = index < 0 ? this.#taken.length : index;
    const before = this.#taken[at - 1];
    const after = this.#taken[at];
    const overlaps =
      offset < layersAt ||
      (before !== undefined && before.offset + before.length > offset) ||
      (after !== undefined && offset + length > after.offset);
    if (overlaps) throw new RangeError(`layers overlap at ${offset}`);
    this.#taken.splice(at, 0, { offset, length });
  }

  allocate(length: number): number {
    let end = layersAt;
    for (const one of this.#taken) {
      if (one.offset - end >= length) break;
      end = one.offset + one.length;
    }
    this.take(end, length);
    return end;
  }

  free(offset: number): void {
    const index = this.#taken.findIndex((one) => one.offset === offset);
    if (index < 0) throw new RangeError(`nothing was taken at ${offset}`);
    this.#taken.splice(index, 1);
  }

  /** Bytes that the file has to have. */
  get end(): number {
    const last = this.#taken.at(-1);
    return last === undefined ? layersAt : last.offset + last.length;
  }
}
