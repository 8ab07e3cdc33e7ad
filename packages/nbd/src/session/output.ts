/** Blocks in which replies gather. A thread fills one at a time; one that a socket does not take whole stays with its connection. */
import { OUTPUT_BYTES } from "./limits.ts";

export interface Block {
  readonly bytes: Uint8Array;
  readonly view: DataView;
}

/** Blocks of a thread that nobody uses, to be used again. */
export class Blocks {
  readonly #free: Block[] = [];

  take(): Block {
    const block = this.#free.pop();
    if (block !== undefined) return block;
    const bytes = new Uint8Array(OUTPUT_BYTES);
    return { bytes, view: new DataView(bytes.buffer) };
  }
  giveBack(block: Block): void {
    this.#free.push(block);
  }
}

/** What a socket has not taken yet. */
export interface Pending {
  readonly bytes: Uint8Array;
  from: number;
  readonly to: number;
  /** All of it was sent, or the connection is gone. */
  readonly release: () => void;
}
