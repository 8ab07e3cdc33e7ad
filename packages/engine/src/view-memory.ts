/**
 * A view's memory, on the main thread: laid out before the freeze, given back when every thread of the view has let go.
 */
import assert from "node:assert";
import type { Arenas, Region, RegionReference } from "./arena.ts";
import { putBitmap } from "./descriptors.ts";
import { NumberWriter } from "./numbers.ts";
import type { Recorder } from "./recorder.ts";
import type { KeptSpill } from "./kept-spill.ts";
import { entriesIn, entryOffset } from "./spill-entry.ts";
import * as spillLayout from "./spill-layout.ts";
import { View } from "./view.ts";
import * as layout from "./view-layout.ts";
import { zeroMemory } from "./zero-memory.ts";

export interface ViewOptions {
  /** Bytes of the disk. */
  readonly length: number;
  /** Of the disk's stack. */
  readonly gate: RegionReference;
  /** Bytes of the job's cluster; a power of two from 4096. */
  readonly clusterSize: number;
  /** Requests to source and target must be multiples of it; a power of two. */
  readonly alignment: number;
  /** `Infinity`: for ever. */
  readonly guestDelayMaxMs: number;
  /** Where old data cannot be kept the guest's write fails, and not the view. */
  readonly breakGuestWrite: boolean;
  /** A guest's write waits until the old data is on the target. Needs movers, and `breakGuestWrite`. */
  readonly synchronous?: boolean;
  /** Somebody will read the view. */
  readonly readers?: boolean;
  /** Of a resumable job: its spill is this file alone. */
  readonly kept?: KeptSpill | undefined;
  /** The kept spill is synced before a guest overwrites (spill-sync.ts). */
  readonly syncSpill?: boolean;
  /** Bytes of spill in memory, rounded to clusters. */
  readonly spillMemory: number;
  /** Bytes of spill in a file at most. */
  readonly spillFile: number;
}

/** Preserved clusters of zeroes that need no data. */
const zeroSlotsMax = 4096;

export class ViewMemory {
  readonly region: Region;
  readonly spillWords: Int32Array;
  readonly clusterSize: number;
  readonly clusters: number;
  readonly fileSlotsMax: number;
  /** The file that its spill is, where it outlives the process. */
  readonly kept: KeptSpill | undefined;
  readonly readers: boolean;
  readonly #arenas: Arenas;
  /** What the view is limited to; undefined: all clusters. */
  readonly set: Recorder | undefined;
  readonly #spillRegion: Region;
  readonly #spillMemory: Region;
  #view: View | undefined;
  readonly #bytes: number;

