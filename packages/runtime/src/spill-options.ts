/** The spill's defaults. */
import type { SpillFileOptions } from "@heirloom/engine";
import type { DiskState } from "./disk-state.ts";
import type { SpillOptions } from "./options.ts";

export const spillMemoryDefault: number = 32 * 1024 * 1024;
export const spillFileDefault: number = 2 * 1024 * 1024 * 1024;
export const spillFloorDefault = 0.05;
export const guestDelayDefault = 20;

/** @throws RefusalError naming the option and what was expected */
export function checkGuestDelay(operation: string, milliseconds: number): number {
  return inRange(operation, "guestDelayMax", milliseconds, 0, guestDelayMost, "milliseconds");
}

function inRange(operation: string, option: string, value: number, least: number, most: number, unit: string): number {
  if (Number.isFinite(value) && value >= least && value <= most) return value;
  const desc = `Option '${option}' must be a number of ${unit} from ${least} to ${most}, not ${String(value)}`;
  throw new RefusalError(operation, refusal("ERR_INVALID_ARGUMENT", desc, { option, value: String(value) }));
}

const guestDelayMost = 60 * 60 * 1000;
const spillMemoryMost = 16 * 1024 ** 3;
const spillFileMost = 2 ** 44;

/** @throws RefusalError naming the option and what was expected */
export function spillFor(
  spill: SpillOptions,
  disk: DiskState,
): { memory: number; file: number; options: SpillFileOptions } {
  return {
    memory: spill.memory ?? spillMemoryDefault,
    file: spill.file ?? spillFileDefault,
    options: {
      directory: spill.directory ?? disk.directory,
      allowTmpfs: spill.allowTmpfs ?? false,
      floor: spill.floor ?? spillFloorDefault,
    },
  };
}
