/** What an image is known by, where its sidecar lies, and which run of the system this is. Reads; on a helper thread. */
import { readFileSync, readlinkSync, realpathSync, statSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import type { ImageIdentity } from "./directory.ts";
import { JournalError } from "./journal-error.ts";

/** Where the sidecars of block devices lie. */
export const deviceDirectory = "/var/lib/heirloom";
export const sidecarSuffix = ".heirloom";

/** @param length bytes of the disk, as its node has it */
export function identify(filename: string, length: number): ImageIdentity {
  const status = statSync(filename, { bigint: true });
  if (status.isBlockDevice()) {
    return { kind: "device", name: deviceName(filename, status.rdev), length, modified: 0n, changed: 0n };
  }
  const name = `inode ${status.ino} born ${status.birthtimeNs}`;
  return { kind: "file", name, length, modified: status.mtimeNs, changed: status.ctimeNs };
}

/** Beside the image; of a device in a directory of its own. */
export function sidecarPath(filename: string): string {
  const status = statSync(filename, { bigint: true });
  if (!status.isBlockDevice()) return realpathSync(filename) + sidecarSuffix;
  const name = deviceName(filename, status.rdev).replaceAll(/[^A-Za-z0-9._-]/g, "_");
  return join(deviceDirectory, name + sidecarSuffix);
}

/** Of a resumable job's spill file: beside the sidecar unless it is put elsewhere. */
export function spillName(sidecar: string, tag: number): string {
  return `${basename(sidecar)}.${(tag >>> 0).toString(16).padStart(8, "0")}.spill`;
}
/** Whether a file of this name, beside the sidecar, is the spill of one of its jobs. */
export function isSpillOf(sidecar: string, name: string): boolean {
  const own = `${basename(sidecar)}.`;
  return name.startsWith(own) && /^[0-9a-f]{8}\.spill$/.test(name.slice(own.length));
}

/** Of the running system, 32 hexadecimal digits: another one means that the page cache is gone. */
export function bootId(): string {
  return readFileSync("/proc/sys/kernel/random/boot_id", "latin1").trim().replaceAll("-", "");
}

/** What a device is called whatever number it gets at the next start. */
function deviceName(filename: string, rdev: bigint): string {
  const major = Number((rdev >> 8n) & 0xfffn);
  const minor = Number((rdev & 0xffn) | ((rdev >> 12n) & 0xfff00n));
  const link = `/sys/dev/block/${major}:${minor}`;
  const found = nameIn(link);
  if (found !== undefined) return found;
  const part = attribute(link, "partition");
  if (part !== undefined) {
    const parent = nameIn(join("/sys/dev/block", dirname(readlinkSync(link))));
    if (parent !== undefined) return `${parent} partition ${part}`;
  }
  const message = `journal of '${filename}': expected a device with a name that stays (a UUID, a WWN, a serial number); give the sidecar a place with journal.path`;
  throw new JournalError("ERR_JOURNAL_PLACE", message);
}

function nameIn(directory: string): string | undefined {
  for (const file of ["dm/uuid", "wwid", "device/wwid", "md/uuid", "serial", "device/serial"]) {
    const value = attribute(directory, file);
    if (value !== undefined) return `${basename(dirname(file))} ${value}`.replace(/^\. /, "");
  }
  const backing = attribute(directory, "loop/backing_file");
  if (backing === undefined) return undefined;
  const status = statSync(backing, { bigint: true, throwIfNoEntry: false });
  return status === undefined ? undefined : `loop on inode ${status.ino} born ${status.birthtimeNs}`;
}

function attribute(directory: string, file: string): string | undefined {
  try {
    const value = readFileSync(join(directory, file), "utf8").trim();
    return value === "" ? undefined : value;
  } catch {
    return undefined;
  }
}
