/** `--pid-file`: there when clients can connect, and gone when the command has ended. */
import { readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { CommandError } from "../command-error.ts";

/** Whole or not at all: whoever waits for it finds a number in it. @returns what removes it, if it is still ours */
export function writePidFile(path: string): () => void {
  const content = `${process.pid}\n`;
  const fresh = `${path}.${process.pid}`;
  try {
    writeFileSync(fresh, content, { flag: "wx", mode: 0o644 });
    renameSync(fresh, path);
  } catch (error) {
    rmSync(fresh, { force: true });
    throw new CommandError(`write the PID file '${path}': ${(error as Error).message}`, [], { cause: error });
  }
  return () => {
    try {
      if (readFileSync(path, "utf8") === content) rmSync(path);
    } catch {
      // somebody has removed it
    }
  };
}
