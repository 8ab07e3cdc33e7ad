/**
 * The files that a row works on, gone when the row is over. Two places: tmpfs, where the page cache is all there is, and the
 * file system of the checkout (or HEIRLOOM_BENCH_DIR), where a real disk stands behind it.
 */
import { closeSync, fsyncSync, mkdtempSync, openSync, rmSync, statfsSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const tmpfsMagic = 0x01021994;

/** Where files go. @param {"tmpfs" | "disk"} kind */
export function placeOf(kind) {
  if (kind === "tmpfs") return "/dev/shm";
  if (process.env.HEIRLOOM_BENCH_DIR !== undefined) return process.env.HEIRLOOM_BENCH_DIR;
  return isTmpfs(tmpdir()) ? fileURLToPath(new URL(".", import.meta.url)) : tmpdir();
}

export function isTmpfs(directory) {
  try {
    return statfsSync(directory).type === tmpfsMagic;
  } catch {
    return false;
  }
}

export class Stage {
  /** @param {"tmpfs" | "disk"} kind */
  constructor(kind) {
    this.kind = kind;
    this.directory = mkdtempSync(join(placeOf(kind), "heirloom-bench-"));
    this.remove = () => rmSync(this.directory, { recursive: true, force: true });
    process.once("exit", this.remove);
  }

  path(name) {
    return join(this.directory, name);
  }

  /** A file full of data that is no zeroes, every block of it allocated. @returns its path */
  filled(name, length) {
    const path = this.path(name);
    const chunk = noise(8 * 2 ** 20);
    const fd = openSync(path, "w");
    for (let done = 0; done < length; done += chunk.length) {
      new DataView(chunk.buffer).setFloat64(0, done + 1, true);
      writeSync(fd, chunk, 0, Math.min(chunk.length, length - done));
    }
    fsyncSync(fd);
    closeSync(fd);
    return path;
  }

  close() {
    process.removeListener("exit", this.remove);
    this.remove();
  }
}

/** Bytes that do not compress and hold no zero page; the same in every run. */
export function noise(length, seed = 1) {
  const words = new Uint32Array(length / 4);
  let state = seed;
  for (let at = 0; at < words.length; at++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[at] = state;
  }
  return new Uint8Array(words.buffer);
}

/** Numbers from a seed, below a limit. */
export function randomFrom(seed) {
  let state = seed;
  return (limit) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * limit);
  };
}

/** `share` of the clusters of a disk, scattered. @returns merged extents, in order */
export function scatteredExtents(length, clusterSize, share, seed = 7) {
  const count = length / clusterSize;
  const random = randomFrom(seed);
  const order = Uint32Array.from({ length: count }, (_, at) => at);
  for (let at = 0; at < count * share; at++) {
    const other = at + random(count - at);
    [order[at], order[other]] = [order[other], order[at]];
  }
  const chosen = order.subarray(0, count * share).sort();
  const extents = [];
  for (const cluster of chosen) {
    const last = extents.at(-1);
    const offset = cluster * clusterSize;
    if (last !== undefined && last.offset + last.length === offset) last.length += clusterSize;
    else extents.push({ offset, length: clusterSize });
  }
  return extents;
}
