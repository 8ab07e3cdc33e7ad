/**
 * The same seeded sequences of commands, guest writes, faults and cancels against qemu-storage-daemon and ours: replies,
 * events, jobs, nodes, bitmaps and targets must be equal, but for what README.md lists. `main.mjs` runs thousands.
 */
import { spawnSync } from "node:child_process";
import { expect, test } from "vitest";
import { runSequences } from "./sequences.mjs";

const seconds = process.env.CI === undefined ? 15 : 100;

test(`sequences of commands and writes go the same way, for ${seconds} s`, { timeout: 400_000 }, async (context) => {
  if (spawnSync("sh", ["-c", "command -v qemu-storage-daemon"]).status !== 0) {
    if (process.env.CI) throw new Error("qemu-storage-daemon is not installed, and CI must have it");
    context.skip("qemu-storage-daemon is not installed");
  }
  const told: string[] = [];
  const sums = await runSequences({
    seed: Number(process.env.HEIRLOOM_SEED ?? 1),
    sequences: Infinity,
    seconds,
    report: (line) => told.push(line),
  });
  expect(sums.differences, told.join("\n")).toBe(0);
  expect(sums.sequences).toBeGreaterThan(0);
});
