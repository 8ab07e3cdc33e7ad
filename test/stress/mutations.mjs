/**
 * Proof that the stress can fail: faults planted one at a time into a copy of the built packages, each of which it must catch.
 * A command of its own, too long for every change: `node test/stress/mutations.mjs [--only REGEXP] [--seconds N] [--seeds N] [--all]`.
 * `--all` runs those too whose window is so narrow that a stress finds them by luck; they do not count as missed.
 */
import { spawn } from "node:child_process";
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { faults } from "./planted-faults.mjs";

const root = fileURLToPath(new URL("../../", import.meta.url));
const scope = "@heirloom/";
/** Long enough to load everything and to come through some rounds. */
const controlSeconds = 20;
const { values } = parseArgs({
  options: {
    only: { type: "string" },
    seconds: { type: "string", default: "90" },
    seeds: { type: "string", default: "2" },
    all: { type: "boolean", default: false },
  },
});
const wanted = values.only === undefined ? undefined : new RegExp(values.only);
const chosen = faults.filter(({ name, narrow }) => wanted?.test(name) ?? (values.all || narrow !== true));
await checkControl();
let missed = 0;
let caughtCount = 0;
for (const fault of chosen) {
  const copy = mkdtempSync(join(tmpdir(), "heirloom-mutation-"));
  try {
    plant(copy, fault);
    const caught = await firstCaught(copy);
    if (caught !== undefined) caughtCount++;
    else if (fault.narrow !== true) missed++;
    const verdict = caught === undefined ? (fault.narrow === true ? "no luck" : "MISSED ") : "caught ";
    process.stdout.write(`${verdict} ${fault.name}${caught === undefined ? "" : `: ${caught}`}\n`);
  } finally {
    rmSync(copy, { recursive: true, force: true });
  }
}
process.stdout.write(`${caughtCount} of ${chosen.length} planted faults caught\n`);
process.exitCode = missed === 0 ? 0 : 1;

/** A copy without a fault must run and hold: else whatever is wrong with it would be taken for a fault that was caught. */
async function checkControl() {
  const copy = mkdtempSync(join(tmpdir(), "heirloom-mutation-"));
  try {
    copyPackages(copy);
    const failed = await run(copy, 1, controlSeconds);
    if (failed !== undefined) throw new Error(`without a planted fault the stress fails as well: ${failed}`);
    process.stdout.write("holds   without a planted fault\n");
  } finally {
    rmSync(copy, { recursive: true, force: true });
  }
}

/** The runtime, and all packages of ours under it. @param {string} copy */
function copyPackages(copy) {
  const names = new Set(["runtime"]);
  for (const name of names) {
    const from = join(root, "packages", name);
    const to = join(copy, "packages", name);
    cpSync(join(from, "dist"), join(to, "dist"), { recursive: true });
    cpSync(join(from, "package.json"), join(to, "package.json"));
    if (existsSync(join(from, "node_modules")))
      cpSync(join(from, "node_modules"), join(to, "node_modules"), { recursive: true, verbatimSymlinks: true });
    const { dependencies = {} } = JSON.parse(readFileSync(join(from, "package.json"), "utf8"));
    for (const dependency of Object.keys(dependencies))
      if (dependency.startsWith(scope)) names.add(dependency.slice(scope.length));
  }
  symlinkSync(join(root, "node_modules"), join(copy, "node_modules"));
}

/** @param {string} copy @param {import("./planted-faults.mjs").PlantedFault} fault */
function plant(copy, fault) {
  copyPackages(copy);
  for (const { file, find, put } of [fault, ...(fault.also ?? [])]) {
    const path = join(copy, "packages", file);
    const source = readFileSync(path, "utf8");
    const changed = source.replace(find, put);
    if (changed === source)
      throw new Error(`${fault.name}: ${file} has no ${String(find)} any more; update planted-faults.mjs`);
    writeFileSync(path, changed);
  }
}

/** @param {string} copy @returns {Promise<string | undefined>} what was violated */
async function firstCaught(copy) {
  for (let seed = 1; seed <= Number(values.seeds); seed++) {
    const caught = await run(copy, seed);
    if (caught !== undefined) return `${caught} (seed ${seed})`;
  }
  return undefined;
}

/** @param {string} copy @param {number} seed @returns {Promise<string | undefined>} */
function run(copy, seed, seconds = Number(values.seconds)) {
  const directory = mkdtempSync(join(existsSync("/dev/shm") ? "/dev/shm" : copy, "heirloom-mutation-"));
  const main = fileURLToPath(new URL("./main.mjs", import.meta.url));
  const args = [main, "--json", "--seed", String(seed), "--minutes", String(seconds / 60), "--directory", directory];
  const child = spawn(process.execPath, args, {
    env: { ...process.env, HEIRLOOM_PACKAGES: join(copy, "packages"), MALLOC_MMAP_THRESHOLD_: "65536" },
  });
  let output = "";
  child.stdout.on("data", (data) => (output += data));
  let errors = "";
  child.stderr.on("data", (data) => (errors += data));
  const timer = setTimeout(() => child.kill("SIGKILL"), (seconds + 90) * 1000);
  return new Promise((resolve) => {
    child.once("close", (code, signal) => {
      clearTimeout(timer);
      rmSync(directory, { recursive: true, force: true });
      if (code === 0) resolve(undefined);
      else if (signal === "SIGKILL") resolve("it hung");
      else resolve(firstFailure(output) ?? `it crashed (${signal ?? code}): ${errors.slice(0, 600)}`);
    });
  });
}

/** @param {string} output @returns {string | undefined} */
function firstFailure(output) {
  try {
    const { failures } = /** @type {{ failures: { text: string, details: { error?: string } }[] }} */ (
      JSON.parse(output)
    );
    const [first] = failures;
    return first?.details.error === undefined ? first?.text : `${first.text}: ${first.details.error}`;
  } catch {
    return undefined;
  }
}
