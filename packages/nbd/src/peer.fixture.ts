/** Programs of others, run beside our event loop: it serves them. */
import { execFile } from "node:child_process";

export interface Ran {
  readonly status: number;
  readonly output: string;
  readonly errors: string;
}

/** Runs a program to its end, at most 20 seconds. */
export function runPeer(tool: string, ...args: readonly string[]): Promise<Ran> {
  return new Promise((resolve) => {
    execFile(tool, args, { encoding: "utf8", timeout: 20_000 }, (error, output, errors) => {
      const status = error === null ? 0 : typeof error.code === "number" ? error.code : -1;
      resolve({ status, output, errors });
    });
  });
}
