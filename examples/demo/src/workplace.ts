/**
 * The working directory: in the system's temporary directory, with room for what the demo makes, and gone at the end
 * whatever happens (except kill -9).
 */
import { closeSync, constants, mkdtempSync, openSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileSystemOf } from "@heirloom/block";
import { DemoError } from "./demo-error.ts";
import { bytes } from "./format.ts";

export interface Workplace {
  readonly directory: string;
  /** Memory, and not a disk: the spill must be allowed there. */
  readonly isTmpfs: boolean;
  readonly path: (name: string) => string;
  readonly remove: () => void;
}

/** @param needed bytes that must be free @throws DemoError */
export function makeWorkplace(needed: number): Workplace {
  const parent = tmpdir();
  const facts = factsOf(parent);
  if (facts.available < needed) {
    throw new DemoError(
      `expected ${bytes(needed)} free in ${parent} (the image, its backups, a shadow copy, a rebuilt image), but there are ` +
        `${bytes(facts.available)}; TMPDIR=/some/where makes it work elsewhere`,
    );
  }
  const directory = makeDirectory(parent);
  return {
    directory,
    isTmpfs: facts.isTmpfs,
    path: (name) => join(directory, name),
    remove: () => removeTree(directory),
  };
}

/** Stopped in the middle, threads are still making files: what came while the rest was removed goes at the next try. */
function removeTree(directory: string): void {
  const sleep = new Int32Array(new SharedArrayBuffer(4));
  for (let left = 20; ; left--) {
    try {
      rmSync(directory, { recursive: true, force: true });
      return;
    } catch (error) {
      if (left === 0) throw error;
      Atomics.wait(sleep, 0, 0, 25);
    }
  }
}

function makeDirectory(parent: string): string {
  try {
    return mkdtempSync(join(parent, "heirloom-demo-"));
  } catch (error) {
    throw new DemoError(
      `expected to make a directory in ${parent} (${(error as Error).message}); TMPDIR chooses another`,
    );
  }
}

function factsOf(directory: string): { available: number; isTmpfs: boolean } {
  let fd: number;
  try {
    fd = openSync(directory, constants.O_RDONLY | constants.O_DIRECTORY);
  } catch (error) {
    throw new DemoError(
      `expected ${directory} to be a directory (${(error as Error).message}); TMPDIR chooses another`,
    );
  }
  const facts = fileSystemOf(fd);
  closeSync(fd);
  // Without an answer the demo finds out by itself whether there is room.
  if (typeof facts === "number") return { available: Number.POSITIVE_INFINITY, isTmpfs: false };
  return { available: facts.bytesAvailable, isTmpfs: facts.isTmpfs };
}
