/**
 * Where it is written down that a sidecar must not be believed any more, when it can neither be written itself nor taken away: a file
 * of text beside it, beside the image, or in the system's own directory, whichever can be written. Its first line is the sidecar's
 * UUID, so that it says nothing of another one, and the second is the reason.
 */
import { existsSync, readFileSync, realpathSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { closeFile, EINVAL, O_CREAT, O_RDONLY, O_RDWR, openFile, syncData, writeFully } from "@heirloom/block";
import { deviceDirectory } from "./identity.ts";

export interface MarkedSidecar {
  readonly path: string;
  readonly uuid: Uint8Array;
  /** The image or device. */
  readonly filename: string;
}

const suffix = ".failed";

function placesOf({ path, uuid, filename }: MarkedSidecar): string[] {
  const beside = existsSync(filename) ? `${realpathSync(filename)}.heirloom${suffix}` : undefined;
  const places = [`${path}${suffix}`, ...(beside?.startsWith("/dev/") === false ? [beside] : [])];
  return [...new Set([...places, join(deviceDirectory, `${hex(uuid)}${suffix}`)])];
}

/** @returns whether it stands somewhere, durably */
export function markFailed(sidecar: MarkedSidecar, reason: string): boolean {
  const text = Buffer.from(`${hex(sidecar.uuid)}\n${reason.replaceAll("\n", " ")}\n`);
  return placesOf(sidecar).some((place) => writeDurably(place, text));
}

/** Why the sidecar must not be believed; undefined where nothing says so. */
export function readFailed(sidecar: MarkedSidecar): string | undefined {
  for (const place of placesOf(sidecar)) {
    const [uuid, reason] = linesOf(place);
    if (uuid === hex(sidecar.uuid)) return reason;
  }
  return undefined;
}

/** The sidecar says it itself now, or is another one. */
export function clearFailed(sidecar: MarkedSidecar): void {
  for (const place of placesOf(sidecar)) if (linesOf(place)[0] === hex(sidecar.uuid)) rmSync(place, { force: true });
}

function linesOf(place: string): string[] {
  try {
    return readFileSync(place, "utf8").split("\n");
  } catch {
    return [];
  }
}

function writeDurably(place: string, text: Uint8Array): boolean {
  const fd = openFile(place, O_RDWR | O_CREAT, 0o600);
  if (fd < 0) return false;
  const errno = writeFully(fd, text, 0) || syncData(fd);
  closeFile(fd);
  return errno === 0 && syncDirectory(dirname(place)) === 0;
}

/** @returns errno */
export function syncDirectory(path: string): number {
  const fd = openFile(path, O_RDONLY);
  if (fd < 0) return -fd;
  const errno = syncData(fd);
  closeFile(fd);
  return errno === EINVAL ? 0 : errno; // a file system that has no such thing
}

function hex(uuid: Uint8Array): string {
  return Buffer.from(uuid).toString("hex");
}
