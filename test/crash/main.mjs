/** `npm run crash -- --rounds N`: kill after kill; see kill-loop.mjs. With --resumable: of resumable backups; see resume-loop.mjs. */
import { parseArgs } from "node:util";
import { hasFio, killLoop } from "./kill-loop.mjs";
import { resumeLoop } from "./resume-loop.mjs";

const { values } = parseArgs({
  args: process.argv.slice(2).filter((argument) => argument !== "--"),
  options: {
    rounds: { type: "string", default: "100" },
    seed: { type: "string", default: String(Date.now()) },
    resumable: { type: "boolean", default: false },
    quiet: { type: "boolean", default: false },
  },
});
const fio = hasFio();
console.log(`seed ${values.seed}${fio ? "" : "; fio is not installed: guests on threads only"}`);
const begun = performance.now();
const report = values.quiet ? () => {} : (/** @type {string} */ line) => console.log(line);
try {
  const rounds = Number(values.rounds);
  const { seed } = values;
  const sums = values.resumable
    ? await resumeLoop({ rounds, seed, report })
    : await killLoop({ rounds, seed, fio, report });
  console.log(`${JSON.stringify(sums)} in ${((performance.now() - begun) / 1000).toFixed(0)} s`);
} catch (error) {
  console.log(
    `FAILED: ${/** @type {Error} */ (error).stack}\nreplay: npm run crash -- ${values.resumable ? "--resumable " : ""}--rounds ${values.rounds} --seed ${values.seed}`,
  );
  process.exitCode = 1;
}
