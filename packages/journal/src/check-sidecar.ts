/** Looks at every byte of a sidecar that counts: for a person who wants to know whether it is whole. Changes nothing. */
import { closeFile, errnoName, O_RDONLY, openFile } from "@heirloom/block";
import type { BitmapEntry, Directory, LayerEntry } from "./directory.ts";
import { JournalError } from "./journal-error.ts";
import { readLayer, readSidecar } from "./recover.ts";
import { FileStorage } from "./storage.ts";

export interface SidecarReport {
  readonly directory: Directory;
  /** Regions marked; undefined where neither record is whole. */
  readonly marks: readonly number[] | undefined;
  readonly layers: ReadonlyArray<{
    readonly bitmap: string;
    readonly layer: number;
    /** Blocks that are not whole: their granules would count as dirty. */
    readonly damaged: readonly number[];
  }>;
}

/** A bitmap's own, and those of the job that has it frozen. */
function layersWithGrain({ layers, granularity, job }: BitmapEntry): { layer: LayerEntry; granularity: number }[] {
  const own = layers.map((layer) => ({ layer, granularity }));
  if (job === null) return own;
  const { set, copied, flushed, clusterSize } = job;
  return [
    ...own,
    { layer: set, granularity },
    { layer: copied, granularity: clusterSize },
    { layer: flushed, granularity: clusterSize },
  ];
}

/**
 * @throws JournalError where it is no sidecar, or cannot be read
 * @example checkSidecar("vm.img.heirloom").layers.every(({ damaged }) => damaged.length === 0)
 */
export function checkSidecar(path: string): SidecarReport {
  const fd = openFile(path, O_RDONLY);
  if (fd < 0) throw new JournalError("ERR_JOURNAL_IO", `open journal '${path}': ${errnoName(-fd)}`);
  try {
    const storage = new FileStorage(fd);
    const { directory, marks, tag } = readSidecar(storage, path);
    const layers = directory.bitmaps.flatMap((bitmap) =>
      layersWithGrain(bitmap).map(({ layer, granularity }) => {
        const damaged: number[] = [];
        const errno = readLayer(storage, tag, layer, granularity, (block, bits) => {
          if (bits === undefined) damaged.push(block);
        });
        if (errno !== 0) throw new JournalError("ERR_JOURNAL_IO", `read journal '${path}': ${errnoName(errno)}`);
        return { bitmap: bitmap.name, layer: layer.id, damaged };
      }),
    );
    return { directory, marks, layers };
  } finally {
    closeFile(fd);
  }
}
