/**
 * `null-co`: a disk of any size that holds nothing, for measuring what is above it. Named as in QEMU.
 *
 * Writes vanish. With `readZeroes` (the default) it reads as zeroes and says so in `status`; without, a read leaves the
 * buffer as it is, which costs nothing, and `status` says data.
 */
import { randomUUID } from "node:crypto";
import { EPERM } from "../errno.ts";
import type { BlockNode, Driver, Errno, NodeHandle, StatusExtent } from "../node.ts";
import { loadSharedInteger, SHARED_INTEGER_WORDS, storeSharedInteger } from "../shared-integer.ts";

/** 1: it can only be read. */
const READ_ONLY_WORD = SHARED_INTEGER_WORDS;

interface NullState {
  /** The length (shared-integer.ts), then the word above. */
  readonly shared: SharedArrayBuffer;
  readonly readZeroes: boolean;
  readonly latencyMs: number;
}

export const nullCo: Driver = {
  options: {
    size: { type: "integer", required: true, doc: "bytes" },
    readZeroes: { type: "boolean", default: true, doc: "read as zeroes; else buffers stay as they are" },
    latencyNs: { type: "integer", default: 0, doc: "nanoseconds that each request but status takes" },
    readOnly: { type: "boolean", default: false, doc: "refuse changes" },
  },
  open(options): NodeHandle {
    const given = options as { size: number; readZeroes: boolean; latencyNs: number; readOnly: boolean };
    const state: NullState = {
      shared: new SharedArrayBuffer((SHARED_INTEGER_WORDS + 1) * 4),
      readZeroes: given.readZeroes,
      latencyMs: given.latencyNs / 1e6,
    };
    storeSharedInteger(new Int32Array(state.shared), 0, given.size);
    setReadOnly(state, given.readOnly);
    const identity = `null-co:${randomUUID()}`;
    const readOnly = given.readOnly;
    return { driver: "null-co", readOnly, alignment: 1, clusterSize: 0, identity, state, children: [] };
  },
  connect: (handle) => new NullNode(handle.state as NullState),
  reopen: (handle, readOnly) => setReadOnly(handle.state as NullState, readOnly),
  close: () => undefined,
};

function setReadOnly({ shared }: NullState, readOnly: boolean): void {
  Atomics.store(new Int32Array(shared), READ_ONLY_WORD, readOnly ? 1 : 0);
}

class NullNode implements BlockNode {
  readonly direct = undefined;
  /** One that sleeps is no node that answers at once. */
  readonly readNow: BlockNode["readNow"];
  readonly #state: NullState;
  readonly #words: Int32Array;
  /** Never notified: to wait for a time is to wait for its timeout. */
  readonly #never: Int32Array = new Int32Array(new SharedArrayBuffer(4));

  constructor(state: NullState) {
    this.#state = state;
    this.#words = new Int32Array(state.shared);
    this.readNow = state.latencyMs > 0 ? undefined : (buffer) => this.read(buffer);
  }

  length(): number {
    return loadSharedInteger(this.#words, 0);
  }

  read(buffer: Uint8Array): Errno {
    if (this.#state.readZeroes) buffer.fill(0);
    return this.#take();
  }

  write(): Errno {
    return this.#take();
  }

  discard(): Errno {
    return this.#take();
  }

  writeZeroes(): Errno {
    return this.#take();
  }

  writeZeroesFast(): Errno {
    return this.#take();
  }

  flush(): Errno {
    return this.#take();
  }

  status(_offset: number, length: number, extent: StatusExtent): Errno {
    extent.length = length;
    extent.zero = this.#state.readZeroes;
    extent.allocated = !this.#state.readZeroes;
    return 0;
  }

  resize(length: number): Errno {
    if (Atomics.load(this.#words, READ_ONLY_WORD) === 1) return EPERM;
    storeSharedInteger(this.#words, 0, length);
    return 0;
  }

  admit(): number {
    return 0;
  }

  #take(): Errno {
    if (this.#state.latencyMs > 0) Atomics.wait(this.#never, 0, 0, this.#state.latencyMs);
    return 0;
  }
}
