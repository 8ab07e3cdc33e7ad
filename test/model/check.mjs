/**
 * Checks the models: `node check.mjs [--quick] [--jobs N] [WORD]`. Needs spin and a C compiler.
 *
 * Prints one line for each run of runs.mjs (with WORD only those whose model and options contain it) and exits 0 if each
 * came out as expected, 1 if one did not, 2 if spin or the compiler is missing. A search that was cut short, by its depth,
 * its memory or its time, counts as one that did not.
 */
import { spawn, spawnSync } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { runs } from "./runs.mjs";

const here = fileURLToPath(new URL(".", import.meta.url));
const MEMORY_MIB_MAX = 2900; // of one search, so two at once stay under 6 GB
const DEPTH_MAX = 200_000; // steps; the stack of the search takes a few bytes for each
const RUN_MS_MAX = 1_800_000; // a busy machine is no error

/** Runs a program to its end in `cwd`: its output and exit code, 124 where it was ended for its time. */
function execute(command, args, cwd) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd,
      stdio: ["ignore", "pipe", "pipe"],
      timeout: RUN_MS_MAX,
      killSignal: "SIGKILL",
    });
    let output = "";
    const take = (chunk) => (output += chunk);
    child.stdout.setEncoding("utf8").on("data", take);
    child.stderr.setEncoding("utf8").on("data", take);
    child.on("error", reject);
    child.on("close", (code) => resolve({ output, code: code ?? 124 }));
  });
}

/** What pan's report says: the error found ("" for none) and the states stored; undefined if the search is not complete. */
function readReport(report) {
  const errors = /errors: (\d+)/.exec(report)?.[1];
  const states = Number(/([\d.e+]+) states, stored/.exec(report)?.[1] ?? 0);
  if (errors === undefined) return undefined;
  if (errors === "0") return /too small|not completed|out of memory/.test(report) ? undefined : { error: "", states };
  return { error: /^pan:1: (.*)$/m.exec(report)?.[1] ?? "an error without a text", states };
}

async function check({ model, options, expected, quick }) {
  const start = performance.now();
  const scratch = await mkdtemp(join(tmpdir(), "heirloom-model-"));
  try {
    // A fault is found within a second of search: there, compiling costs more than it saves.
    const steps = [
      ["spin", ["-a", ...options, join(here, model)]],
      [
        "cc",
        [
          expected === "" ? "-O1" : "-O0",
          "-w",
          "-DSAFETY",
          "-DCOLLAPSE",
          `-DMEMLIM=${MEMORY_MIB_MAX}`,
          "-o",
          "pan",
          "pan.c",
        ],
      ],
      [join(scratch, "pan"), [`-m${DEPTH_MAX}`, quick ? "-w22" : "-w25"]],
    ];
    let outcome = { output: "", code: 0 };
    for (const [command, args] of steps) {
      outcome = await execute(command, args, scratch);
      if (command !== steps[2][0] && outcome.code !== 0) break;
    }
    const report = readReport(outcome.output);
    const ok = report !== undefined && (expected === "" ? report.error === "" : report.error.includes(expected));
    if (report === undefined) await writeFile(join(tmpdir(), "heirloom-model.log"), outcome.output);
    const seconds = (performance.now() - start) / 1000;
    return { ok, report, seconds };
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

function line({ model, options, expected }, { ok, report, seconds }) {
  const wanted = expected === "" ? "holds" : `must fail with ${expected}`;
  const found =
    report === undefined
      ? `no complete search, see ${join(tmpdir(), "heirloom-model.log")}`
      : report.error === ""
        ? "no error"
        : report.error;
  const verdict = ok ? (expected === "" ? "holds" : "caught") : `${wanted}; found: ${found}`;
  const states = String(report?.states ?? "?").padStart(9);
  return `${ok ? "ok   " : "WRONG"} ${model.padEnd(15)} ${options.join(" ").padEnd(46)} ${states} states ${seconds.toFixed(1).padStart(6)} s  ${verdict}`;
}

async function main() {
  const { values, positionals } = parseArgs({
    options: { quick: { type: "boolean", default: false }, jobs: { type: "string", default: "2" } },
    allowPositionals: true,
  });
  for (const [program, flag, debian] of [
    ["spin", "-V", "spin"],
    ["cc", "--version", "gcc"],
  ]) {
    if (spawnSync(program, [flag]).status !== 0) {
      console.error(
        `model check: ${program} is not installed (on Debian: apt install ${debian}), so no model was checked.`,
      );
      return 2;
    }
  }
  const word = positionals.join(" ");
  const queue = runs.filter(
    (run) => (run.quick || !values.quick) && `${run.model} ${run.options.join(" ")}`.includes(word),
  );
  if (queue.length === 0) {
    console.error(`model check: no run of the ${values.quick ? "quick " : ""}table contains "${word}".`);
    return 1;
  }
  const start = performance.now();
  const total = queue.length;
  let wrong = 0;
  const work = async () => {
    for (let run = queue.shift(); run !== undefined; run = queue.shift()) {
      const result = await check(run);
      if (!result.ok) wrong++;
      console.log(line(run, result));
    }
  };
  await Promise.all(Array.from({ length: Math.max(1, Number(values.jobs) || 1) }, work));
  const seconds = ((performance.now() - start) / 1000).toFixed(0);
  console.log(`${total} runs in ${seconds} s, ${wrong === 0 ? "all as expected" : `${wrong} not as expected`}`);
  return wrong === 0 ? 0 : 1;
}

process.exitCode = await main();
