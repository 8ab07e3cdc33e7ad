/** Copies a file with its holes, in one call that does not return before it is done. */
import { closeSync, copyFileSync, fstatSync, ftruncateSync, openSync } from "node:fs";
import { capabilities, copyFully, ENXIO, errnoName, readFully, seekData, seekHole, writeFully } from "@heirloom/block";

const copyBytesMax = 8 * 1024 * 1024;

/** @throws if the target exists, or a system call fails */
export function copySparse(source: string, target: string): void {
  if (!capabilities().copyFileRange) {
    copyFileSync(source, target);
    return;
  }
  const from = openSync(source, "r");
  const to = openSync(target, "wx");
  try {
    const { size } = fstatSync(from);
    ftruncateSync(to, size);
    for (let offset = 0; offset < size;) {
      const data = seekData(from, offset);
      if (data === -ENXIO) break; // holes up to the end
      const hole = data < 0 ? data : seekHole(from, data);
      if (hole < 0) throw new Error(`looking for data of ${source}: ${errnoName(-hole)}`);
      for (let at = data; at < hole; at += copyBytesMax) {
        const errno = copyPiece(from, to, at, Math.min(copyBytesMax, hole - at));
        if (errno !== 0) throw new Error(`copying ${source} to ${target} at offset ${at}: ${errnoName(errno)}`);
      }
      offset = hole;
    }
  } finally {
    closeSync(from);
    closeSync(to);
  }
}

/** What the kernel does not copy (from one file system to another, say) is read and written. @returns errno */
function copyPiece(from: number, to: number, offset: number, length: number): number {
  if (copyFully(from, offset, to, offset, length) === 0) return 0;
  const buffer = Buffer.allocUnsafe(length);
  return readFully(from, buffer, offset) || writeFully(to, buffer, offset);
}
