import { availableParallelism } from "node:os";
import { BaseSequencer, type TestSpecification } from "vitest/node";
import { defineConfig } from "vitest/config";

/** Where CI wants the results as JSON. */
const report = process.env.HEIRLOOM_TEST_REPORT;

/** What spans packages takes minutes (models, guests, crashes), and begins first: at the end one of the cores would be idle. */
class LongOnesFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const sorted = await super.sort(files);
    const isLong = ({ moduleId }: TestSpecification): number => (/\/packages\//.test(moduleId) ? 1 : 0);
    return [...sorted].sort((one, other) => isLong(one) - isLong(other));
  }
}

// Tests import the packages by name, so they run what ships: dist, workers included.
export default defineConfig({
  test: {
    include: ["packages/*/src/**/*.test.ts", "examples/**/*.test.ts", "test/**/*.test.ts"],
    exclude: ["**/dist/**", "**/node_modules/**"],
    testTimeout: 30_000,
    pool: "forks",
    maxWorkers: availableParallelism(), // the default leaves one core idle: many a test waits
    sequence: { sequencer: LongOnesFirst },
    reporters: report === undefined ? ["default"] : ["default", ["json", { outputFile: report }]],
  },
});
