/**
 * Who may write where. A private stripe has one writer, so what it holds is known to the byte; a shared one is written by all,
 * in whole sectors that carry who wrote them. Stripes begin and end anywhere, so they share clusters and granules. On each
 * disk one sector is the ledger's: a counter that goes over all disks in order (I6).
 */
import { sectorBytes } from "./board.mjs";

export const sharedOwner = -1;
export const ledgerOwner = -2;

/** @typedef {{ offset: number, length: number, owner: number }} Stripe bytes */

/** @param {import("./random.mjs").Random} random @param {number} length bytes @param {number} writers @returns {Stripe[]} */
export function makeStripes(random, length, writers) {
  /** @type {Stripe[]} */
  const stripes = [];
  const ledgerAt = random.int(0, Math.floor(length / sectorBytes / 4)) * sectorBytes;
  let at = 0;
  while (at < length) {
    const owner = random.chance(30) ? sharedOwner : random.int(0, writers - 1);
    let end = Math.min(length, at + random.spread(2048, 1.5 * 1024 * 1024));
    if (at <= ledgerAt && end > ledgerAt) {
      if (ledgerAt > at) stripes.push(...stripe(at, ledgerAt, owner));
      stripes.push({ offset: ledgerAt, length: sectorBytes, owner: ledgerOwner });
      at = ledgerAt + sectorBytes;
      end = Math.max(end, at);
    }
    stripes.push(...stripe(at, end, owner));
    at = end;
  }
  return stripes;
}

/** @param {number} from @param {number} to @param {number} owner @returns {Stripe[]} */
function stripe(from, to, owner) {
  let [low, high] = [from, to];
  if (owner === sharedOwner) {
    low = Math.ceil(from / sectorBytes) * sectorBytes;
    high = Math.floor(to / sectorBytes) * sectorBytes;
  }
  return high > low ? [{ offset: low, length: high - low, owner }] : [];
}
