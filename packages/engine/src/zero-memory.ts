/**
 * Zeroing shared memory at a cost by what was used: pieces that are zero are only looked at, so they stay unmapped. A view of
 * each piece is garbage, so most of the look is at large ones, and only one that is not all zero is taken apart.
 */
import { isZero } from "@heirloom/block";

const lookBytes = 2 * 1024 * 1024;
const pieceBytes = 64 * 1024;

export function zeroMemory(buffer: SharedArrayBuffer, byteOffset: number, byteLength: number): void {
  for (let at = 0; at < byteLength; at += lookBytes) {
    const look = new Uint8Array(buffer, byteOffset + at, Math.min(lookBytes, byteLength - at));
    if (isZero(look)) continue;
    for (let piece = 0; piece < look.length; piece += pieceBytes) {
      const one = look.subarray(piece, piece + pieceBytes);
      if (!isZero(one)) one.fill(0);
    }
  }
}
