import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

function block(readme: string, language: string): string {
  const text = new RegExp(`\`\`\`${language}\\n([^]*?)\`\`\``).exec(readme)?.[1];
  if (text === undefined) throw new Error(`README.md has no ${language} block`);
  return text;
}

test("the README's example prints what the README says", () => {
  const cwd = fileURLToPath(new URL("..", import.meta.url));
  const readme = readFileSync(`${cwd}/README.md`, "utf8");
  const output = execFileSync(process.execPath, ["--input-type=module", "-e", block(readme, "js")], { cwd });
  expect(output.toString()).toBe(block(readme, "text"));
});
