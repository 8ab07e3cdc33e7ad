import { describe, expect, it } from "vitest";
import { describeFailure, explore } from "./index.mjs";

/** The smallest scenarios, and how many preemptions, early time-outs and deaths a path may hold. Larger bounds: run.mjs. */
const bounds: [scenario: string, bound: number][] = [
  ["gate", 2],
  ["table", 2],
  ["same-cluster", 2],
  ["bitmap", 2],
  ["bitmap-fill", 2],
  ["bitmap-death", 1],
  ["gate-death", 1],
  ["group", 1],
  ["stack", 1],
  ["copier-small", 1],
  ["kernel-small", 1],
  ["reader", 1],
];

describe("the code that ships holds its invariants on every path", () => {
  for (const [scenario, bound] of bounds) {
    it(`${scenario}, up to ${bound} switches that nothing forced`, async () => {
      const result = await explore({ scenario, mode: "exhaustive", from: 0, count: 200_000, bound });
      if (result.failure !== undefined) expect.fail(describeFailure(scenario, result.failure));
      expect(result.complete).toBe(true);
    }, 120_000);
  }
});
