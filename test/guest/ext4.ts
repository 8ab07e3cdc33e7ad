/** An ext4 image for the guest, and whether an image is a file system as a power cut at one instant would leave it. */
import { execFile } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beginning, type Instant, instantOf, keptFiles, ringSlots, slotLength } from "./steps.ts";

export const blockSize = 4096;
const blocksPerSlot = slotLength / blockSize;

/** A new image with what the guest's first step finds. */
export async function makeImage(image: string, length: number): Promise<void> {
  const root = mkdtempSync(`${image}-root-`);
  try {
    for (const [name, content] of Object.entries(beginning)) {
      if (content === undefined) mkdirSync(join(root, name));
      else writeFileSync(join(root, name), content);
    }
    const made = await run("mkfs.ext4", "-q", "-F", "-b", String(blockSize), "-d", root, image, `${length / 1024}k`);
    if (made.status !== 0) throw new Error(`mkfs.ext4: ${made.text}`);
  } finally {
    rmSync(root, { recursive: true });
  }
}

/**
 * The criterion. On a copy of the image, what a boot does: `e2fsck -p` replays the journal and finishes deletions that were
 * under way (orphans); it looks at nothing else, and if it wants to, the file system had noticed damage itself. After that
 * there is nothing left to excuse: `e2fsck -fn` must find no fault at all, and the files must be those of one instant. (To
 * repair first, with -y, would prove nothing: it makes any image clean.)
 */
export function checkInstant(image: string): Promise<Instant> {
  return withReplayed(image, async (copy, replay, scratch) => {
    if (replay.status === null || replay.status > 1 || replay.text.includes("check forced"))
      return { step: Number.NaN, faults: [`e2fsck -p: ${replay.text}`] };
    const check = await run("e2fsck", "-f", "-n", copy);
    const damage = check.status === 0 ? [] : [`e2fsck -fn after the replay: ${check.text}`];
    const files = join(scratch, "files");
    mkdirSync(files);
    await run("debugfs", "-R", `rdump / ${files}`, copy);
    const { step, faults } = instantOf(files);
    return { step, faults: [...damage, ...faults] };
  });
}

/**
 * The blocks that hold what the steps until `step` left in files, and nothing else may: not the file system's own, of which the
 * journal may hold a later version, nor those of the step under way, which may be as before.
 */
export function settledBlocks(image: string, step: number): Promise<Set<number>> {
  return withReplayed(image, async (copy) => {
    const ring = await blocksOf(copy, "/ring");
    const slot = ((step + 1) % ringSlots) * blocksPerSlot;
    const files = Array.from({ length: Math.min(step, keptFiles) }, (_, index) => `/files/${step - index}`);
    const others = await Promise.all(["/log", ...files].map((path) => blocksOf(copy, path)));
    return new Set([...ring.slice(0, slot), ...ring.slice(slot + blocksPerSlot), ...others.flat()]);
  });
}

/** In the order of the file. */
async function blocksOf(image: string, path: string): Promise<number[]> {
  const { text } = await run("debugfs", "-R", `dump_extents -l ${path}`, image);
  return text.split("\n").flatMap((row) => {
    //  0/ 0   1/  4     0 -  3806  4386 -  8192   3807
    const match = /^\s*\d+\/\s*\d+\s+\d+\/\s*\d+\s+\d+\s*-\s*\d+\s+(\d+)\s*-\s*\d+\s+(\d+)/.exec(row);
    if (match === null) return [];
    const [first, length] = match.slice(1).map(Number) as [number, number];
    return Array.from({ length }, (_, index) => first + index);
  });
}

interface Ran {
  readonly status: number | null;
  readonly text: string;
}

/** On a copy, what a boot does. */
async function withReplayed<Result>(
  image: string,
  use: (copy: string, replay: Ran, scratch: string) => Promise<Result>,
): Promise<Result> {
  const scratch = mkdtempSync(`${image}-check-`);
  try {
    const copy = join(scratch, "image");
    await run("cp", "--sparse=always", image, copy);
    return await use(copy, await run("e2fsck", "-p", copy), scratch);
  } finally {
    rmSync(scratch, { recursive: true });
  }
}

/** Not in a way that stops the event loop: who serves the disk may live on it. */
function run(tool: string, ...args: string[]): Promise<Ran> {
  return new Promise((resolve, reject) => {
    execFile(tool, args, { maxBuffer: 2 ** 26 }, (error, stdout, stderr) => {
      const text = `${stdout}${stderr}`;
      if (error === null) resolve({ status: 0, text });
      else if (typeof error.code === "number") resolve({ status: error.code, text });
      else reject(error);
    });
  });
}
