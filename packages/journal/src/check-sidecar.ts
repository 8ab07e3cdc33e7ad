/** Looks at every byte of a sidecar that counts: for a person who wants to know whether it is whole. Changes nothing. */
import { closeFile, errnoName, O_RDONLY, openFile } from "@heirloom/block";
import type { Directory } from "./directory.ts";
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
      bitmap.layers.map((layer) => {
        const damaged: number[] = [];
        const errno = readLayer(storage, tag, layer, bitmap.granularity, (block, bits) => {
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
