/** Zeroing shared memory at a cost by what was used: pages that are zero are only looked at, so they stay unmapped. */
import { isZero } from "@heirloom/block";

const pageBytes = 4096;

export function zeroMemory(buffer: SharedArrayBuffer, byteOffset: number, byteLength: number): void {
  const bytes = new Uint8Array(buffer, byteOffset, byteLength);
  for (let at = 0; at < byteLength; at += pageBytes) {
    const page = bytes.subarray(at, at + pageBytes);
    if (!isZero(page)) page.fill(0);
  }
}
