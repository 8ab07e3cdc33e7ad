/**
 * Arenas: the few shared buffers that all bitmaps, views and tables of an engine live in, so that a thread maps each
 * once. The main thread allocates; regions come in power-of-two classes and go back to their class.
 *
 * Invariant: a free region is all zero bytes (but for the `raw` kind: buffers, whose bytes mean nothing before they are
 * written). Whoever frees zeroes first, at a cost by what it used and not by its size; that keeps starting a job O(1), and
 * memory that was never touched is never resident.
 *
 * Why recycle at all: a thread that never allocates never collects garbage, so buffers handed to it one a job pile up.
 */
import assert from "node:assert";

/** A zeroed piece of an arena. Posted as (`arena`, `byteOffset`); threads look the buffer up. */
export interface Region {
  readonly arena: number;
  readonly buffer: SharedArrayBuffer;
  readonly byteOffset: number;
  /** What the class holds: at least what was asked for. */
  readonly byteLength: number;
  readonly kind: RegionKind;
}

export type RegionKind = "zeroed" | "raw";

/** Where a region is, for another thread. */
export interface RegionReference {
  readonly arena: number;
  readonly byteOffset: number;
}

const classShiftMin = 9; // 512 bytes: no two regions share a cache line
const arenaBytes = 16 * 1024 * 1024;

export class Arenas {
  readonly #buffers: SharedArrayBuffer[] = [];
  readonly #free = { zeroed: new Map<number, Region[]>(), raw: new Map<number, Region[]>() };
  readonly #onArena: (arena: number, buffer: SharedArrayBuffer) => void;
  #open: { arena: number; used: number } | undefined;
  #bytesInUse = 0;

  /** @param onArena told of each new arena before a region of it is handed out */
  constructor(onArena: (arena: number, buffer: SharedArrayBuffer) => void) {
    this.#onArena = onArena;
  }

  /** All buffers so far, by arena number. */
  get buffers(): readonly SharedArrayBuffer[] {
    return this.#buffers;
  }

  buffer(arena: number): SharedArrayBuffer {
    return this.#buffers[arena];
  }

  /** Bytes of the regions handed out and not given back. */
  get bytesInUse(): number {
    return this.#bytesInUse;
  }

  /** A region of at least `byteLength` bytes, aligned to 512; zeroed unless it is of the raw kind. */
  allocate(byteLength: number, kind: RegionKind = "zeroed"): Region {
    const shift = classShift(byteLength);
    const size = 2 ** shift;
    this.#bytesInUse += size;
    const recycled = this.#free[kind].get(shift)?.pop();
    if (recycled !== undefined) return recycled;
    if (size > arenaBytes / 2) {
      const arena = this.#addArena(size);
      return { arena, buffer: this.#buffers[arena], byteOffset: 0, byteLength: size, kind };
    }
    if (this.#open === undefined || this.#open.used + size > arenaBytes) {
      this.#open = { arena: this.#addArena(arenaBytes), used: 0 };
    }
    const { arena, used } = this.#open;
    this.#open.used += size;
    return { arena, buffer: this.#buffers[arena], byteOffset: used, byteLength: size, kind };
  }

  /** Takes back a region that its owner has zeroed (if of that kind) and that no thread looks at any more. */
  free(region: Region): void {
    const shift = classShift(region.byteLength);
    assert(2 ** shift === region.byteLength, "a region is given back whole");
    this.#bytesInUse -= region.byteLength;
    assert(this.#bytesInUse >= 0, "a region was given back twice");
    const lists = this.#free[region.kind];
    const list = lists.get(shift);
    if (list === undefined) lists.set(shift, [region]);
    else list.push(region);
  }

  #addArena(byteLength: number): number {
    const buffer = new SharedArrayBuffer(byteLength);
    const arena = this.#buffers.push(buffer) - 1;
    this.#onArena(arena, buffer);
    return arena;
  }
}

function classShift(byteLength: number): number {
  assert(byteLength > 0 && byteLength <= 2 ** 40, "a region has a length");
  return Math.max(classShiftMin, Math.ceil(Math.log2(byteLength)));
}
