import { describe, expect, it } from "vitest";
import { describeFailure, explore, scenarioThreads } from "./index.mjs";

/** Ends that a scenario is about: one that never reaches them proves nothing. */
const mustReach: Record<string, RegExp[]> = {
  refused: [/^frozen$/, /^refused$/],
  copier: [/^abdicated$/],
  "copier-cancel": [/^reclaimed/],
  spill: [/^abdicated/],
  "spill-break": [/^reclaimed, spill full/, /^abdicated$/],
  "spill-kernel": [/^reclaimed, spill full/, /^abdicated$/],
  "spill-refuses-guest": [/^abdicated, a guest's write failed/, /^abdicated$/],
  "death-of-a-guest": [/^reclaimed, a thread died/, /^abdicated, a thread died/],
  "death-of-a-copier": [/^reclaimed, a thread died/, /^abdicated, a thread died/],
  "death-of-a-reader": [/^reclaimed, a thread died/],
};

describe("the code that ships holds its invariants under random schedules", () => {
  for (const scenario of Object.keys(scenarioThreads)) {
    it(
      scenario,
      async () => {
        const result = await explore({ scenario, mode: "seeds", from: 1, count: 400 });
        if (result.failure !== undefined) expect.fail(describeFailure(scenario, result.failure));
        expect(result.schedules).toBe(401);
        for (const kind of mustReach[scenario] ?? [])
          expect(Object.keys(result.kinds)).toContainEqual(expect.stringMatching(kind));
      },
      60_000,
    );
  }
});

describe("a seed", () => {
  it("gives the same steps with the same results again", async () => {
    const job = { scenario: "spill-kernel", mode: "seeds", from: 40, count: 60 } as const;
    const [one, other] = [await explore(job), await explore(job)];
    expect(other).toMatchObject({ hash: one.hash, steps: one.steps, kinds: one.kinds });
    const elsewhere = await explore({ ...job, from: 41 });
    expect(elsewhere.hash).not.toBe(one.hash);
  }, 60_000);

  it("is all that it takes to see a failure again", async () => {
    const { faults } = await import("./index.mjs");
    const fault = faults.find(({ name }) => name === "a guest does not look again after its claim");
    if (fault === undefined) expect.fail("the fault was renamed");
    const first = await explore({ scenario: fault.scenario, mode: "seeds", from: 1, count: 4000 }, fault);
    if (first.failure === undefined) expect.fail("the fault was not seen");
    const again = await explore({ scenario: fault.scenario, mode: "seeds", from: first.failure.seed, count: 1 }, fault);
    expect(again.failure).toEqual(first.failure);
  }, 60_000);
});
