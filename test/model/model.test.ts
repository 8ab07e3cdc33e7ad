/** The models against their table of runs, as far as it takes less than two minutes; `node test/model/check.mjs` does all. */
import { execFile, spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const check = fileURLToPath(new URL("check.mjs", import.meta.url));
const isMissing = (program: string, flag: string): boolean => spawnSync(program, [flag]).status !== 0;

test(
  "every rule of the protocol holds in the models, and every planted fault is caught",
  { timeout: 900_000 },
  async ({ skip }) => {
    const missing = isMissing("spin", "-V") || isMissing("cc", "--version");
    skip(missing && !process.env["CI"], "spin or a C compiler is not installed, so the models are not checked");
    const { code, output } = await new Promise<{ code: number; output: string }>((resolve) => {
      const child = execFile(process.execPath, [check, "--quick"], { maxBuffer: 1 << 24 }, (_error, stdout, stderr) => {
        resolve({ code: child.exitCode ?? -1, output: stdout + stderr });
      });
    });
    const unexpected = output.split("\n").filter((line) => line !== "" && !line.startsWith("ok "));
    expect({ code, unexpected }).toEqual({ code: 0, unexpected: [expect.stringContaining("all as expected")] });
  },
);
