/** e2fsprogs, where it is there: makes an image, says where a file's blocks lie, and checks a file system. */
import { execFile } from "node:child_process";
import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";
import { promisify } from "node:util";
import type { Area } from "./image.ts";

const run = promisify(execFile);

export interface Tools {
  readonly mkfs: string;
  readonly debugfs: string;
  readonly e2fsck: string;
}

/** All three or none; distributions keep them where a user's PATH may not look. `HEIRLOOM_DEMO_TOOLS` looks elsewhere. */
export function findTools(): Tools | undefined {
  const directories = process.env["HEIRLOOM_DEMO_TOOLS"]?.split(delimiter) ?? [
    ...(process.env["PATH"] ?? "").split(delimiter),
    "/sbin",
    "/usr/sbin",
    "/usr/local/sbin",
  ];
  const find = (name: string): string | undefined =>
    directories
      .filter((directory) => directory !== "")
      .map((directory) => join(directory, name))
      .find(isExecutable);
  const [mkfs, debugfs, e2fsck] = [find("mkfs.ext4"), find("debugfs"), find("e2fsck")];
  return mkfs === undefined || debugfs === undefined || e2fsck === undefined ? undefined : { mkfs, debugfs, e2fsck };
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** A file system in the file `image` (which has its length) with what is in `directory`. */
export async function makeFileSystem(tools: Tools, image: string, directory: string): Promise<void> {
  await run(tools.mkfs, ["-q", "-F", "-L", "heirloom", "-d", directory, image]);
}

/**
 * Where the data of a file lies in the image. Nothing of the file system itself: leaves of the extent tree only (`-l`), so
 * a guest may write there what it likes.
 */
export async function dataOf(tools: Tools, image: string, file: string): Promise<Area[]> {
  const blockSize = await blockSizeOf(tools, image);
  const { stdout } = await run(tools.debugfs, ["-R", `dump_extents -l ${file}`, image]);
  const areas: Area[] = [];
  // Level Entries       Logical      Physical Length Flags
  //  0/ 0   1/  4     0 -  3806  4386 -  8192   3807
  for (const line of stdout.split("\n")) {
    const match = /^\s*\d+\/\s*\d+\s+\d+\/\s*\d+\s+\d+\s*-\s*\d+\s+(\d+)\s*-\s*(\d+)\s+(\d+)/.exec(line);
    if (match === null) continue;
    const [first, last, blocks] = match.slice(1).map(Number);
    if (last - first + 1 !== blocks) throw new Error(`debugfs: an extent whose ends and length differ: ${line}`);
    areas.push({ offset: first * blockSize, length: blocks * blockSize });
  }
  if (areas.length === 0) throw new Error(`debugfs: expected extents of ${file}, got: ${stdout}`);
  return areas;
}

async function blockSizeOf(tools: Tools, image: string): Promise<number> {
  const { stdout } = await run(tools.debugfs, ["-R", "show_super_stats -h", image]);
  const match = /^Block size:\s+(\d+)$/m.exec(stdout);
  if (match === null) throw new Error("debugfs: expected a block size");
  return Number(match[1]);
}

/** @returns what e2fsck says of an image that it would repair; undefined if it finds nothing */
export async function checkFileSystem(tools: Tools, image: string): Promise<string | undefined> {
  try {
    await run(tools.e2fsck, ["-f", "-n", image]);
    return undefined;
  } catch (error) {
    const { stdout, message } = error as Error & { stdout?: string };
    return stdout === undefined || stdout === "" ? message : stdout;
  }
}
