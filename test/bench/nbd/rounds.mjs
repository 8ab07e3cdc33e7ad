/** Rounds in which each contestant has its turn, each round another one first; one round before them is not counted. */
import { median } from "../sampling.mjs";

/**
 * @template Result
 * @param {readonly string[]} names
 * @param {(name: string) => Promise<Result>} measure
 * @returns {Promise<Map<string, Result[]>>} what was measured, by name and round
 */
export async function inRounds(names, rounds, measure) {
  const results = new Map(names.map((name) => [name, []]));
  for (let round = -1; round < rounds; round++) {
    for (let turn = 0; turn < names.length; turn++) {
      const name = names[(turn + round + 1) % names.length];
      const result = await measure(name);
      if (round >= 0) results.get(name).push(result);
    }
  }
  return results;
}

/** Within each round, which is what a machine that does other things as well disturbs least. */
export function ratios(ones, others) {
  return ones.map((one, round) => one / others[round]);
}

export function medianRatio(ones, others) {
  return median(ratios(ones, others));
}

/** "23.1 k (22.0 to 24.5)": median, lowest and highest. */
export function spread(samples, scale = 1, digits = 1) {
  const show = (value) => (value / scale).toFixed(digits);
  return `${show(median(samples))} (${show(Math.min(...samples))} to ${show(Math.max(...samples))})`;
}
