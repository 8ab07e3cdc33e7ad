/** Blocks in which replies gather. A thread fills one at a time; one that a socket does not take whole stays with its connection. */
import { OUTPUT_BYTES } from "./limits.ts";

export interface Block {
  readonly bytes: Uint8Array;
  readonly view: DataView;
}

/** The block of a thread, and those that nobody uses. */
export class OutputBlocks {
  /** What replies are put into now, and how far it is used. */
  current: Block = makeBlock();
  used = 0;
  replies = 0;
  readonly #free: Block[] = [];

  /** What was in it was sent, or nobody wants it. */
  reset(): void {
    this.used = 0;
    this.replies = 0;
  }
  /** The current one stays with a connection, which gives it back. */
  replace(): void {
    this.current = this.#free.pop() ?? makeBlock();
    this.reset();
  }
  giveBack(block: Block): void {
    this.#free.push(block);
  }
}

function makeBlock(): Block {
  const bytes = new Uint8Array(OUTPUT_BYTES);
  return { bytes, view: new DataView(bytes.buffer) };
}
