/**
 * An image from a chain of artefacts: a full backup, and what builds on it, oldest first.
 *
 * First the whole chain is checked, then a layout is made in memory (for each byte the newest artefact that has it), and
 * then every byte is copied once, from the one raw file that it comes from. Zeroes stay holes. The image appears under its
 * name when it is whole and durable, or not at all.
 */
import { randomUUID } from "node:crypto";
import { type FileHandle, link, open, rename, rm, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { isZero } from "@heirloom/block";
import { type Artefact, readArtefact } from "./artefact-map.ts";
import { HeirloomError } from "./errors.ts";

export interface RebuildOptions {
  /** Replaces an existing file; refused otherwise. */
  readonly overwrite?: boolean;
  /** False: does not wait until the image is on stable storage, for one that is only looked at. */
  readonly durable?: boolean;
  readonly signal?: AbortSignal;
  /** Bytes of data copied, and to copy. */
  readonly onProgress?: (done: number, total: number) => void;
}

export interface Rebuilt {
  readonly path: string;
  /** Bytes of the image. */
  readonly length: number;
  /** Bytes that were copied into it; the rest is holes. */
  readonly data: number;
  /** The point in time, ISO 8601. */
  readonly time: string;
}

/** A piece of the image: bytes of the artefact of that index in the chain, or zeroes. */
export interface Piece {
  readonly offset: number;
  readonly length: number;
  readonly artefact: number;
  readonly kind: "data" | "zero";
}

const copyBytesMax = 4 * 1024 * 1024;
/** A block of zeroes at least this long stays a hole. */
const holeBytes = 64 * 1024;

/**
 * Makes the image of the last artefact's point in time.
 * @param chain the full backup and all that follow it, oldest first: paths of maps, or what `readArtefact` gave
 * @throws HeirloomError of `readArtefact`, ERR_ARTEFACT_CHAIN, ERR_ARTEFACT_LENGTH, ERR_REBUILD_TARGET; AbortError
 * @example
 * await rebuild(["monday.json", "tuesday.json"], "tuesday.img");
 */
export async function rebuild(
  chain: ReadonlyArray<Artefact | string>,
  target: string,
  options: RebuildOptions = {},
): Promise<Rebuilt> {
  checkChainShape(chain);
  if (typeof target !== "string" || target === "") broken("ERR_REBUILD_TARGET", "expected the path of the image");
  const artefacts: Artefact[] = [];
  // Read again, also those that were read before: the files may have changed since.
  for (const given of chain) artefacts.push(await readArtefact(typeof given === "string" ? given : given.path));
  checkChain(artefacts);
  await refuseTarget(artefacts, target, options);
  const { length, time } = artefacts[artefacts.length - 1];
  const pieces = layoutOf(artefacts);
  const temporary = join(dirname(target), `.${basename(target)}.${randomUUID()}.tmp`);
  try {
    const data = await writeImage(temporary, length, artefacts, pieces, options);
    options.signal?.throwIfAborted();
    await putInPlace(temporary, target, options);
    return { path: target, length, data, time };
  } catch (error) {
    if (error instanceof HeirloomError || options.signal?.aborted === true) throw error;
    const desc = `expected to write '${target}' (${(error as Error).message})`;
    throw new HeirloomError("ERR_REBUILD_TARGET", "rebuild", desc, { fields: { target }, cause: error });
  } finally {
    await rm(temporary, { force: true });
  }
}

function checkChainShape(chain: unknown): void {
  const shape = "expected a list of artefacts, or of the paths of their maps";
  if (!Array.isArray(chain)) broken("ERR_ARTEFACT_CHAIN", shape);
  for (const given of chain as unknown[]) {
    const path = typeof given === "object" && given !== null && "path" in given ? given.path : given;
    if (typeof path !== "string") broken("ERR_ARTEFACT_CHAIN", shape);
  }
}

/** Before anything is copied. What is found out later is refused as well. */
async function refuseTarget(chain: readonly Artefact[], target: string, options: RebuildOptions): Promise<void> {
  const found = await identityOf(target);
  if (found === undefined) return;
  if (options.overwrite !== true)
    broken("ERR_REBUILD_TARGET", `expected that nothing is at '${target}', or 'overwrite'`);
  for (const { path, rawPath } of chain) {
    for (const file of [path, rawPath]) {
      if ((await identityOf(file)) !== found) continue;
      broken(
        "ERR_REBUILD_TARGET",
        `expected another image than '${target}', which is a file of the artefact '${path}'`,
      );
    }
  }
}

/** Of a file, whatever it is called; undefined where there is none. */
async function identityOf(path: string): Promise<string | undefined> {
  try {
    const { dev, ino } = await stat(path);
    return `${dev}:${ino}`;
  } catch {
    return undefined;
  }
}

/** @throws HeirloomError: the artefacts are no chain */
export function checkChain(chain: readonly Artefact[]): void {
  if (chain.length === 0) broken("ERR_ARTEFACT_CHAIN", "expected at least one artefact");
  const [first] = chain;
  if (first.basedOn !== null) {
    broken(
      "ERR_ARTEFACT_CHAIN",
      `expected a full backup first, but '${first.path}' builds on ${first.basedOn}: that one is missing`,
    );
  }
  for (let index = 1; index < chain.length; index++) {
    const [before, artefact] = [chain[index - 1], chain[index]];
    if (artefact.basedOn !== before.id) {
      const found = artefact.basedOn === null ? "is a full backup" : `builds on ${artefact.basedOn}`;
      broken(
        "ERR_ARTEFACT_CHAIN",
        `expected '${artefact.path}' to build on ${before.id} ('${before.path}'), but it ${found}`,
      );
    }
    if (artefact.length !== first.length) {
      const desc = `expected '${artefact.path}' to be of a disk of ${first.length} bytes as '${first.path}' is, not of ${artefact.length}`;
      broken("ERR_ARTEFACT_LENGTH", desc);
    }
  }
  const last = chain[chain.length - 1];
  if (!last.complete) {
    broken(
      "ERR_ARTEFACT_CHAIN",
      `expected a point in time last, but '${last.path}' is what a failed backup left: add the one that builds on it`,
    );
  }
}

/**
 * Which artefact each byte comes from: the newest that has it. Pieces ascend and cover the disk.
 * @throws HeirloomError if a byte is in none: the first is no full backup, whatever it says
 */
export function layoutOf(chain: readonly Artefact[]): Piece[] {
  let layout: Piece[] = [];
  chain.forEach((artefact, index) => {
    layout = overlay(
      layout,
      artefact.extents.map((extent) => ({ ...extent, artefact: index })),
    );
  });
  let end = 0;
  for (const piece of layout) {
    if (piece.offset !== end) break;
    end = piece.offset + piece.length;
  }
  const [first] = chain;
  if (end !== first.length) {
    broken(
      "ERR_ARTEFACT_CHAIN",
      `expected '${first.path}' to cover the disk's ${first.length} bytes, but nothing has the byte at ${end}`,
    );
  }
  return layout;
}

/** `above` over `below`; both ascend without overlap, and so does what comes out. */
function overlay(below: readonly Piece[], above: readonly Piece[]): Piece[] {
  const out: Piece[] = [];
  let next = 0;
  let covered = 0; // below this everything is laid out
  const layBelow = (until: number): void => {
    for (; next < below.length; next++) {
      const piece = below[next];
      const offset = Math.max(piece.offset, covered);
      const end = piece.offset + piece.length;
      const stop = Math.min(end, until);
      if (stop > offset) out.push({ ...piece, offset, length: stop - offset });
      if (end > until) return; // its rest comes later, or is covered by what is above
    }
  };
  for (const piece of above) {
    layBelow(piece.offset);
    out.push(piece);
    covered = piece.offset + piece.length;
  }
  layBelow(Number.POSITIVE_INFINITY);
  return out;
}

/** @returns bytes of data written */
async function writeImage(
  path: string,
  length: number,
  chain: readonly Artefact[],
  pieces: readonly Piece[],
  { signal, onProgress, durable = true }: RebuildOptions,
): Promise<number> {
  const image = await open(path, "wx", 0o644);
  const sources: FileHandle[] = [];
  try {
    for (const { rawPath } of chain) sources.push(await open(rawPath, "r"));
    await image.truncate(length);
    const data = pieces.filter(({ kind }) => kind === "data");
    const total = data.reduce((sum, piece) => sum + piece.length, 0);
    const buffer = Buffer.allocUnsafe(Math.min(copyBytesMax, Math.max(1, total)));
    let written = 0;
    let done = 0;
    for (const piece of data) {
      for (let at = 0; at < piece.length;) {
        signal?.throwIfAborted();
        const part = buffer.subarray(0, Math.min(buffer.length, piece.length - at));
        await readAll(sources[piece.artefact], part, piece.offset + at, chain[piece.artefact]);
        written += await writeSparse(image, part, piece.offset + at);
        at += part.length;
        done += part.length;
        onProgress?.(done, total);
      }
    }
    if (durable) await image.sync();
    return written;
  } finally {
    for (const source of sources) await source.close();
    await image.close();
  }
}

async function readAll(source: FileHandle, buffer: Buffer, offset: number, artefact: Artefact): Promise<void> {
  for (let done = 0; done < buffer.length;) {
    const { bytesRead } = await source.read(buffer, done, buffer.length - done, offset + done);
    if (bytesRead === 0) {
      broken(
        "ERR_ARTEFACT_RAW",
        `expected '${artefact.rawPath}' to be ${artefact.length} bytes long, but it ends at ${offset + done}`,
      );
    }
    done += bytesRead;
  }
}

/** Writes runs of what is not zero; the file is new, so what is left out reads as zeroes. */
async function writeSparse(image: FileHandle, buffer: Buffer, offset: number): Promise<number> {
  let written = 0;
  for (let at = 0; at < buffer.length;) {
    const start = at;
    const zero = isZero(buffer.subarray(at, at + holeBytes));
    do at += holeBytes;
    while (at < buffer.length && isZero(buffer.subarray(at, at + holeBytes)) === zero);
    if (zero) continue;
    const run = buffer.subarray(start, at);
    for (let done = 0; done < run.length;) {
      done += (await image.write(run, done, run.length - done, offset + start + done)).bytesWritten;
    }
    written += run.length;
  }
  return written;
}

/** `link` refuses a name that is taken, in one step; `rename` replaces it. */
async function putInPlace(temporary: string, target: string, options: RebuildOptions): Promise<void> {
  if (options.overwrite !== true) await takeName(temporary, target);
  else await rename(temporary, target);
  if (options.durable === false) return;
  const directory = await open(dirname(target), "r");
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

/** A file system without hard links (vfat, some network shares) has another way to find that a name is free: to make a file of it. */
async function takeName(temporary: string, target: string): Promise<void> {
  try {
    await link(temporary, target);
  } catch (error) {
    const { code = "" } = error as NodeJS.ErrnoException;
    if (!["EPERM", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EMLINK"].includes(code)) throw error;
    await (await open(target, "wx")).close();
    await rename(temporary, target);
  }
}

function broken(code: string, desc: string): never {
  throw new HeirloomError(code, "rebuild", desc);
}
