import { defineConfig } from "vitest/config";

// Tests import the packages by name, so they run what ships: dist, workers included.
export default defineConfig({
  test: {
    include: ["packages/*/src/**/*.test.ts", "examples/**/*.test.ts", "test/**/*.test.ts"],
    testTimeout: 30_000,
    pool: "forks",
  },
});
