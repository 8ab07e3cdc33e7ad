/** `node:fs` as the engine gets it here: itself, but for the descriptors of scenarios' disks. */
import * as real from "node:fs";
import { blocksOf, diskOf, isDisk } from "./disks.mjs";

export * from "node:fs";
export default real;

/** @param {number} fd */
export function fstatSync(fd) {
  return isDisk(fd) ? { blocks: blocksOf(diskOf(fd)) } : real.fstatSync(fd);
}
