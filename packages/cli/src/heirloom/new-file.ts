/** A file that is written under another name and gets its own when it is whole: a file of that name is one that is whole. */
import { closeSync, existsSync, fsyncSync, linkSync, openSync, renameSync, rmSync } from "node:fs";
import { dirname } from "node:path";
import { CommandError } from "./command-error.ts";
import { quoted } from "./shell-words.ts";

/** @throws CommandError where it is there */
export function refuseExisting(path: string): void {
  if (!existsSync(path)) return;
  throw new CommandError(`'${path}' exists already`, [
    "Give a new name; or --update, to overwrite in place what has changed and leave the rest.",
  ]);
}

const suffix = ".partial";

/** What it is called until then, whether or not it is there. */
export function partialName(path: string): string {
  return path + suffix;
}
/** What a file that is called so gets for its name; undefined for any other. */
export function finishedName(path: string): string | undefined {
  return path.endsWith(suffix) ? path.slice(0, -suffix.length) : undefined;
}

/** What it is called until then. @throws CommandError where somebody is at it */
export function unfinishedName(path: string): string {
  const unfinished = partialName(path);
  if (existsSync(unfinished)) {
    throw new CommandError(`'${unfinished}' exists already`, [
      `Another command is at it, or one was killed and has left it behind; then: rm ${quoted(unfinished)}`,
    ]);
  }
  return unfinished;
}

/** Takes nobody's place: what came there meanwhile stays. @throws CommandError, Error of the system */
export function giveName(unfinished: string, path: string): void {
  try {
    linkSync(unfinished, path);
    rmSync(unfinished);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "EEXIST") {
      throw new CommandError(`'${path}' was made by somebody else meanwhile; the backup is '${unfinished}'`);
    }
    refuseExisting(path);
    renameSync(unfinished, path); // a file system without links
  }
  const directory = openSync(dirname(path), "r");
  try {
    fsyncSync(directory);
  } finally {
    closeSync(directory);
  }
}
