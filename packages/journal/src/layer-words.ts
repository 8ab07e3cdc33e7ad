/** The bits of a whole layer as words. */
import type { Errno } from "@heirloom/block";
import type { LayerEntry } from "./directory.ts";
import { blocksOf, blockWords } from "./layout.ts";
import { readLayer } from "./recover.ts";
import type { Storage } from "./storage.ts";

/** A damaged block has nothing: right for bits that say that something is safe. */
export function layerWords(
  storage: Storage,
  tag: number,
  layer: LayerEntry,
  granularity: number,
): { readonly errno: Errno; readonly words: Int32Array } {
  const words = new Int32Array(blocksOf(layer.length, granularity) * blockWords);
  const errno = readLayer(storage, tag, layer, granularity, (block, bits) => {
    if (bits !== undefined) words.set(bits, block * blockWords);
  });
  return { errno, words };
}
