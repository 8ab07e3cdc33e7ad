/** The man page says what --help says, and reads without complaints. */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { needTool, run } from "../heirloom/command.fixture.ts";

const page = fileURLToPath(new URL("../../man/heirloom-storage-daemon.1", import.meta.url));
const program = fileURLToPath(new URL("../../dist/storage-daemon/main.js", import.meta.url));

function options(text: string): string[] {
  const found = text.matchAll(/(?<![\w-])--[a-z][a-z-]*/g);
  return [...new Set([...found].map(([name]) => name))].sort();
}

test("it has the options that --help has, and those alone", async () => {
  const { output } = await run(process.execPath, [program, "--help"]);
  const text = readFileSync(page, "utf8")
    .replaceAll("\\-", "-")
    .replace(/^\.SH EXAMPLES.*/ms, "");
  expect(options(text)).toEqual(options(output));
});

test("man reads it without a warning", async (context) => {
  needTool(context, "man");
  const { status, errors, output } = await run("man", ["--warnings=w", "-E", "UTF-8", "-l", page], {
    env: { ...process.env, MANWIDTH: "100" },
  });
  expect({ status, errors }).toEqual({ status: 0, errors: "" });
  expect(output).toContain("Exports a node over NBD.");
});
