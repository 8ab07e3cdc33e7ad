/** The examples of the README, so that tests run what people read. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";

const readme = readFileSync(new URL("../README.md", import.meta.url), "utf8");

export function readmeBlock(fence: string): string {
  const found = readme.split("```" + fence + "\n")[1]?.split("```")[0];
  assert(found !== undefined, `README.md has a block ${fence}`);
  return found;
}

export const driverSource: string = readmeBlock("js example=driver");
