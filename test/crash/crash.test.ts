import { describe, expect, it } from "vitest";
import { explore, faults } from "./index.mjs";

describe("every crash of a recorded run", () => {
  it("recovers bitmaps that miss nothing and say little too much", async () => {
    const { failure, kills, losses, resumedKills, resumedLosses } = await explore({ from: 1, to: 30 });
    expect(failure).toBeUndefined();
    expect(kills).toBeGreaterThan(8000);
    expect(losses).toBeGreaterThan(30_000);
    expect(resumedKills).toBeGreaterThan(500);
    expect(resumedLosses).toBeGreaterThan(500);
  }, 300_000);
});

describe("a rule left out is seen", () => {
  for (const fault of faults) {
    it(
      fault.name,
      async () => {
        const { failure, seeds } = await explore({ from: 1, to: fault.seeds ?? 100, fault });
        expect(failure?.message ?? `nothing in ${seeds} runs`).toMatch(fault.expect);
      },
      300_000,
    );
  }
});
