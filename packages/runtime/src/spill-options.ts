/** The spill's defaults. */
import type { SpillFileOptions } from "@heirloom/engine";
import type { DiskState } from "./disk-state.ts";
import type { SpillOptions } from "./options.ts";

export const spillMemoryDefault: number = 32 * 1024 * 1024;
export const spillFileDefault: number = 2 * 1024 * 1024 * 1024;
export const spillFloorDefault = 0.05;
export const guestDelayDefault = 20;

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
