import { defineConfig } from "vitest/config";

/** Where CI wants the results as JSON. */
const report = process.env.HEIRLOOM_TEST_REPORT;

// Tests import the packages by name, so they run what ships: dist, workers included.
export default defineConfig({
  test: {
    include: ["packages/*/src/**/*.test.ts", "examples/**/*.test.ts", "test/**/*.test.ts"],
    exclude: ["**/dist/**", "**/node_modules/**"],
    testTimeout: 30_000,
    pool: "forks",
    reporters: report === undefined ? ["default"] : ["default", ["json", { outputFile: report }]],
  },
});
