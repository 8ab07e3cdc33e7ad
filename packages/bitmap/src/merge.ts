/**
 * Joining bits of one bitmap into another. The target is only ever added to, so it may be recording; the source may be
 * recording as well, and then what was set in it before the call is joined.
 */

import type { Region } from "./region.ts";

/** Same granularity: word by word, as far as the source has anything, and nothing past the target's last granule. */
export function mergeWords(target: readonly Region[], source: readonly Region[]): void {
  const regions = Math.min(target.length, source.length);
  for (let index = 0; index < regions; index++) {
    const into = target[index];
    const from = source[index];
    const granules = Math.min(into.granules, from.granules);
    if (granules === 0) return;
    const last = (granules - 1) >>> 5;
    for (let word = from.nextWord(0, last); word !== -1; word = from.nextWord(word + 1, last)) {
      let bits = from.word(word);
      if (word === last) bits &= -1 >>> (31 - ((granules - 1) & 31));
      if (bits !== 0) into.or(word, bits);
    }
  }
}

/** Same granularity and length: are the same bits set? */
export function sameBits(one: readonly Region[], other: readonly Region[]): boolean {
  return one.every((region, index) => covers(region, other[index]) && covers(other[index], region));
}

/** Does `whole` have, in every word where `part` has something, just the same? */
function covers(whole: Region, part: Region): boolean {
  const last = part.size - 1;
  for (let word = part.nextWord(0, last); word !== -1; word = part.nextWord(word + 1, last)) {
    if (part.word(word) !== whole.word(word)) return false;
  }
  return true;
}
