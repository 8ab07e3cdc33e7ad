/** The spill's defaults, and the ranges of what users may say instead. */
import type { SpillFileOptions } from "@heirloom/engine";
import type { DiskState } from "./disk-state.ts";
import { refusal, RefusalError } from "./errors.ts";
import type { RuntimeOptions, SpillOptions } from "./options.ts";

/** What the runtime says for all of its jobs and views. */
export type SpillDefaults = Pick<RuntimeOptions, "spill" | "guestDelayMax">;

const memoryDefault = 32 * 1024 * 1024;
const memoryMost = 16 * 1024 ** 3;
const fileDefault = 2 * 1024 * 1024 * 1024;
const fileMost = 2 ** 44;
const floorDefault = 0.05;
const guestDelayDefaultMs = 20;
const guestDelayMostMs = 60 * 60 * 1000;

/** Milliseconds. @param endless there is no most, and `Infinity` will do @throws RefusalError naming the option and what was expected */
export function guestDelayFor(operation: string, guestDelayMax: number | undefined, endless = false): number {
  if (endless && typeof guestDelayMax === "number" && guestDelayMax > guestDelayMostMs) return guestDelayMax;
  return inRange(operation, "guestDelayMax", guestDelayMax ?? guestDelayDefaultMs, guestDelayMostMs);
}

/** Bytes in memory and in a file. @throws RefusalError naming the option and what was expected */
export function spillFor(
  operation: string,
  spill: SpillOptions,
  disk: DiskState,
): { memory: number; file: number; options: SpillFileOptions } {
  const { memory, file, floor } = spillRanges(operation, spill);
  return {
    memory,
    file,
    options: { directory: spill.directory ?? disk.directory, allowTmpfs: spill.allowTmpfs ?? false, floor },
  };
}

/** @throws RefusalError naming the option and what was expected */
export function spillRanges(operation: string, spill: SpillOptions): { memory: number; file: number; floor: number } {
  return {
    memory: inRange(operation, "spill.memory", spill.memory ?? memoryDefault, memoryMost),
    file: inRange(operation, "spill.file", spill.file ?? fileDefault, fileMost),
    floor: inRange(operation, "spill.floor", spill.floor ?? floorDefault, 1),
  };
}

function inRange(operation: string, option: string, value: number, most: number): number {
  if (typeof value === "number" && value >= 0 && value <= most) return value;
  const desc = `Option '${option}' must be a number from 0 to ${most}, not ${String(value)}`;
  throw new RefusalError(operation, refusal("ERR_INVALID_ARGUMENT", desc, { option, value: String(value) }));
}
