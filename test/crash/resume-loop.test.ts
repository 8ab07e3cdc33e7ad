import { expect, it } from "vitest";
import { resumeLoop } from "./resume-loop.mjs";

const rounds = process.env.CI === undefined ? 2 : 8;

it(`${rounds} resumable backups, each killed a few times: each ends with the point in time that it began with`, async () => {
  const seed = String(Date.now());
  const lines: string[] = [];
  const result = await resumeLoop({ rounds, seed, report: (line: string) => lines.push(line) }).catch(
    (error: unknown) => {
      throw new Error(`seed ${seed}:\n${lines.join("\n")}`, { cause: error });
    },
  );
  expect(result.rounds).toBe(rounds);
  expect(result.resumed).toBeGreaterThan(0);
}, 900_000);
