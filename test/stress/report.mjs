/** A failure, for a person: what was violated and where, how to run it again, and the history of what took part. */
import { inspect } from "node:util";

/** @param {{ text: string, details: object }} failure @param {{ seed: number, disks: number, writers: number }} options */
export function describeFailure(failure, options) {
  const { epoch, round, plan, directory, bitmaps, jobs, ...about } = /** @type {Record<string, unknown>} */ (
    failure.details
  );
  const number = /epoch (\d+)/.exec(String(epoch))?.[1] ?? "0";
  const show = (/** @type {unknown} */ value, /** @type {number} */ depth) =>
    inspect(value, { depth, breakLength: 140, maxArrayLength: 40, maxStringLength: 400 }).replaceAll("\n", "\n    ");
  return [
    "",
    `VIOLATED ${failure.text}`,
    `  again:     npm run stress -- --seed ${options.seed} --epoch ${number} --disks ${options.disks} --writers ${options.writers}`,
    `  where:     epoch ${number}, round ${String(round)}; images kept in ${String(directory)}`,
    `  what:      ${show(about, 6)}`,
    `  plan:      ${show(plan, 8)}`,
    `  bitmaps:   ${show(bitmaps, 4)}`,
    `  jobs:      ${show(jobs, 4)}`,
    "",
  ].join("\n");
}
