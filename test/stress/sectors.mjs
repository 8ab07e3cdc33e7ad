/**
 * Shared sectors: each 8 bytes say who wrote them, with which request, and where they belong. A read is right if each unit is
 * of a write that no later one had surely replaced before the read began (I3), or zero where zeroes may be.
 */
import { entryWords, field, logEntries, sectorBytes } from "./board.mjs";

const unitsPerSector = sectorBytes / 8;

/** @param {number} tag @param {number} unit index of the unit on the disk */
function checkOf(tag, unit) {
  return (Math.imul(tag, 0x9e3779b1) ^ Math.imul(unit + 1, 0x85ebca6b)) >>> 0;
}

/** @param {number} writer @param {number} request the writer's count of requests before this one */
export function tagOf(writer, request) {
  return (((writer + 1) << 24) | (request & 0xffffff)) >>> 0;
}

/** @param {Uint8Array} data @param {number} offset bytes; both in whole sectors @param {number} tag */
export function fillTags(data, offset, tag) {
  const words = new Uint32Array(data.buffer, data.byteOffset, data.length / 4);
  const first = offset / 8;
  for (let unit = 0; unit < words.length / 2; unit++) {
    words[unit * 2] = tag;
    words[unit * 2 + 1] = checkOf(tag, first + unit);
  }
}

export class SharedSectors {
  /** @param {import("./board.mjs").DiskBoard} disk @param {import("./board.mjs").WriterBoard[]} writers */
  constructor(disk, writers) {
    this.acked = new Int32Array(disk.acked);
    this.zeroed = new Int32Array(disk.zeroed);
    this.cut = new Int32Array(disk.cut);
    this.logs = writers.map((writer) => new Int32Array(writer.log));
  }

  /** A request that leaves zeroes begins. @param {number} offset @param {number} length */
  zeroBegins(offset, length) {
    for (const sector of sectorsOf(offset, length)) Atomics.add(this.zeroed, sector * 2, 1);
  }

  /** @param {number} offset @param {number} length @param {number} end */
  zeroEnds(offset, length, end) {
    for (const sector of sectorsOf(offset, length)) {
      raise(this.zeroed, sector * 2 + 1, end);
      Atomics.sub(this.zeroed, sector * 2, 1);
    }
  }

  /** A request that replaces what was there has ended well. @param {number} offset @param {number} length @param {number} begin */
  replaced(offset, length, begin) {
    for (const sector of sectorsOf(offset, length)) raise(this.acked, sector, begin);
  }

  /** The disk ends here: of the unit in which it does only the first bytes are left. @param {number} length bytes */
  endsAt(length) {
    if (length % 8 === 0) return;
    this.cut[1 + this.cut[0]] = length;
    Atomics.add(this.cut, 0, 1);
  }

  /** Whether the unit is what a shrink left of it, and zeroes. @param {number} unit @param {number} low @param {number} high its words */
  #isCut(unit, low, high) {
    const value = (BigInt(high) << 32n) | BigInt(low);
    return this.cut
      .subarray(1, 1 + Atomics.load(this.cut, 0))
      .some((length) => Math.floor(length / 8) === unit && value >> BigInt((length % 8) * 8) === 0n);
  }

  /** What is known before a read: for each sector when it was last replaced for sure. @param {number} offset @param {number} length */
  before(offset, length) {
    return Int32Array.from(sectorsOf(offset, length), (sector) => Atomics.load(this.acked, sector));
  }

  /**
   * @param {Uint8Array} data @param {number} offset @param {Int32Array} before
   * @returns {{ offset: number, text: string, torn: boolean } | undefined} the first sector that cannot be
   */
  check(data, offset, before) {
    const words = new Uint32Array(data.buffer, data.byteOffset, data.length / 4);
    for (let index = 0; index < before.length; index++) {
      let last = -1;
      for (let at = index * unitsPerSector; at < (index + 1) * unitsPerSector; at++) {
        const tag = words[at * 2];
        const unit = offset / 8 + at;
        const right = tag === 0 ? words[at * 2 + 1] === 0 : words[at * 2 + 1] === checkOf(tag, unit);
        // Grown again, and not written since.
        if (!right && before[index] === 0 && this.#isCut(unit, tag, words[at * 2 + 1])) continue;
        if (!right)
          return {
            offset: unit * 8,
            torn: true,
            text: `bytes of no write: ${tag.toString(16)} ${words[at * 2 + 1].toString(16)}`,
          };
        if (tag === last) continue;
        last = tag;
        const text = this.#superseded(tag, offset / sectorBytes + index, before[index]);
        if (text !== undefined) return { offset: unit * 8, torn: false, text };
      }
    }
    return undefined;
  }

  /** @param {number} tag @param {number} sector @param {number} since */
  #superseded(tag, sector, since) {
    if (tag === 0) {
      if (since === 0 || Atomics.load(this.zeroed, sector * 2) > 0) return undefined;
      const zero = Atomics.load(this.zeroed, sector * 2 + 1);
      return since > zero ? `zeroes of before ${zero}, replaced by a write begun at ${since}` : undefined;
    }
    const writer = (tag >>> 24) - 1;
    const log = this.logs[writer];
    if (log === undefined) return `a write of writer ${writer}, which does not exist`;
    const request = tag & 0xffffff;
    const end = Atomics.load(log, 1 + (request % logEntries) * entryWords + field.end);
    const age = (Atomics.load(log, 0) - request) & 0xffffff;
    if (end === 0 || age > logEntries - 16) return undefined; // still running, or forgotten
    return since > end
      ? `request ${request} of writer ${writer}, ended at ${end}, replaced by one begun at ${since}`
      : undefined;
  }
}

/** @param {number} offset @param {number} length */
function sectorsOf(offset, length) {
  const first = offset / sectorBytes;
  return Array.from({ length: length / sectorBytes }, (_, index) => first + index);
}

/** @param {Int32Array} words @param {number} word @param {number} value */
function raise(words, word, value) {
  for (;;) {
    const old = Atomics.load(words, word);
    if (old >= value || Atomics.compareExchange(words, word, old, value) === old) return;
  }
}
