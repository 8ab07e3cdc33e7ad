/** `heirloom journal check`: whether every byte of a journal that counts is whole. */
import type { SidecarInspection } from "@heirloom/runtime";
import type { CommandContext } from "@stricli/core";
import { printable } from "../terminal/printable.ts";
import { infoJson } from "./run-info.ts";
import { type InspectedImage, type InspectFlags, inspectImage } from "./journal-image.ts";

/** As of qemu-img check. */
const EXIT_DAMAGED = 2;
const EXIT_NOTHING_TO_CHECK = 63;

// oxlint-disable-next-line typescript/require-await -- a command answers a promise
export async function runCheck(this: CommandContext, flags: InspectFlags, image: string): Promise<void> {
  let inspected: InspectedImage;
  try {
    inspected = inspectImage(image, flags);
  } catch (error) {
    if ((error as { code?: string }).code === "ERR_JOURNAL_DAMAGED") process.exitCode = EXIT_DAMAGED;
    throw error;
  }
  const { sidecar } = inspected;
  const faults = sidecar?.faults ?? [];
  if (sidecar === undefined) process.exitCode = EXIT_NOTHING_TO_CHECK;
  else if (faults.length > 0) process.exitCode = EXIT_DAMAGED;
  if (flags.json === true) {
    const check = sidecar === undefined ? null : { faults, torn: sidecar.torn, unused: sidecar.unused };
    process.stdout.write(`${JSON.stringify({ ...infoJson(inspected), check })}\n`);
  } else process.stdout.write(`${checkText(image, sidecar).map(printable).join("\n")}\n`);
}

function checkText(image: string, sidecar: SidecarInspection | undefined): readonly string[] {
  if (sidecar === undefined) return [`${image} has no journal: nothing is kept for it`];
  const { path, faults, bitmaps, torn } = sidecar;
  // Of two copies the one that was being written at a crash may be torn: that is what the other is for.
  const notes = (["superblocks", "marks", "directories"] as const)
    .filter((record) => torn[record] === 1)
    .map((record) => `  of the two ${record} one is not whole; the other is, which is enough`);
  if (faults.length === 0) {
    const names = bitmaps.length === 1 ? "1 bitmap" : `${bitmaps.length} bitmaps`;
    return [`${path}: all is whole (${names})`, ...notes];
  }
  return [
    `${path}: ${faults.length === 1 ? "1 fault" : `${faults.length} faults`}`,
    ...faults.map((one) => `  ${one}`),
    ...notes,
  ];
}
