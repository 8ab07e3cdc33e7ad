/**
 * Every example runs as its reader would run it, and exits 0 only if what it claims was verified. The demo has a run of
 * its own in CI (`npm run demo`).
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync } from "node:fs";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const examples = fileURLToPath(new URL("../examples", import.meta.url));
const programs = readdirSync(examples).filter(
  (name) => name !== "demo" && existsSync(`${examples}/${name}/src/main.ts`),
);

test("the examples that the README lists are there", () => {
  expect(programs.sort()).toEqual([
    "boot-storm",
    "database",
    "driver-module",
    "embedder-thread",
    "failing-target",
    "group",
  ]);
});

for (const name of programs) {
  test(`example ${name} verifies what it claims`, { timeout: 120_000 }, async () => {
    const child = spawn(process.execPath, [`${examples}/${name}/dist/main.js`], { stdio: ["ignore", "pipe", "pipe"] });
    const [output, errors] = await Promise.all([text(child.stdout), text(child.stderr), once(child, "exit")]);
    expect({ code: child.exitCode, errors }, output).toEqual({ code: 0, errors: "" });
  });
}
