/** `@heirloom/block` as the engine gets it here: itself, but for the system calls on descriptors, which are steps. */
import { capabilities as real, ENXIO } from "../../packages/block/dist/index.js";
import { copyDisk, diskOf, nextData, readDisk, writeDisk } from "./disks.mjs";

export * from "../../packages/block/dist/index.js";

export function capabilities() {
  return { ...real(), copyFileRange: true };
}
/** @param {number} from @param {number} fromOffset @param {number} to @param {number} toOffset @param {number} length */
export function copyFully(from, fromOffset, to, toOffset, length) {
  return copyDisk(diskOf(from), fromOffset, diskOf(to), toOffset, length);
}
/** @param {number} fd @param {Uint8Array} buffer @param {number} offset */
export function readFully(fd, buffer, offset) {
  return readDisk(diskOf(fd), buffer, offset);
}
/** @param {number} fd @param {Uint8Array} buffer @param {number} offset */
export function writeFully(fd, buffer, offset) {
  return writeDisk(diskOf(fd), buffer, offset, buffer.length);
}
/** @param {number} fd @param {number} offset */
export function seekData(fd, offset) {
  const next = nextData(diskOf(fd), offset);
  return next === -1 ? -ENXIO : next;
}
