/** Where to listen when nobody says: a directory that belongs to this user alone. */
import { mkdirSync } from "node:fs";
import { basename, join } from "node:path";
import { CommandError, UsageError } from "../command-error.ts";

/** `$XDG_RUNTIME_DIR/heirloom/IMAGE.sock`, or `/run/heirloom/IMAGE.sock` for root. Makes the directory, mode 0700. */
export function defaultSocketPath(imagePath: string, environment: NodeJS.ProcessEnv): string {
  const directory = runtimeDirectory(environment);
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
  } catch (error) {
    throw new CommandError(
      `make the directory '${directory}' for the socket: ${(error as Error).message}`,
      ["Choose where to listen: --socket PATH, or --listen HOST:PORT"],
      { cause: error },
    );
  }
  return join(directory, `${basename(imagePath)}.sock`);
}

function runtimeDirectory(environment: NodeJS.ProcessEnv): string {
  const { XDG_RUNTIME_DIR: own = "" } = environment;
  if (own !== "") return join(own, "heirloom");
  if (process.getuid?.() === 0) return "/run/heirloom";
  throw new UsageError(
    "there is no place of your own for a socket: XDG_RUNTIME_DIR is not set",
    "Choose where to listen: --socket PATH, or --listen HOST:PORT",
  );
}
