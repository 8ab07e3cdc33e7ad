/** A point in time, proved: rebuilt from its chain, compared byte by byte with the shadow copy, and checked by e2fsck. */
import { type FileHandle, open } from "node:fs/promises";
import { rmSync } from "node:fs";
import { type Artefact, rebuild } from "@heirloom/runtime";
import { Random } from "@heirloom/example-seed";
import { checkFileSystem, type Tools } from "./ext4.ts";
import type { Progress } from "./progress.ts";

export interface Difference {
  /** First byte that differs. */
  readonly offset: number;
  /** How many do. */
  readonly bytes: number;
}

export interface Verdict {
  readonly name: string;
  readonly chain: readonly string[];
  readonly length: number;
  readonly difference: Difference | undefined;
  /** What e2fsck found; undefined where it found nothing, or was not run. */
  readonly fileSystem: string | undefined;
  readonly e2fsckRun: boolean;
}

export interface Point {
  readonly name: string;
  readonly chain: ReadonlyArray<{ readonly name: string; readonly artefact: Artefact }>;
  readonly shadow: string;
  readonly image: string;
  /** Set where the file system is sound at every instant. */
  readonly tools: Tools | undefined;
  readonly keep: boolean;
}

/** Set by a test, which wants to see that a wrong byte is found: the seed of the byte. */
const corruptVariable = "HEIRLOOM_DEMO_CORRUPT";

export async function verify(point: Point, progress: Progress): Promise<Verdict> {
  const artefacts = point.chain.map(({ artefact }) => artefact);
  const onProgress = (done: number, total: number): void => progress.show((done / total) * 0.5, "rebuilding");
  const { length } = await rebuild(artefacts, point.image, { onProgress, durable: false });
  const corrupt = process.env[corruptVariable];
  if (corrupt !== undefined) await flipByte(point.image, new Random(Number(corrupt)).below(length));
  const difference = await compare(point.image, point.shadow, length, (share) =>
    progress.show(0.5 + share * 0.4, "comparing"),
  );
  progress.show(0.95, "e2fsck");
  const fileSystem = point.tools === undefined ? undefined : await checkFileSystem(point.tools, point.image);
  if (!point.keep) rmSync(point.image);
  return {
    name: point.name,
    chain: point.chain.map(({ name }) => name),
    length,
    difference,
    fileSystem,
    e2fsckRun: point.tools !== undefined,
  };
}

export function holds({ difference, fileSystem }: Verdict): boolean {
  return difference === undefined && fileSystem === undefined;
}

const compareBytes = 4 * 1024 * 1024;

/** Both files must be `length` bytes long; a byte that one of them lacks differs. */
async function compare(
  path: string,
  shadow: string,
  length: number,
  onProgress: (share: number) => void,
): Promise<Difference | undefined> {
  const [one, other] = [await open(path), await open(shadow)];
  try {
    let offset = -1;
    let bytes = 0;
    const buffers = [Buffer.allocUnsafe(compareBytes), Buffer.allocUnsafe(compareBytes)] as const;
    const longer = Math.max(length, (await one.stat()).size, (await other.stat()).size);
    for (let at = 0; at < longer; at += compareBytes) {
      const [left, right] = [await readPiece(one, buffers[0], at), await readPiece(other, buffers[1], at)];
      onProgress(at / longer);
      if (left.equals(right)) continue;
      for (let index = 0; index < Math.max(left.length, right.length); index++) {
        if (left[index] === right[index]) continue;
        if (offset === -1) offset = at + index;
        bytes++;
      }
    }
    return offset === -1 ? undefined : { offset, bytes };
  } finally {
    await one.close();
    await other.close();
  }
}

async function readPiece(file: FileHandle, buffer: Buffer, offset: number): Promise<Buffer> {
  let done = 0;
  while (done < buffer.length) {
    const { bytesRead } = await file.read(buffer, done, buffer.length - done, offset + done);
    if (bytesRead === 0) break;
    done += bytesRead;
  }
  return buffer.subarray(0, done);
}

async function flipByte(path: string, offset: number): Promise<void> {
  const file = await open(path, "r+");
  const byte = Buffer.alloc(1);
  await file.read(byte, 0, 1, offset);
  byte[0] ^= 0xff;
  await file.write(byte, 0, 1, offset);
  await file.close();
}
