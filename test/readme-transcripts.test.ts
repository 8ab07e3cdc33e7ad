/** The transcripts of the READMEs, with the programs that they name. */
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, realpathSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, onTestFinished, test, type TestContext } from "vitest";
import { matches, normalize, parseTranscript, readBlock, runTranscript } from "./transcript.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
const daemon = `${root}packages/cli/dist/storage-daemon/main.js`;
const heirloom = `${root}packages/cli/dist/heirloom/main.js`;

function needTools(context: TestContext, ...tools: readonly string[]): void {
  for (const tool of tools) {
    if (spawnSync("sh", ["-c", `command -v ${tool}`]).status === 0) continue;
    if (process.env.CI) throw new Error(`${tool} is not installed, and CI must have it`);
    context.skip(`${tool} is not installed`);
  }
}

/** The directory that the READMEs have in mind. */
const SHOWN = "/srv";

function expectLines(command: string, printed: readonly string[], said: readonly string[], cwd: string): void {
  const lines = printed.map((line) => normalize(line.replaceAll(cwd, SHOWN)));
  const expected = said.map(normalize);
  if (!matches(expected, lines)) expect(lines, `what '${command}' prints`).toEqual(expected);
}

test("a disk is put on a socket, used and backed up as the README shows it", { timeout: 120_000 }, async (context) => {
  needTools(context, "bash", "cmp", "fio", "nbdcopy", "nbdinfo", "qemu-img", "qemu-io");
  const cwd = realpathSync(mkdtempSync(join(tmpdir(), "heirloom-readme-")));
  onTestFinished(() => rmSync(cwd, { recursive: true, force: true }));
  writeFileSync(join(cwd, "vm.raw"), "");
  truncateSync(join(cwd, "vm.raw"), 2 ** 30);
  const prelude = `heirloom() { "${process.execPath}" "${heirloom}" "$@"; }`;

  const [server] = parseTranscript(readBlock(`${root}README.md`, "console example=serve"));
  const command = server.command.replace(/^heirloom/, `exec "${process.execPath}" "${heirloom}"`);
  const child = spawn("bash", ["-c", `exec 2>&1\n${command}`], { cwd });
  onTestFinished(() => void child.kill("SIGKILL"));
  const closed = once(child, "close");
  let output = "";
  await new Promise<void>((resolve, reject) => {
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      output += text;
      if (output.includes("Ready.")) resolve();
    });
    void closed.then(() => reject(new Error(output)));
  });

  const clients = parseTranscript(readBlock(`${root}README.md`, "console example=serve-clients"));
  const steps = clients.map((step) => ({ ...step, command: step.command.replaceAll(SHOWN, cwd) }));
  const printed = await runTranscript(steps, { cwd, prelude });
  steps.forEach((step, index) => expectLines(step.command, printed[index], step.output, cwd));

  child.kill("SIGINT");
  await closed;
  expect(child.exitCode).toBe(0);
  expectLines(server.command, output.split("\n").slice(0, -1), server.output, cwd);
});

test("a daemon is driven over QMP as the README shows it", { timeout: 120_000 }, async (context) => {
  needTools(context, "bash", "qemu-img", "qemu-io");
  const cwd = realpathSync(mkdtempSync(join(tmpdir(), "heirloom-readme-")));
  onTestFinished(() => rmSync(cwd, { recursive: true, force: true }));
  writeFileSync(join(cwd, "vm.raw"), "");
  truncateSync(join(cwd, "vm.raw"), 2 ** 30);
  const prelude = [
    `heirloom() { "${process.execPath}" "${heirloom}" "$@"; }`,
    `heirloom-storage-daemon() { "${process.execPath}" "${daemon}" "$@"; }`,
    // Whatever goes wrong before the last step, no daemon is left.
    `trap 'kill "$(cat ${cwd}/vm.pid)" 2>/dev/null' EXIT`,
  ].join("\n");
  for (const name of ["qmp", "qmp-wire"]) {
    const steps = parseTranscript(readBlock(`${root}README.md`, `console example=${name}`));
    const run = steps.map((step) => ({ ...step, command: step.command.replaceAll(SHOWN, cwd) }));
    const printed = await runTranscript(run, { cwd, prelude });
    steps.forEach((step, index) => expectLines(step.command, printed[index], step.output, cwd));
    // The daemon that was told to end has let go of the image before the next one opens it.
    while (existsSync(join(cwd, "vm.pid"))) await new Promise((resolve) => setTimeout(resolve, 10));
  }
});

test("a transcript that says something else is found out", () => {
  const said = ["a", "...", "c"];
  expect(matches(said, ["a", "b", "b", "c"])).toBe(true);
  expect(matches(said, ["a", "c"])).toBe(true);
  expect(matches(said, ["a", "b"])).toBe(false);
  expect(matches(said, ["a", "c", "d"])).toBe(false);
  expect(matches([], ["a"])).toBe(false);
  expect(matches(["a"], [])).toBe(false);
});
