/** Tools and rights that a test cannot do without: it skips with a sentence, or fails where CI promises them. */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished, type TestContext } from "vitest";

export function needTool(context: TestContext, tool: string): void {
  if (spawnSync("sh", ["-c", `command -v ${tool}`]).status === 0) return;
  if (process.env.CI) throw new Error(`${tool} is not installed, and CI must have it`);
  context.skip(`${tool} is not installed`);
}

export function runOrThrow(tool: string, ...args: string[]): string {
  return execFileSync(tool, args, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
}

/** A directory that goes when the test ends. */
export function scratchDirectory(base: string = tmpdir()): string {
  const directory = mkdtempSync(join(base, "heirloom-nbd-"));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}
