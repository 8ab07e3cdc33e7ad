/** Programs of others, run beside our event loop: it serves them. */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { connect } from "node:net";
import { onTestFinished } from "vitest";

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

/** Starts a server of somebody else's on a Unix path; it goes when the test ends. Resolves when it accepts. */
export async function startPeer(path: string, tool: string, ...args: readonly string[]): Promise<ChildProcess> {
  const server = spawn(tool, args, { stdio: "ignore" });
  onTestFinished(() => void server.kill());
  const ended = new Promise<never>((_, reject) => {
    server.once("error", reject);
    server.once("exit", (status) => reject(new Error(`${tool} ended with ${status}`)));
  });
  ended.catch(() => undefined);
  // Its socket is there before it listens, so the only sign is to be let in.
  while (!(await Promise.race([answers(path), ended])));
  return server;
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path, () => {
      socket.destroy();
      resolve(true);
    });
    socket.on("error", () => setTimeout(resolve, 10, false));
  });
}
