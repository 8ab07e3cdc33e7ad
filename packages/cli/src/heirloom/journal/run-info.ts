/** `heirloom info`: what is kept for an image, for people and for programs. */
import type { InspectedBitmap, RecoveryEntry, SidecarInspection } from "@heirloom/runtime";
import type { CommandContext } from "@stricli/core";
import { formatBytes } from "../sizes.ts";
import { paintFor } from "../terminal/colours.ts";
import { printable } from "../terminal/printable.ts";
import { type InspectedImage, type InspectFlags, inspectImage } from "./journal-image.ts";

// oxlint-disable-next-line typescript/require-await -- a command answers a promise
export async function runInfo(this: CommandContext, flags: InspectFlags, image: string): Promise<void> {
  const inspected = inspectImage(image, flags);
  const lines = flags.json === true ? [JSON.stringify(infoJson(inspected))] : infoText(inspected);
  process.stdout.write(lines.map((line) => `${line}\n`).join(""));
}

/** Times are ISO 8601, lengths bytes. */
export function infoJson({ image, length, sidecar }: InspectedImage): object {
  if (sidecar === undefined) return { image, length, journal: null, bitmaps: [] };
  const { path, bytes, version, inUse, stop, directory, regions, bitmaps } = sidecar;
  const { generation, bound, regionBytes, openedAt, closedAt, recoveries } = directory;
  return {
    image,
    length,
    journal: {
      path,
      bytes,
      version,
      inUse,
      stop: inUse ? null : stop,
      openedAt: time(openedAt),
      closedAt: directory.inUse ? null : time(closedAt),
      attaches: generation,
      bound,
      unsettled: regions === undefined ? null : Math.min(regions * regionBytes, length),
      unsettledRegions: regions ?? null,
      recoveries: recoveries.map(({ at, ...entry }) => ({ at: time(at), ...entry })),
    },
    bitmaps: bitmaps.map(({ job, ...bitmap }) => ({
      ...bitmap,
      job: job === null ? null : { ...job, frozenAt: time(job.frozenAt) },
      persistent: true,
    })),
  };
}

function infoText({ image, length, sidecar }: InspectedImage): string[] {
  const paint = paintFor(process.stdout);
  const title = `${paint("bold", printable(image))}: ${formatBytes(length)}`;
  if (sidecar === undefined) return [`${title}, no persistent bitmaps`];
  const { path, bytes, directory, regions = 0 } = sidecar;
  const { bound, regionBytes, generation } = directory;
  const attaches = generation === 1 ? "attached once" : `attached ${generation} times`;
  return [
    title,
    `journal ${printable(path)}: ${formatBytes(bytes)}, ${attaches}; ${stateText(sidecar)}`,
    `  after a power loss at most ${formatBytes(bound)} beyond what was written count as dirty; now ${formatBytes(Math.min(regions * regionBytes, length))}${regions === 0 ? "" : ` (${count(regions, "region")} not settled)`}`,
    ...sidecar.bitmaps.map((bitmap) => paint(bitmap.inconsistent === null ? "cyan" : "red", bitmapText(bitmap))),
    ...directory.recoveries.map((entry) => `  ${recoveryText(entry)}`),
  ];
}

function stateText({ inUse, stop, directory }: SidecarInspection): string {
  const { openedAt, closedAt } = directory;
  if (inUse) return `in use since ${time(openedAt)}`;
  if (stop === "clean") return `closed at ${time(closedAt)}`;
  const how = stop === "killed" ? "its process was killed" : "the system went down";
  return `not closed since ${time(openedAt)}: ${how}; the next attach recovers it`;
}

function bitmapText({
  name,
  granularity,
  recording,
  frozen,
  job,
  inconsistent,
  dirty,
  damaged,
}: InspectedBitmap): string {
  const title = `bitmap ${printable(name)} (a bit for ${formatBytes(granularity)})`;
  if (inconsistent !== null) return `${title}: inconsistent: ${printable(inconsistent)}`;
  const parts = [recording ? "recording" : "disabled", `${formatBytes(dirty)} dirty`];
  if (job !== null)
    parts.push(
      `resumable backup ${printable(job.id)} into '${printable(job.target)}' has it since ${time(job.frozenAt)}`,
    );
  else if (frozen) parts.push("a backup has it");
  if (damaged > 0) parts.push(`${count(damaged, "block")} not whole count as dirty`);
  return `${title}: ${parts.join(", ")}`;
}

function recoveryText({ at, kind, regions }: RecoveryEntry): string {
  if (kind === "killed") return `recovered after an unclean stop at ${time(at)}, nothing was lost`;
  return `recovered after a power loss at ${time(at)}, ${count(regions, "region")} not settled counted as dirty`;
}

function time(milliseconds: number): string {
  return new Date(milliseconds).toISOString();
}

function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}
