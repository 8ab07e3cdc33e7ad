import { describe, expect, it } from "vitest";
import { explore, faults } from "./index.mjs";

describe("a fault in the code under test is seen", () => {
  for (const fault of faults) {
    it(
      fault.name,
      async () => {
        const result = await explore(
          { scenario: fault.scenario, mode: "seeds", from: 1, count: fault.seeds ?? 4000 },
          fault,
        );
        expect(result.failure?.message ?? `nothing after ${result.schedules} schedules`).toMatch(fault.expect);
      },
      90_000,
    );
  }
});
