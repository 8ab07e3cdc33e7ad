/** What an image is known by, where its sidecar lies, and which run of the system this is. Reads; on a helper thread. */
import { readFileSync, readlinkSync, realpathSync, statSync } from "node:fs";
import { createHash } from "node:crypto";
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
    // Without a name that stays, whoever gave the sidecar its place answers for it that the path is always the same device.
    const name = lastingName(status.rdev) ?? `path ${realpathSync(filename)}`;
    return { kind: "device", name, length, modified: 0n, changed: 0n };
  }
  const name = `inode ${status.ino} born ${status.birthtimeNs}`;
  return { kind: "file", name, length, modified: status.mtimeNs, changed: status.ctimeNs };
}

/**
 * Beside the image, or in the directory that is given; of a device in a directory of its own.
 * @throws JournalError for a device without a name that stays
 */
export function sidecarPath(filename: string, directory?: string): string {
  const status = statSync(filename, { bigint: true });
  if (status.isBlockDevice())
    return join(directory ?? deviceDirectory, sidecarOfDevice(deviceName(filename, status.rdev)));
  const path = realpathSync(filename);
  return directory === undefined ? path + sidecarSuffix : join(directory, sidecarOfFile(path));
}

export function sidecarOfDevice(name: string): string {
  return name.replaceAll(/[^A-Za-z0-9._-]/g, "_") + sidecarSuffix;
}

/** Names are 255 bytes at most, with room for the suffixes of this file and of the one that it is made as. */
const nameMax = 200;

/** By the whole path, so that two images of one name do not meet in a directory of sidecars, and a person finds them. */
export function sidecarOfFile(path: string): string {
  const name = path.replace(/^\//, "").replaceAll("%", "%25").replaceAll("/", "%2F");
  if (Buffer.byteLength(name) <= nameMax) return name + sidecarSuffix;
  const digest = createHash("sha256").update(path).digest("hex").slice(0, 32);
  return `${Buffer.from(name)
    .subarray(-(nameMax - 40))
    .toString("utf8")
    .replaceAll("\uFFFD", "")}-${digest}${sidecarSuffix}`;
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

function deviceName(filename: string, rdev: bigint): string {
  const name = lastingName(rdev);
  if (name !== undefined) return name;
  const message = `journal of '${filename}': expected a device with a name that stays (a UUID, a WWN, a serial number); give the sidecar a place with journal.path`;
  throw new JournalError("ERR_JOURNAL_PLACE", message);
}

/** What a device is called whatever number it gets at the next start. */
function lastingName(rdev: bigint): string | undefined {
  const major = Number((rdev >> 8n) & 0xfffn);
  const minor = Number((rdev & 0xffn) | ((rdev >> 12n) & 0xfff00n));
  return nameOfDevice(`/sys/dev/block/${major}:${minor}`);
}

/** @param link of the device in sysfs, as `/sys/dev/block` has them */
export function nameOfDevice(link: string): string | undefined {
  const found = nameIn(link);
  if (found !== undefined) return found;
  const part = attribute(link, "partition");
  if (part === undefined) return undefined;
  const parent = nameIn(join(dirname(link), dirname(readlinkSync(link))));
  return parent === undefined ? undefined : `${parent} partition ${part}`;
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
