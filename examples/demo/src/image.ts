/** The disk that is backed up: an ext4 image with real files, a raw pattern, or a copy of an image that was given. */
import { closeSync, cpSync, mkdirSync, openSync, rmSync, type Stats, statSync, truncateSync, writeSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { Random } from "@heirloom/example-seed";
import { DemoError } from "./demo-error.ts";
import { dataOf, makeFileSystem, type Tools } from "./ext4.ts";
import { bytes } from "./format.ts";
import { copySparse } from "./sparse-copy.ts";
import type { Workplace } from "./workplace.ts";

/** Bytes of the disk where guests may write. */
export interface Area {
  readonly offset: number;
  readonly length: number;
}

export interface Image {
  readonly path: string;
  readonly length: number;
  readonly areas: readonly Area[];
  /** A file system that stays sound at every instant, so that e2fsck has a say. */
  readonly checked: boolean;
  /** What it is, for people. */
  readonly what: string;
}

const MiB = 1024 * 1024;
export const defaultLength: number = 256 * MiB;
const lengthMin = 8 * MiB;

/** Bytes of an image that was given. @throws DemoError */
export function lengthOf(image: string): number {
  const found = statusOf(image);
  if (found === undefined) throw new DemoError(`expected an image at ${image}, but there is no such file`);
  if (found.isDirectory()) throw new DemoError(`expected an image, but ${image} is a directory`);
  if (!found.isFile()) throw new DemoError(`expected an image in a regular file, which ${image} is not`);
  if (found.size < lengthMin)
    throw new DemoError(`expected an image of at least ${bytes(lengthMin)}, but ${image} has ${bytes(found.size)}`);
  return found.size;
}

function statusOf(image: string): Stats | undefined {
  try {
    return statSync(image, { throwIfNoEntry: false });
  } catch (error) {
    throw new DemoError(`expected an image that can be looked at (${(error as Error).message})`);
  }
}

export function copyImage(given: string, workplace: Workplace): Image {
  const length = lengthOf(given);
  const path = workplace.path("disk.img");
  try {
    copySparse(given, path);
  } catch (error) {
    throw new DemoError(`expected to copy ${given} (${(error as Error).message})`);
  }
  return {
    path,
    length,
    areas: [{ offset: 0, length }],
    checked: false,
    what: `a copy of ${given}, written anywhere; e2fsck is not run`,
  };
}

/** Every 4 KiB of it says where it is. @param why it is not ext4 */
export function makeRawImage(workplace: Workplace, seed: number, why: string): Image {
  const path = workplace.path("disk.img");
  writePattern(path, defaultLength / 2, new Random(seed));
  truncateSync(path, defaultLength);
  const what = `a raw pattern, written anywhere: ${why}`;
  return { path, length: defaultLength, areas: [{ offset: 0, length: defaultLength }], checked: false, what };
}

const databases = ["orders", "events", "mail"];
const databaseLength = 32 * MiB;

/** Guests write inside these files only, which were there before: at every instant the file system is sound. */
export async function makeExt4Image(tools: Tools, workplace: Workplace, seed: number): Promise<Image> {
  const tree = workplace.path("files");
  const files = fillTree(tree, new Random(seed));
  const path = workplace.path("disk.img");
  closeSync(openSync(path, "wx"));
  truncateSync(path, defaultLength);
  const areas: Area[] = [];
  try {
    await makeFileSystem(tools, path, tree);
    for (const name of databases) areas.push(...(await dataOf(tools, path, `/db/${name}.db`)));
  } catch (error) {
    // A mkfs.ext4 of before 2016 knows no -d, for one: the demo is about backups, and goes on without a file system.
    rmSync(path);
    return makeRawImage(workplace, seed, (error as Error).message.trim().replaceAll("\n", "; "));
  } finally {
    rmSync(tree, { recursive: true });
  }
  return {
    path,
    length: defaultLength,
    areas: areas.sort((a, b) => a.offset - b.offset),
    checked: true,
    what: `ext4 with ${files} files; guests write inside ${databases.length} of ${bytes(databaseLength)} each`,
  };
}

/** Preallocated database files, and this project's own sources. @returns how many files there are */
function fillTree(tree: string, random: Random): number {
  mkdirSync(join(tree, "db"), { recursive: true });
  for (const name of databases) writePattern(join(tree, "db", `${name}.db`), databaseLength, random);
  const project = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "..");
  let files = databases.length;
  for (const part of ["packages", "examples"]) {
    cpSync(join(project, part), join(tree, "heirloom", part), {
      recursive: true,
      filter: (from) => {
        if (/\/(node_modules|dist)$/.test(from)) return false;
        const found = statSync(from);
        if (found.isFile()) files++;
        return found.isFile() || found.isDirectory();
      },
    });
  }
  return files;
}

/** `length` bytes of noise, in which each 4 KiB begins with its own number: no two are equal, none is zero. */
function writePattern(path: string, length: number, random: Random): void {
  const noise = Buffer.from(random.bytes(MiB));
  const fd = openSync(path, "wx");
  try {
    for (let offset = 0; offset < length; offset += noise.length) {
      for (let at = 0; at < noise.length; at += 4096) noise.writeDoubleLE(offset + at + 1, at);
      writeSync(fd, noise, 0, noise.length, offset);
    }
  } finally {
    closeSync(fd);
  }
}
