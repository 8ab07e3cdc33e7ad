import { describe, expect, it } from "vitest";
import { explore, faults, seedsOf } from "./index.mjs";

describe("every crash of a recorded run", () => {
  it("recovers bitmaps that miss nothing and say little too much, also where the recovery crashes at any of its steps", async () => {
    const { failure, kills, losses, again } = await explore({ from: 1, to: 60 });
    expect(failure).toBeUndefined();
    expect(kills).toBeGreaterThan(8000);
    expect(losses).toBeGreaterThan(30_000);
    expect(again).toBeGreaterThan(20_000);
  }, 300_000);
});

describe("every crash of a run of resumable jobs", () => {
  it("goes on with the point in time that the job began with, or reclaims; killed, it goes on", async () => {
    const { failure, kills, losses, resumedKills, resumedLosses } = await explore({ from: 1, to: 10, jobs: true });
    expect(failure).toBeUndefined();
    expect(kills).toBeGreaterThan(1500);
    expect(losses).toBeGreaterThan(10_000);
    expect(resumedKills).toBeGreaterThan(400);
    expect(resumedLosses).toBeGreaterThan(200);
  }, 300_000);
});

describe("every crash of a run of resumable jobs whose spill is synced", () => {
  it("goes on, after a power loss too", async () => {
    const { failure, kills, losses, resumedKills, resumedLosses } = await explore({
      from: 1,
      to: 6,
      jobs: true,
      synced: true,
    });
    expect(failure).toBeUndefined();
    expect(kills).toBeGreaterThan(1000);
    expect(losses).toBeGreaterThan(8000);
    expect(resumedKills).toBeGreaterThan(300);
    expect(resumedLosses).toBeGreaterThan(3000);
  }, 300_000);
});

describe("a rule left out is seen", () => {
  for (const fault of faults) {
    it(
      fault.name,
      async () => {
        const { failure, seeds } = await explore({ ...seedsOf(fault), fault });
        expect(failure?.message ?? `nothing in ${seeds} runs`).toMatch(fault.expect);
      },
      300_000,
    );
  }
});