  /** @param set undefined for every cluster; held until the view is freed */
  constructor(arenas: Arenas, options: ViewOptions, set: Recorder | undefined) {
    this.#arenas = arenas;
    this.set = set;
    this.readers = options.readers === true;
    set?.hold();
    this.clusterSize = viewClusterSize(options.length, options.clusterSize, options.alignment);
    this.clusters = Math.ceil(options.length / this.clusterSize);
    assert(this.clusters <= layout.clustersMax, "the number of clusters was checked");
    const { kept } = options;
    this.kept = kept;
    const memorySlots = kept === undefined ? Math.max(1, Math.floor(options.spillMemory / this.clusterSize)) : 0;
    const zeroSlots = kept === undefined ? zeroSlotsMax : 0;
    this.fileSlotsMax = Math.min(Math.floor(options.spillFile / this.clusterSize), this.clusters);
    const slots = memorySlots + this.fileSlotsMax + zeroSlots;
    const indexSize = options.readers === true || options.synchronous === true ? spillLayout.indexSizeFor(slots) : 0;
    const spillCount = spillLayout.spillWords(memorySlots, this.fileSlotsMax, zeroSlots, indexSize);
    this.#spillRegion = arenas.allocate(spillCount * 4);
    this.#spillMemory = arenas.allocate(Math.max(1, memorySlots * this.clusterSize), "raw");
    this.spillWords = new Int32Array(this.#spillRegion.buffer, this.#spillRegion.byteOffset, spillCount);
    this.spillWords[spillLayout.memorySlotsWord] = memorySlots;
    this.spillWords[spillLayout.fileSlotsMaxWord] = this.fileSlotsMax;
    this.spillWords[spillLayout.zeroSlotsWord] = zeroSlots;
    this.spillWords[spillLayout.indexSizeWord] = indexSize;
    this.spillWords[spillLayout.freeMemoryWord] = memorySlots;
    this.spillWords[spillLayout.freeZeroWord] = zeroSlots;
    this.spillWords[spillLayout.fileDescriptorWord] = kept?.fd ?? -1;
    if (kept !== undefined) {
      assert(kept.tag !== 0, "a kept spill has a tag");
      const ready = Math.min(this.fileSlotsMax, entriesIn(kept.allocated, this.clusterSize));
      this.spillWords[spillLayout.entryTagWord] = kept.tag;
      this.spillWords[spillLayout.syncsWord] = options.syncSpill === true ? 1 : 0;
      this.spillWords[spillLayout.fileSlotsWord] = ready;
      this.spillWords[spillLayout.freeFileWord] = ready;
    }
    const row = new NumberWriter();
    row.put(0, this.clusterSize, this.clusters, options.length, options.clusterSize);
    row.put(
      Math.min(Math.ceil(options.guestDelayMaxMs), Number.MAX_SAFE_INTEGER),
      options.breakGuestWrite ? 1 : 0,
      options.synchronous === true ? 1 : 0,
    );
    row.put(options.gate.arena, options.gate.byteOffset);
    row.put(this.#spillMemory.arena, this.#spillMemory.byteOffset);
    row.put(this.#spillRegion.arena, this.#spillRegion.byteOffset);
    row.put(memorySlots, this.fileSlotsMax, zeroSlots, indexSize);
    row.put(set === undefined ? 0 : 1);
    if (set !== undefined) putBitmap(row, set.descriptor);
    row.values[0] = row.values.length;
    const syncs = this.spillWords[spillLayout.syncsWord] !== 0;
    this.#bytes = layout.viewBytes(row.values.length, this.clusters, syncs);
    this.region = arenas.allocate(this.#bytes);
    new Float64Array(this.region.buffer, this.region.byteOffset + layout.headerWords * 4, row.values.length).set(
      row.values,
    );
  }

  /** Slots that a spill file of so many bytes has. */
  slotsIn(bytes: number): number {
    return this.kept === undefined ? Math.floor(bytes / this.clusterSize) : entriesIn(bytes, this.clusterSize);
  }
  /** Bytes of a spill file with so many slots. */
  bytesFor(slots: number): number {
    return this.kept === undefined ? slots * this.clusterSize : entryOffset(slots, this.clusterSize);
  }

  /** The main thread's own sight of it. */
  get view(): View {
    return (this.#view ??= View.at(this.region, this.#arenas));
  }

  /** No thread looks at it any more: zeroes what was used and gives everything back. */
  free(): void {
    zeroMemory(this.region.buffer, this.region.byteOffset, this.#bytes);
    for (const [word, count] of spillLayout.usedWords(this.spillWords)) {
      zeroMemory(this.#spillRegion.buffer, this.#spillRegion.byteOffset + word * 4, count * 4);
    }
    this.#arenas.free(this.region);
    this.#arenas.free(this.#spillRegion);
    this.#arenas.free(this.#spillMemory);
    this.set?.letGo();
  }
}

/** Bits of an array of a view as long as smaller clusters are to be had: 2 MiB each. */
const clustersWanted = 2 ** 24;
const clusterSizeMin = 4096;

/**
 * Bytes of a view's own cluster. A guest that overwrites 4 KiB pays for what is read before, so the smaller the better: 4 KiB
 * up to a disk of 64 GiB, then as large as keeps the view small, at most the job's cluster and what one claim may read.
 */
export function viewClusterSize(length: number, jobClusterSize: number, alignment: number): number {
  const most = Math.min(jobClusterSize, layout.claimBytesMax);
  let size = Math.min(Math.max(clusterSizeMin, alignment), most);
  while (size < most && Math.ceil(length / size) > clustersWanted) size *= 2;
  return size;
}

/** Why a disk of this length cannot have a view with this cluster size; undefined if it can. */
export function viewRefusal(length: number, jobClusterSize: number, alignment: number): string | undefined {
  const most = Math.min(jobClusterSize, layout.claimBytesMax);
  if (alignment > most || most % alignment !== 0) {
    return `source and target must take requests aligned to ${most} bytes or less, a power of two, not ${alignment}`;
  }
  if (Math.ceil(length / most) <= layout.clustersMax) return undefined;
  let fits = most;
  while (Math.ceil(length / fits) > layout.clustersMax) fits *= 2;
  return fits <= layout.claimBytesMax
    ? `a disk of ${length} bytes has too many clusters of ${jobClusterSize}; use a cluster size of at least ${fits}`
    : `a disk of ${length} bytes is too large for a point-in-time view (at most ${layout.clustersMax * layout.claimBytesMax} bytes)`;
}
