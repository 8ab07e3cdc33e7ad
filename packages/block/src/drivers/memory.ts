/**
 * `memory`: a disk in shared memory, a full implementation with allocation, for tests and for scratch disks.
 *
 * The bytes and a map of touched pages lie in two shared buffers. The kernel gives memory page by page as it is
 * touched, so an empty disk costs nothing; what was touched once is not given back before the node goes.
 *
 * The map only says "was written": a write sets a page's bit before it touches the bytes, a discard clears the bytes
 * and then the bit. Two requests that overlap in one page may leave a clear bit over data (write sets, discard clears
 * both, write copies), so `status` believes a set bit, and looks at the bytes under a clear one.
 */
import { randomUUID } from "node:crypto";
import { BlockError } from "../block-error.ts";
import { EFBIG, EPERM } from "../errno.ts";
import type { BlockNode, Driver, Errno, NodeHandle, StatusExtent } from "../node.ts";
import { loadSharedInteger, SHARED_INTEGER_WORDS, storeSharedInteger } from "../shared-integer.ts";
import { isZero } from "../zero-test.ts";

/** Largest Uint8Array that every supported Node makes. */
const LENGTH_MAX = 4 * 2 ** 30;
const PAGE = 4096;
/** `status` looks at no more than this under clear bits, so that one answer has a bounded cost. */
const STATUS_LENGTH_MAX = 64 * 2 ** 20;

interface MemoryState {
  readonly bytes: SharedArrayBuffer;
  /** The length (shared-integer.ts), then one bit a page. */
  readonly shared: SharedArrayBuffer;
  readonly readOnly: boolean;
}

interface MemoryOptions {
  readonly size: number;
  readonly sizeMax?: number;
  readonly readOnly: boolean;
}

export const memory: Driver = {
  options: {
    size: { type: "integer", required: true, max: LENGTH_MAX, doc: "bytes" },
    sizeMax: { type: "integer", max: LENGTH_MAX, doc: "bytes up to which it can be resized; `size` where not given" },
    readOnly: { type: "boolean", default: false, doc: "refuse changes" },
  },
  open: openMemory,
  connect: (handle) => new MemoryNode(handle),
  close: () => undefined,
};

function openMemory(options: Record<string, unknown>): NodeHandle {
  const { size, sizeMax = size, readOnly } = options as unknown as MemoryOptions;
  if (sizeMax < size) {
    const message = `open memory: option 'sizeMax' must be at least 'size' (${size}), not ${sizeMax}`;
    throw new BlockError("ERR_NODE_OPTION", message, { node: "memory" });
  }
  const mapWords = Math.ceil(Math.ceil(sizeMax / PAGE) / 32);
  const state: MemoryState = {
    bytes: new SharedArrayBuffer(sizeMax),
    shared: new SharedArrayBuffer((SHARED_INTEGER_WORDS + mapWords) * 4),
    readOnly,
  };
  storeSharedInteger(new Int32Array(state.shared), 0, size);
  const identity = `memory:${randomUUID()}`;
  return { driver: "memory", readOnly, alignment: 1, clusterSize: 0, identity, state, children: [] };
}

class MemoryNode implements BlockNode {
  readonly direct = undefined;
  readonly #bytes: Uint8Array;
  readonly #words: Int32Array;
  readonly #map: Int32Array;
  readonly #readOnly: boolean;

  constructor(handle: NodeHandle) {
    const { bytes, shared, readOnly } = handle.state as MemoryState;
    this.#bytes = new Uint8Array(bytes);
    this.#words = new Int32Array(shared, 0, SHARED_INTEGER_WORDS);
    this.#map = new Int32Array(shared, SHARED_INTEGER_WORDS * 4);
    this.#readOnly = readOnly;
  }

  length(): number {
    return loadSharedInteger(this.#words, 0);
  }

  read(buffer: Uint8Array, offset: number): Errno {
    buffer.set(this.#bytes.subarray(offset, offset + buffer.length));
    return 0;
  }

  readNow(buffer: Uint8Array, offset: number): Errno {
    return this.read(buffer, offset);
  }

  write(buffer: Uint8Array, offset: number): Errno {
    this.#markTouched(offset, buffer.length);
    this.#bytes.set(buffer, offset);
    return 0;
  }

  discard(offset: number, length: number): Errno {
    return this.#clear(offset, length);
  }

  writeZeroes(offset: number, length: number, unmap: boolean): Errno {
    if (unmap) return this.#clear(offset, length);
    this.#markTouched(offset, length);
    this.#bytes.fill(0, offset, offset + length);
    return 0;
  }

  writeZeroesFast(offset: number, length: number, unmap: boolean): Errno {
    return this.writeZeroes(offset, length, unmap);
  }

  flush(): Errno {
    return 0;
  }

  status(offset: number, length: number, extent: StatusExtent): Errno {
    const end = offset + Math.min(length, STATUS_LENGTH_MAX);
    const zero = this.#pageIsZero(offset);
    let next = (Math.floor(offset / PAGE) + 1) * PAGE;
    while (next < end && this.#pageIsZero(next) === zero) next += PAGE;
    extent.length = Math.min(next, end) - offset;
    extent.zero = zero;
    extent.allocated = !zero;
    return 0;
  }

  resize(length: number): Errno {
    if (this.#readOnly) return EPERM;
    if (length > this.#bytes.length) return EFBIG;
    const before = this.length();
    // What is cut off is zeroed now, so that growing again finds zeroes.
    storeSharedInteger(this.#words, 0, length);
    if (length < before) this.#bytes.fill(0, length, before);
    return 0;
  }

  admit(): number {
    return 0;
  }

  #clear(offset: number, length: number): Errno {
    const end = offset + length;
    this.#bytes.fill(0, offset, end);
    const lastPage = end === this.length() ? Math.ceil(end / PAGE) : Math.floor(end / PAGE);
    for (let page = Math.ceil(offset / PAGE); page < lastPage; page++) {
      Atomics.and(this.#map, page >>> 5, ~(1 << (page & 31)));
    }
    return 0;
  }

  #markTouched(offset: number, length: number): void {
    if (length === 0) return;
    const last = Math.floor((offset + length - 1) / PAGE);
    for (let page = Math.floor(offset / PAGE); page <= last; page++) {
      const bit = 1 << (page & 31);
      if ((Atomics.load(this.#map, page >>> 5) & bit) === 0) Atomics.or(this.#map, page >>> 5, bit);
    }
  }

  /** True only for a page without a bit whose bytes are zero, now. */
  #pageIsZero(offset: number): boolean {
    const page = Math.floor(offset / PAGE);
    if ((Atomics.load(this.#map, page >>> 5) & (1 << (page & 31))) !== 0) return false;
    return isZero(this.#bytes.subarray(page * PAGE, (page + 1) * PAGE));
  }
}
