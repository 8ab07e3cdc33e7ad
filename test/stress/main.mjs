/**
 * `npm run stress`: real threads, real files, random disks, jobs, faults and deaths; DESIGN.md's invariants after every round.
 *
 * The seed decides everything that this program decides, and every request of every writer. It does not decide when threads
 * run, so a failure may need several tries with its seed; what is printed then is made to be understood without one.
 */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { tmpdir } from "node:os";
import { parseArgs } from "node:util";
import { describeFailure } from "./report.mjs";
import { stress } from "./stress.mjs";

const help = `Usage: npm run stress -- [options]

  --seed N       what decides everything but the timing (default: the time)
  --minutes M    how long, fractions allowed (default 1)
  --epoch E      only this epoch of the seed, over and over: what a failure names
  --disks N      disks that guests write, besides the one that is a target (default 3)
  --writers N    threads that write, besides the main one (default 3)
  --directory D  where images lie (default: /dev/shm; the system's temporary directory where there is none)
  --json         the summary as JSON
  --help         this text
`;

const { values } = parseArgs({
  options: {
    seed: { type: "string" },
    minutes: { type: "string", default: "1" },
    epoch: { type: "string" },
    disks: { type: "string", default: "3" },
    writers: { type: "string", default: "3" },
    directory: { type: "string", default: existsSync("/dev/shm") ? "/dev/shm" : tmpdir() },
    json: { type: "boolean", default: false },
    help: { type: "boolean", default: false },
  },
});

if (values.help) {
  process.stdout.write(help);
  process.exit(0);
}
// glibc raises its threshold for memory of its own mapping when large pieces are freed, and then keeps what the images of every
// freeze leave behind. With a threshold that stays, VmRSS says what is in use (I8).
const threshold = "MALLOC_MMAP_THRESHOLD_";
if (process.env[threshold] === undefined) {
  const env = { ...process.env, [threshold]: "65536" };
  const { status, signal } = spawnSync(process.execPath, process.argv.slice(1), { env, stdio: "inherit" });
  // A native abort says nothing by itself, or a line that names no program.
  if (signal !== null) process.stderr.write(`stress: its process was ended by ${signal}\n`);
  process.exit(status ?? 1);
}
const number = (
  /** @type {string} */ name,
  /** @type {string} */ text,
  /** @type {number} */ low,
  /** @type {number} */ high,
) => {
  const value = Number(text);
  if (Number.isFinite(value) && value >= low && value <= high) return value;
  process.stderr.write(`stress: --${name} must be a number from ${low} to ${high}, not '${text}'\n`);
  process.exit(2);
};
const seed = number("seed", values.seed ?? String(Date.now() % 2 ** 31), 0, Number.MAX_SAFE_INTEGER);
const options = {
  seed,
  minutes: number("minutes", values.minutes, 0.01, 100_000),
  epoch: values.epoch === undefined ? undefined : number("epoch", values.epoch, 0, 1e9),
  disks: number("disks", values.disks, 1, 7),
  writers: number("writers", values.writers, 1, 12),
  directory: values.directory,
};
if (!values.json)
  process.stdout.write(
    `stress: seed ${seed}, ${options.minutes} min, ${options.disks} disks, ${options.writers} writers\n`,
  );
const tally = await stress(options, (line) => {
  if (!values.json) process.stdout.write(process.stdout.isTTY ? `\r\u001B[K${line}` : `${line}\n`);
});
if (process.stdout.isTTY && !values.json) process.stdout.write("\n");
const { failures, summary } = tally;
if (values.json) process.stdout.write(`${JSON.stringify({ seed, ...summary, failures }, undefined, 2)}\n`);
else {
  for (const [name, value] of Object.entries(summary))
    process.stdout.write(`  ${name}: ${typeof value === "object" ? JSON.stringify(value) : value}\n`);
  for (const failure of failures.slice(0, 3)) process.stdout.write(describeFailure(failure, options));
  process.stdout.write(
    failures.length === 0 ? "stress: all invariants held\n" : `stress: ${failures.length} violation(s); seed ${seed}\n`,
  );
}
// A thread that hangs for ever is part of what is tested; it must not keep the result.
process.exit(failures.length === 0 ? 0 : 1);
