/**
 * The same seeded sequences of commands and guest writes against qemu-storage-daemon and ours: replies, events, jobs,
 * bitmaps and targets must be equal, but for what README.md lists.
 *
 * HEIRLOOM_DIFFERENTIAL_SEQUENCES says how many, HEIRLOOM_SEED where to begin.
 */
import { spawnSync } from "node:child_process";
import { expect, test } from "vitest";
import { Choice } from "./random.ts";
import { Pair, shrink, tell } from "./run.ts";
import { makeSequence } from "./steps.ts";

const sequences = Number(process.env.HEIRLOOM_DIFFERENTIAL_SEQUENCES ?? 40);
const first = Number(process.env.HEIRLOOM_SEED ?? 1);

test("sequences of commands and writes go the same way", { timeout: sequences * 20_000 }, async (context) => {
  if (spawnSync("sh", ["-c", "command -v qemu-storage-daemon"]).status !== 0) {
    if (process.env.CI) throw new Error("qemu-storage-daemon is not installed, and CI must have it");
    context.skip("qemu-storage-daemon is not installed");
  }
  const pair = new Pair();
  try {
    for (let seed = first; seed < first + sequences; seed++) {
      const choice = new Choice(seed);
      const steps = makeSequence(choice, 5 + choice.below(35));
      const found = await pair.run(steps, seed);
      if (found !== undefined) expect.fail(tell(await shrink(pair, found, seed), seed));
    }
  } finally {
    await pair.stop();
  }
});
