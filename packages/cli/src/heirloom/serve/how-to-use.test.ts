/** What is printed to be pasted is pasted: into a shell, with names that have to be quoted. */
import { spawn } from "node:child_process";
import { mkdirSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { heirloom, needTool, peer, run, scratchDirectory } from "../command.fixture.ts";

/** The advice on a disk of 1 MiB, by the program that each line is for; and the directory to paste it in. */
async function advice(name: string, ...more: readonly string[]): Promise<{ cwd: string; lines: readonly string[] }> {
  const cwd = join(scratchDirectory(), "a directory, 'quoted'");
  mkdirSync(cwd);
  writeFileSync(join(cwd, "vm.raw"), "heirloom");
  truncateSync(join(cwd, "vm.raw"), 2 ** 20);
  const args = [heirloom, "serve", "vm.raw", "--name", name, "-s", "s.sock", "--hints", ...more];
  const child = spawn(process.execPath, args, { cwd });
  onTestFinished(() => void child.kill("SIGKILL"));
  let output = "";
  for await (const text of child.stdout.setEncoding("utf8")) {
    output += String(text);
    if (output.includes("Ready.")) break;
  }
  const lines = output
    .split("\n")
    .filter((line) => line.startsWith("  "))
    .map((line) => line.trim());
  return { cwd, lines };
}

async function paste(line: string, cwd: string): Promise<string> {
  const program = `heirloom() { "${process.execPath}" "${heirloom}" "$@"; }\n${line}`;
  const { status, output, errors } = await run("bash", ["-c", program], { cwd });
  expect({ status, line, errors: status === 0 ? "" : errors }).toEqual({ status: 0, line, errors: "" });
  return output;
}

function lineOf(lines: readonly string[], beginning: string): string {
  const found = lines.find((line) => line.startsWith(beginning));
  if (found === undefined) throw new Error(`no line begins with ${beginning}: ${lines.join("\n")}`);
  return found.replace(/ {3}\(.*\)$/, "");
}

for (const name of ["vm.raw", "it's, 100% odd & ü"]) {
  test(`what copies and looks works as it is printed, for the export "${name}"`, async (context) => {
    needTool(context, "bash", "cmp", "fio", "qemu-img", "nbdinfo", "nbdcopy");
    const { cwd, lines } = await advice(name, "--bitmap", "it's daily");
    await paste(lineOf(lines, "qemu-img convert"), cwd);
    await peer("qemu-img", "compare", "-U", "-F", "raw", join(cwd, "copy.qcow2"), join(cwd, "vm.raw"));
    await paste(lineOf(lines, "nbdcopy"), cwd);
    await peer("cmp", join(cwd, "copy.raw"), join(cwd, "vm.raw"));
    expect(await paste(lineOf(lines, "nbdinfo --map 'nbd"), cwd)).toMatch(/^ +0 +4096 +0 +data$/m);
    const fio = lineOf(lines, "fio").replace("--runtime=10", "--runtime=1");
    expect(await paste(fio, cwd)).toMatch(/read: IOPS=/);

    expect(await paste(lineOf(lines, "nbdinfo --map='qemu"), cwd)).toBe(
      `${"0".padStart(10)}  ${"1048576".padStart(10)}    0  clean\n`,
    );
    expect(JSON.parse(await paste(lineOf(lines, "qemu-img map"), cwd))).toMatchObject([
      { length: 2 ** 20, data: true },
    ]);
    expect(await paste(lineOf(lines, "heirloom pull"), cwd)).toContain("it's daily says of 1 MiB: 0 B of data");
  });

  test(`QEMU takes the drive and the node as they are printed, for the export "${name}"`, async (context) => {
    needTool(context, "bash", "qemu-system-x86_64");
    const { cwd, lines } = await advice(name);
    for (const beginning of ["qemu-system-x86_64", "or -blockdev"]) {
      const options = lineOf(lines, beginning).replace(/^(qemu-system-x86_64 \.\.\.|or) /, "");
      const monitor = "-nodefaults -display none -S -monitor stdio";
      const output = await paste(`printf 'info block\\nquit\\n' | qemu-system-x86_64 ${monitor} ${options}`, cwd);
      expect(output).toMatch(/(disk|virtio0).*nbd/);
    }
  });
}
