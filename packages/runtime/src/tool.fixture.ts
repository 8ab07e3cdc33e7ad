/** Tools that a test cannot do without: it skips with a sentence, or fails where CI promises them. */
import { spawnSync } from "node:child_process";
import type { TestContext } from "vitest";

export function needTool(context: TestContext, tool: string): void {
  if (spawnSync("sh", ["-c", `command -v ${tool}`]).status === 0) return;
  if (process.env.CI) throw new Error(`${tool} is not installed, and CI must have it`);
  context.skip(`${tool} is not installed`);
}
