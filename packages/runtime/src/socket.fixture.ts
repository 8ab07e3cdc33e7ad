/** Where a test's server listens. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";

/** In a directory that goes when the test ends. */
export function socketPath(): string {
  const directory = mkdtempSync(join(tmpdir(), "heirloom-runtime-"));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  return join(directory, "socket");
}
