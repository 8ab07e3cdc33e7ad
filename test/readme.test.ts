/** The examples of the READMEs run and print what the READMEs say; the sums of the engine's layouts are the code's. */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { gateBytes } from "../packages/engine/dist/gate-layout.js";
import { ringBytes, dataBytes } from "../packages/engine/dist/io-ring.js";
import { jobWords } from "../packages/engine/dist/job-layout.js";
import { indexSizeFor, spillWords } from "../packages/engine/dist/spill-layout.js";
import { viewBytes } from "../packages/engine/dist/view-layout.js";

const root = fileURLToPath(new URL("..", import.meta.url));

function block(readme: string, fence: string): string {
  const found = readFileSync(readme, "utf8").split(`\`\`\`${fence}\n`)[1]?.split("```")[0];
  if (found === undefined) throw new Error(`${readme} has no block ${fence}`);
  return found;
}

/** Where the packages that an example imports are found by name. */
const readmes = [
  { name: "root", file: `${root}README.md`, cwd: `${root}test` },
  { name: "nbd", file: `${root}packages/nbd/README.md`, cwd: `${root}test` },
  { name: "engine", file: `${root}packages/engine/README.md`, cwd: `${root}packages/engine` },
  { name: "journal", file: `${root}packages/journal/README.md`, cwd: `${root}test` },
];

for (const { name, file, cwd } of readmes) {
  test(`the example in the README of ${name} prints what it says`, () => {
    const program = block(file, "js example=usage");
    const output = execFileSync(process.execPath, ["--input-type=module", "-e", program], { cwd, encoding: "utf8" });
    expect(output).toBe(block(file, "text example-output=usage"));
  });
}

test("the sums in the engine's README are those of the layouts", () => {
  const readme = readFileSync(`${root}packages/engine/README.md`, "utf8");
  const sums = {
    gate: gateBytes,
    view2GiB: viewBytes(23, 2 ** 31 / 4096, false),
    view1TiB: viewBytes(23, 2 ** 40 / 65536, false),
    spill: 4 * spillWords(2 ** 25 / 4096, 2 ** 31 / 4096, 4096, 0),
    index: 4 * indexSizeFor(2 ** 25 / 4096 + 2 ** 31 / 4096 + 4096),
    ring: ringBytes + dataBytes,
  };
  expect(jobWords).toBe(64);
  for (const [name, sum] of Object.entries(sums)) expect(readme, name).toContain(sum.toLocaleString("en"));
});
