/**
 * The bits as bytes, in the form that QEMU hashes (x-debug-block-dirty-bitmap-sha256): bits LSB first in little-endian
 * 64-bit words, at least one word. Two little-endian 32-bit words, low one first, are the same bytes, so the leaf words
 * of all regions follow each other; a region's 2^30 bits fill whole 64-bit words.
 */

import { BitmapError } from "./bitmap-error.ts";
import { REGION_GRANULES } from "./layout.ts";
import type { Region } from "./region.ts";

const REGION_BYTES = REGION_GRANULES / 8;

/** max(1, ceil(granules / 64)) words of 8 bytes. */
export function serializedBytes(granules: number): number {
  return Math.max(1, Math.ceil(granules / 64)) * 8;
}

export function serializeRegions(regions: readonly Region[], granules: number): Uint8Array<ArrayBuffer> {
  const bytes = allocateBytes(serializedBytes(granules));
  const view = new DataView(bytes.buffer);
  for (const [index, region] of regions.entries()) {
    const last = region.size - 1;
    for (let word = region.nextWord(0, last); word !== -1; word = region.nextWord(word + 1, last)) {
      view.setInt32(index * REGION_BYTES + word * 4, region.word(word), true);
    }
  }
  return bytes;
}

/** Refuses bytes of another size, or with a bit set past the last granule: then they are not of this disk. */
export function checkSerialized(bytes: Uint8Array, granules: number): void {
  const expected = serializedBytes(granules);
  if (bytes.byteLength !== expected) {
    throw new BitmapError(
      "invalid-bits",
      `load bitmap: expected ${expected} bytes for ${granules} granules, got ${bytes.byteLength}`,
    );
  }
  for (let index = Math.floor(granules / 8); index < expected; index++) {
    const used = index * 8 < granules ? granules - index * 8 : 0;
    if (bytes[index] >>> used !== 0) {
      throw new BitmapError("invalid-bits", `load bitmap: expected no bits past the last of ${granules} granules`);
    }
  }
}

/** Sets what checked bytes say. */
export function loadRegions(regions: readonly Region[], bytes: Uint8Array): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (const [index, region] of regions.entries()) {
    const base = index * REGION_BYTES;
    for (let word = 0; word < region.size; word++) {
      const bits = view.getInt32(base + word * 4, true);
      if (bits !== 0) region.or(word, bits);
    }
  }
}

function allocateBytes(length: number): Uint8Array<ArrayBuffer> {
  try {
    return new Uint8Array(length);
  } catch (cause) {
    throw new BitmapError("out-of-memory", `serialize bitmap: no memory for ${length} bytes in one piece`, { cause });
  }
}
