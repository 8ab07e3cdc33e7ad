/**
 * Going to the background. Node cannot fork, so the parent starts the program anew in a session of its own, passes on what
 * it says while it starts, and exits when it says that it is ready, or with its status if it ends before.
 */
import { spawn } from "node:child_process";
import { closeSync, writeSync } from "node:fs";

const variable = "HEIRLOOM_READY_FD";
const readyFd = 3;

export function isBackground(): boolean {
  return process.env[variable] !== undefined;
}

/** @returns the exit status of the parent */
export async function startInBackground(): Promise<number> {
  const child = spawn(process.execPath, [...process.execArgv, ...process.argv.slice(1)], {
    detached: true,
    stdio: ["ignore", "ignore", "pipe", "pipe"],
    env: { ...process.env, [variable]: String(readyFd) },
  });
  const [, , errors, ready] = child.stdio as unknown as NodeJS.ReadableStream[];
  errors.pipe(process.stderr, { end: false });
  const status = await new Promise<number>((resolve) => {
    ready.once("data", () => resolve(0));
    child.once("error", () => resolve(1));
    child.once("close", (code) => resolve(code ?? 1));
  });
  if (status === 0) {
    // Nothing of the child may keep us.
    errors.unpipe(process.stderr);
    for (const stream of [errors, ready] as unknown as { destroy: () => void }[]) stream.destroy();
    child.unref();
  }
  return status;
}

/** Tells the parent, if there is one, that everything is set up. */
export function tellReady(): void {
  if (!isBackground()) return;
  writeSync(readyFd, "1");
  closeSync(readyFd);
  process.chdir("/");
}
