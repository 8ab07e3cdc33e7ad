import { expect, it } from "vitest";
import { hasFio, killLoop } from "./kill-loop.mjs";

const rounds = process.env.CI === undefined ? 4 : 30;

it(`${rounds} kills of a daemon with guests and backups: each time the next incremental restores the disk`, async () => {
  const seed = String(Date.now());
  const lines: string[] = [];
  const result = await killLoop({ rounds, seed, fio: hasFio(), report: (line: string) => lines.push(line) }).catch(
    (error: unknown) => {
      throw new Error(`seed ${seed}:\n${lines.join("\n")}`, { cause: error });
    },
  );
  expect(result.rounds).toBe(rounds);
}, 900_000);
