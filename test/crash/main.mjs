/** `npm run crash -- --rounds N`: kill after kill; see kill-loop.mjs. */
import { parseArgs } from "node:util";
import { hasFio, killLoop } from "./kill-loop.mjs";

const { values } = parseArgs({
  args: process.argv.slice(2).filter((argument) => argument !== "--"),
  options: {
    rounds: { type: "string", default: "100" },
    seed: { type: "string", default: String(Date.now()) },
    quiet: { type: "boolean", default: false },
  },
});
const fio = hasFio();
console.log(`seed ${values.seed}${fio ? "" : "; fio is not installed: guests on threads only"}`);
const begun = performance.now();
const report = values.quiet ? () => {} : (/** @type {string} */ line) => console.log(line);
try {
  const sums = await killLoop({ rounds: Number(values.rounds), seed: values.seed, fio, report });
  console.log(`${JSON.stringify(sums)} in ${((performance.now() - begun) / 1000).toFixed(0)} s`);
} catch (error) {
  console.log(
    `FAILED: ${/** @type {Error} */ (error).stack}\nreplay: npm run crash -- --rounds ${values.rounds} --seed ${values.seed}`,
  );
  process.exitCode = 1;
}
