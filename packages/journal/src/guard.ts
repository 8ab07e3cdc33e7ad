/**
 * What the engine's threads ask before a write to a disk whose bitmaps are kept (`WriteGuard`): first the region's mark, then each
 * bitmap's granules. What is missing is done outside the gate, and the write looks again.
 *
 * The order of the looks is free as long as settling waits for those who are inside: see region-marks.ts.
 */
import { EAGAIN, type Errno } from "@heirloom/block";
import type { CopiedRecord, GuardContext, WriteGuard } from "@heirloom/engine";
import { BlockBits, layerMemoryWords } from "./block-bits.ts";
import { blockWords } from "./layout.ts";
import { marksLayout } from "./marks-layout.ts";
import { RegionMarks } from "./region-marks.ts";
import { FileStorage } from "./storage.ts";

/** Of a disk, as it stands in the table: descriptor, tag, bytes a region, regions, marked at most, where the words lie. */
export type DiskRow = readonly [number, number, number, number, number, number, number];
/** Of a layer: number, place in the file, bytes of the disk, granularity, where its memory lies. */
export type LayerRow = readonly [number, number, number, number, number, number];

const diskNumbers = 7;
const layerNumbers = 6;

export function makeGuard(row: readonly number[], context: GuardContext): WriteGuard {
  const [fd, tag, regionBytes, regions, markedMax, arena, byteOffset, count] = row;
  const storage = new FileStorage(fd);
  const { holder, arenas } = context;
  const marks = new RegionMarks({
    words: new Int32Array(arenas.buffer(arena), byteOffset, marksLayout(regions).words),
    storage,
    tag,
    regionBytes,
    regions,
    markedMax,
    holder,
    waitOutside: context.waitOutside,
    syncImage: context.syncDisk,
  });
  const layers: BlockBits[] = [];
  for (let index = 0; index < count; index++) {
    const at = diskNumbers + 1 + index * layerNumbers;
    layers.push(layerOf(row.slice(at, at + layerNumbers), storage, tag, context));
  }
  return new JournalGuard(marks, layers);
}

function layerOf(
  row: readonly number[],
  storage: FileStorage,
  tag: number,
  { arenas, holder }: Pick<GuardContext, "arenas" | "holder">,
): BlockBits {
  const [layer, offset, length, granularity, arena, byteOffset] = row;
  const words = new Int32Array(arenas.buffer(arena), byteOffset, layerMemoryWords(length, granularity));
  return new BlockBits({ storage, tag, layer, offset, length, granularity, words, holder });
}

/** Of a resumable job: descriptor, tag, then its layer of what is copied, whose granules are the view's clusters. */
export type CopiedRow = readonly [number, number, ...LayerRow];

export function makeCopiedRecord(
  [fd, tag, ...layer]: readonly number[],
  context: Pick<GuardContext, "arenas" | "holder">,
): CopiedRecord {
  const bits = layerOf(layer, new FileStorage(fd), tag, context);
  const added = new Int32Array(blockWords);
  return {
    add(word, mask) {
      const block = Math.floor(word / blockWords);
      const at = word - block * blockWords;
      added[at] = mask;
      const errno = bits.add(block, added, true);
      added[at] = 0;
      return errno;
    },
  };
}

class JournalGuard implements WriteGuard {
  readonly #marks: RegionMarks;
  readonly #layers: readonly BlockBits[];

  constructor(marks: RegionMarks, layers: readonly BlockBits[]) {
    this.#marks = marks;
    this.#layers = layers;
  }

  ready(offset: number, length: number): boolean {
    let ready = this.#marks.covers(offset, length);
    for (let index = 0; ready && index < this.#layers.length; index++)
      ready = this.#layers[index].covers(offset, length);
    // The guest goes on without a journal that has failed: its bitmaps are inconsistent from then on.
    return ready || this.#marks.failed !== 0;
  }

  prepare(offset: number, length: number, patient: boolean): Errno {
    for (const layer of this.#layers) {
      const errno = layer.journal(offset, length, patient);
      if (errno === EAGAIN) return errno;
      if (errno !== 0) this.#marks.fail(errno);
    }
    const errno = this.#marks.mark(offset, length, patient);
    if (errno === EAGAIN) return errno;
    if (errno !== 0) this.#marks.fail(errno);
    return 0;
  }
}
