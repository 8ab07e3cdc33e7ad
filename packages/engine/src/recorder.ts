/**
 * A bitmap in the arenas, on the main thread: what records, what is frozen, what is folded. It is *held* by whoever looks
 * at it without the gate (a view whose set it is, a fold); its memory goes back when it was dropped and nobody holds it.
 * Guests need not let go: they were outside at the commit that took it from the table.
 */
import assert from "node:assert";
import { SharedBitmap } from "@heirloom/bitmap";
import type { Arenas, Region } from "./arena.ts";
import type { BitmapDescriptor } from "./descriptors.ts";

/** What keeps a bitmap beyond its memory, for the guard's module and for the one who keeps it. */
export interface KeptRecorder {
  /** For the guard's module: a few numbers. */
  readonly row: readonly number[];
  /** Nobody records into it, folds it or looks at it any more. Threads that stand aside may still write what keeps it. */
  dropped(): void;
}

export class Recorder {
  readonly bitmap: SharedBitmap;
  readonly descriptor: BitmapDescriptor;
  /** Of a bitmap that outlives the process. */
  readonly kept: KeptRecorder | undefined;
  readonly #arenas: Arenas;
  readonly #regions: readonly Region[];
  #holders = 0;
  #dropped = false;

  private constructor(
    arenas: Arenas,
    bitmap: SharedBitmap,
    regions: readonly Region[],
    kept: KeptRecorder | undefined,
  ) {
    this.kept = kept;
    this.#arenas = arenas;
    this.#regions = regions;
    this.bitmap = bitmap;
    this.descriptor = { length: bitmap.length, granularity: bitmap.granularity, regions };
  }

  /** An empty one. @throws BitmapError for a length or granularity that cannot be */
  static create(arenas: Arenas, length: number, granularity: number, kept?: KeptRecorder): Recorder {
    const regions: Region[] = [];
    const bitmap = SharedBitmap.create(length, granularity, (byteLength) => {
      const region = arenas.allocate(byteLength);
      regions.push(region);
      return region;
    });
    return new Recorder(arenas, bitmap, regions, kept);
  }

  hold(): void {
    assert(!this.#dropped, "a dropped bitmap is not taken up again");
    this.#holders++;
  }

  letGo(): void {
    assert(this.#holders > 0, "a bitmap is let go once a hold");
    this.#holders--;
    this.#recycle();
  }

  /** Nobody will record into it or ask it again. */
  drop(): void {
    assert(!this.#dropped, "a bitmap is dropped once");
    this.#dropped = true;
    this.#recycle();
  }

  #recycle(): void {
    if (!this.#dropped || this.#holders > 0) return;
    this.bitmap.reset();
    for (const region of this.#regions) this.#arenas.free(region);
    this.kept?.dropped();
  }
}
