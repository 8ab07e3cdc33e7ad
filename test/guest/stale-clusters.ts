/** Images that mix two instants: a later one in which one cluster was left as an earlier one has it. */
import { closeSync, openSync, readFileSync, readSync, writeSync } from "node:fs";
import { blockSize } from "./ext4.ts";

const clusterSize = 65536;

/** Puts one cluster of `source` into `target`. */
export function transplant(source: string, target: string, offset: number): void {
  const cluster = new Uint8Array(clusterSize);
  const from = openSync(source, "r");
  readSync(from, cluster, 0, clusterSize, offset);
  closeSync(from);
  const to = openSync(target, "r+");
  writeSync(to, cluster, 0, clusterSize, offset);
  closeSync(to);
}

/** Offsets of the clusters in which two images differ in any of these blocks. */
export function differingClusters(one: string, other: string, blocks: ReadonlySet<number>): number[] {
  const [earlier, later] = [readFileSync(one), readFileSync(other)];
  const offsets = [...blocks].map((block) => block * blockSize);
  const differing = offsets.filter(
    (offset) => !earlier.subarray(offset, offset + blockSize).equals(later.subarray(offset, offset + blockSize)),
  );
  return [...new Set(differing.map((offset) => offset - (offset % clusterSize)))];
}

/** A copy of `source` into `target`, of the clusters of which the number leaves `rest` when halved. */
export function copyHalf(source: string, target: string, rest: 0 | 1): void {
  const bytes = readFileSync(source);
  const fd = openSync(target, rest === 0 ? "w" : "r+");
  for (let offset = rest * clusterSize; offset < bytes.length; offset += 2 * clusterSize)
    writeSync(fd, bytes, offset, clusterSize, offset);
  closeSync(fd);
}
