/**
 * The benchmark: figures of ours beside their bars, and beside the peers' in the same run where they are installed.
 *
 *   npm run bench                      all rows, some twenty minutes
 *   npm run bench -- nbd               rows whose name contains a word (or: --only nbd)
 *   npm run bench -- --quick           smaller disks, fewer samples: to see that it runs
 *   npm run bench -- --json            a line of JSON a figure
 *
 * A figure depends on what else the machine does, so what counts is the ratio within one run. A missed bar does not fail the
 * run (its exit status says only whether everything could be measured): the README says which ones are missed, and by how much.
 */
import { availableParallelism, cpus, release } from "node:os";
import { parseArgs } from "node:util";
import { coreWait } from "./core-wait.mjs";
import { missing, versionOf } from "./peers/installed.mjs";
import { printFigure, printHead } from "./report.mjs";

const modules = [
  "copy",
  "guest",
  "gate",
  "marking",
  "empty",
  "memory",
  "micro",
  "nbd",
  "nbd-backup",
  "nbd-connections",
  "nbd-cold",
  "small-incrementals",
  "daemon",
  "journal",
];

const { values: options, positionals } = parseArgs({
  args: process.argv.slice(2).filter((argument) => argument !== "--"),
  options: {
    only: { type: "string", multiple: true },
    json: { type: "boolean", default: false },
    quick: { type: "boolean", default: false },
  },
  allowPositionals: true,
});
const words = [...positionals, ...(options.only ?? [])];

// Stopped in the middle it leaves no gigabytes behind: files go when the process exits, and a peer goes with it.
for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => process.exit(1));

const write = (text) => process.stdout.write(`${text}\n`);
const rows = [];
for (const module of modules) rows.push(await import(`./rows/${module}.mjs`));
const chosen = rows.filter(({ name }) => words.length === 0 || words.some((word) => name.includes(word)));
if (chosen.length === 0) {
  process.stderr.write(
    `bench: no row is called '${words.join("' or '")}'; there are ${rows.map(({ name }) => name).join(", ")}\n`,
  );
  process.exit(2);
}

if (!options.json) {
  write(`Node ${process.version}, ${availableParallelism()} cores (${cpus()[0]?.model.trim()}), Linux ${release()}`);
  write(
    `Peers: ${["qemu-storage-daemon", "qemu-io", "nbdkit", "fio"].map((program) => versionOf(program) ?? missing(program)).join("; ")}`,
  );
  if (options.quick) write("--quick: small disks and few samples; do not quote these figures");
}
let failed = 0;
for (const row of chosen) {
  if (!options.json) {
    write(`\n# ${row.name}: ${row.title}`);
    printHead(write);
  }
  const waited = coreWait();
  try {
    for await (const figure of row.figures({ quick: options.quick })) {
      if (options.json) write(JSON.stringify(figure));
      else printFigure(write, figure);
    }
    const { share, others } = waited();
    if (!options.json)
      write(
        `  (its threads waited for a core ${(share * 100).toFixed(0)} % of their time; load average now ${others.toFixed(1)}${share > 0.2 ? ": THE MACHINE IS BUSY, times are worth little" : ""})`,
      );
  } catch (error) {
    failed++;
    process.stderr.write(`bench: row '${row.name}' could not be measured: ${error.stack}\n`);
  }
}
process.exitCode = failed === 0 ? 0 : 1;
