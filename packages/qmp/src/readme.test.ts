/** The README's example runs and prints what the README says. */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const readme = readFileSync(new URL("../README.md", import.meta.url), "utf8");

function block(fence: string): string {
  const found = readme.split(`\`\`\`${fence}\n`)[1]?.split("```")[0];
  if (found === undefined) throw new Error(`the README has no block ${fence}`);
  return found;
}

test("the example prints what it says", () => {
  const cwd = fileURLToPath(new URL("../../cli", import.meta.url));
  const output = execFileSync(process.execPath, ["--input-type=module", "-e", block("js example=usage")], {
    cwd,
    encoding: "utf8",
  });
  expect(output).toBe(block("text example-output=usage"));
});
