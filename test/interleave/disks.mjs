/**
 * Disks of the scenarios: bytes in one shared buffer, read and written in halves of a cluster, each of them a step, so that
 * a copy that is torn or too new is seen. The same bytes stand behind file descriptors for the kernel's copy and for the
 * spill's file.
 */
import { ioStep } from "./instrument.mjs";
import { diskBytes } from "./sizes.mjs";

/** Bytes of a scenario's cluster. */
export const clusterSize = 512;
export const chunk = clusterSize / 2;
/** Number of the shared buffer of disks, for traces. */
export const disksBuffer = 2;

export { diskBytes };
const fdBase = 1000;

export const storage = {
  /** @type {Uint8Array} */ bytes: new Uint8Array(0),
  /** Looks at what is about to be overwritten: the oracle's. @type {(disk: number, offset: number, length: number) => void} */
  beforeWrite: () => {},
  /** Errno of the next write of a disk, 0 for none. @type {(disk: number) => number} */
  refuseWrite: () => 0,
};

/** @param {number} disk @param {number} offset @param {number} length */
function* pieces(disk, offset, length) {
  for (let at = offset; at < offset + length;) {
    const end = Math.min(offset + length, at - (at % chunk) + chunk);
    yield { from: disk * diskBytes + at, at, length: end - at };
    at = end;
  }
}

/** @param {number} disk @param {Uint8Array} buffer @param {number} offset */
export function readDisk(disk, buffer, offset) {
  for (const piece of pieces(disk, offset, buffer.length)) {
    ioStep("disk read", disksBuffer, piece.from);
    buffer.set(storage.bytes.subarray(piece.from, piece.from + piece.length), piece.at - offset);
  }
  return 0;
}

/** @param {number} disk @param {Uint8Array | undefined} buffer zeroes where undefined @param {number} offset @param {number} length */
export function writeDisk(disk, buffer, offset, length) {
  const errno = storage.refuseWrite(disk);
  if (errno !== 0) return errno;
  for (const piece of pieces(disk, offset, length)) {
    ioStep(buffer === undefined ? "disk zeroes" : "disk write", disksBuffer, piece.from);
    storage.beforeWrite(disk, piece.at, piece.length);
    if (buffer === undefined) storage.bytes.fill(0, piece.from, piece.from + piece.length);
    else storage.bytes.set(buffer.subarray(piece.at - offset, piece.at - offset + piece.length), piece.from);
  }
  return 0;
}

/** @param {number} from @param {number} fromOffset @param {number} to @param {number} toOffset @param {number} length */
export function copyDisk(from, fromOffset, to, toOffset, length) {
  for (const piece of pieces(from, fromOffset, length)) {
    const target = to * diskBytes + toOffset + piece.at - fromOffset;
    ioStep("kernel copy", disksBuffer, piece.from);
    storage.bytes.copyWithin(target, piece.from, piece.from + piece.length);
  }
  return 0;
}

/** @param {number} disk */
export function descriptorOf(disk) {
  return fdBase + disk;
}
/** @param {number} fd */
export function diskOf(fd) {
  return fd - fdBase;
}

/** @param {number} fd */
export function isDisk(fd) {
  return fd >= fdBase;
}
/** Blocks of 512 bytes that hold data. @param {number} disk */
export function blocksOf(disk) {
  let blocks = 0;
  for (let at = 0; at < diskBytes; at += 512) if (!isZeroAt(disk, at, 512)) blocks++;
  return blocks;
}
/** As SEEK_DATA: the first cluster with data at or after `offset`, -1 where there is none. @param {number} disk @param {number} offset */
export function nextData(disk, offset) {
  ioStep("disk status", disksBuffer, disk * diskBytes + offset);
  for (let at = offset; at < diskBytes; at = at - (at % clusterSize) + clusterSize)
    if (!isZeroAt(disk, at - (at % clusterSize), clusterSize)) return at;
  return -1;
}
/** @param {number} disk @param {number} offset @param {number} length */
function isZeroAt(disk, offset, length) {
  const from = disk * diskBytes + offset;
  return storage.bytes.subarray(from, from + length).every((byte) => byte === 0);
}

/** A node's handle for one of these disks. @param {number} disk @param {number} length bytes @param {boolean} [direct] @param {number} [shift] bytes: a window */
export function diskHandle(disk, length, direct = false, shift = 0) {
  return {
    driver: import.meta.url,
    readOnly: false,
    alignment: 1,
    clusterSize: 0,
    identity: `interleave:${disk}`,
    state: { disk, length, direct, shift },
    children: [],
  };
}

class Disk {
  /** @param {{ disk: number, length: number, direct: boolean, shift: number }} state */
  constructor({ disk, length, direct, shift }) {
    this.shift = shift;
    this.disk = disk;
    this.bytes = length;
    this.direct = direct ? { fd: descriptorOf(disk), shift } : undefined;
  }
  length() {
    return this.bytes;
  }
  /** @param {Uint8Array} buffer @param {number} offset */
  read(buffer, offset) {
    return readDisk(this.disk, buffer, offset + this.shift);
  }
  /** @param {Uint8Array} buffer @param {number} offset */
  write(buffer, offset) {
    return writeDisk(this.disk, buffer, offset + this.shift, buffer.length);
  }
  /** @param {number} offset @param {number} length */
  discard(offset, length) {
    return writeDisk(this.disk, undefined, offset + this.shift, length);
  }
  /** @param {number} offset @param {number} length */
  writeZeroes(offset, length) {
    return writeDisk(this.disk, undefined, offset + this.shift, length);
  }
  flush() {
    ioStep("disk flush", disksBuffer, this.disk * diskBytes);
    return 0;
  }
  /** @param {number} offset @param {number} length @param {{ length: number, zero: boolean, allocated: boolean }} extent */
  status(offset, length, extent) {
    ioStep("disk status", disksBuffer, this.disk * diskBytes + this.shift + offset);
    const zero = this.#isZero(offset);
    let end = offset - (offset % clusterSize) + clusterSize;
    while (end < offset + length && this.#isZero(end) === zero) end += clusterSize;
    extent.length = Math.min(end, offset + length) - offset;
    extent.zero = zero;
    extent.allocated = !zero;
    return 0;
  }
  resize() {
    return 22;
  }
  admit() {
    return 0;
  }
  /** @param {number} offset */
  #isZero(offset) {
    const at = this.shift + offset;
    return isZeroAt(this.disk, at - (at % clusterSize), clusterSize);
  }
}

export const driver = {
  open() {
    throw new Error("disks of a scenario are there from the start");
  },
  /** @param {{ state: { disk: number, length: number, direct: boolean, shift: number } }} handle */
  connect: (handle) => new Disk(handle.state),
  close() {},
};
