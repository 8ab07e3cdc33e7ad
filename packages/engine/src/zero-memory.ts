/**
 * Zeroing shared memory at a cost by what was used: pieces that are zero are only looked at, so they stay unmapped. Pieces are
 * large, since a view of each is garbage.
 */
import { isZero } from "@heirloom/block";

const pieceBytes = 64 * 1024;

export function zeroMemory(buffer: SharedArrayBuffer, byteOffset: number, byteLength: number): void {
  for (let at = 0; at < byteLength; at += pieceBytes) {
    const piece = new Uint8Array(buffer, byteOffset + at, Math.min(pieceBytes, byteLength - at));
    if (!isZero(piece)) piece.fill(0);
  }
}
