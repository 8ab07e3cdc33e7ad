/**
 * Where a pull goes: a raw file, open under QEMU's image locks, so that no guest has it at the same time.
 *
 *     new, all of the disk    holes where it reads as zeroes
 *     new, by a bitmap        holes where nothing changed: what became zero is written, so that data says "changed"
 *     an existing one         what is pulled is overwritten in place, the rest stays
 *
 * A new one is written under another name and gets its own when it is whole and on stable storage.
 */
import { rmSync, statSync } from "node:fs";
import type { PullSink } from "@heirloom/nbd";
import { createRuntime, type Disk, type Runtime } from "@heirloom/runtime";
import { CommandError } from "../command-error.ts";
import { giveName, unfinishedName } from "../new-file.ts";
import { quoted } from "../shell-words.ts";

export interface PullTarget {
  readonly sink: PullSink;
  /** All of it is there: it is made durable, and gets its name. */
  finish(): Promise<void>;
  /** What was new is gone; what was there before stays as it is by now. */
  abandon(): Promise<void>;
}

export interface TargetRequest {
  readonly path: string;
  /** Bytes. */
  readonly length: number;
  readonly update: boolean;
  /** Only changes are pulled. */
  readonly changes: boolean;
}

/** @throws CommandError, BlockError */
export async function openTarget(request: TargetRequest): Promise<PullTarget> {
  const runtime = createRuntime();
  try {
    return request.update ? await openExisting(runtime, request) : await createNew(runtime, request);
  } catch (error) {
    await runtime.close();
    throw error;
  }
}

async function openExisting(runtime: Runtime, { path, length }: TargetRequest): Promise<PullTarget> {
  const disk = await runtime.attach({ driver: "file", filename: path });
  const isDevice = statSync(path).isBlockDevice();
  if (isDevice ? disk.length < length : disk.length !== length) {
    throw new CommandError(`'${path}' has ${disk.length} bytes, and the export has ${length}`, [
      isDevice
        ? "Expected a device of that size at least."
        : `Expected a copy of the same disk. If the disk was resized: truncate -s ${length} ${quoted(path)}`,
    ]);
  }
  const close = (): Promise<void> => runtime.close();
  const zero = (offset: number, bytes: number): Promise<void> => disk.writeZeroes(offset, bytes, { unmap: true });
  return { sink: sinkOf(disk, zero), finish: close, abandon: close };
}

async function createNew(runtime: Runtime, { path, length, changes }: TargetRequest): Promise<PullTarget> {
  const unfinished = unfinishedName(path);
  const disk = await runtime.attach({ driver: "file", filename: unfinished, create: { length } });
  return {
    sink: sinkOf(disk, changes ? (offset, bytes) => writeZeroBytes(disk, offset, bytes) : () => Promise.resolve()),
    finish: async () => {
      await runtime.close();
      giveName(unfinished, path);
    },
    abandon: async () => {
      rmSync(unfinished, { force: true });
      await runtime.close();
    },
  };
}

function sinkOf(disk: Disk, writeZeroes: PullSink["writeZeroes"]): PullSink {
  return { write: (buffer, offset) => disk.write(buffer, offset), writeZeroes, flush: () => disk.flush() };
}

const ZEROES = new Uint8Array(2 ** 20);

async function writeZeroBytes(disk: Disk, offset: number, length: number): Promise<void> {
  for (let done = 0; done < length; done += ZEROES.length) {
    await disk.write(ZEROES.subarray(0, Math.min(ZEROES.length, length - done)), offset + done);
  }
}
