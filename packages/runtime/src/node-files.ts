/** What the description of a node says of files: which one is at the bottom, where it lies, who it is; told without opening it. */
import { type Stats, statSync } from "node:fs";
import { dirname } from "node:path";
import type { NodeSpec } from "@heirloom/block";
import { Disk } from "./disk.ts";
import type { DiskImage } from "./keeping.ts";
import type { AttachOptions } from "./options.ts";

/** The file that opening a node has made. One that it may have found, and emptied, is its user's. */
export function madeFile(spec: NodeSpec): string | undefined {
  if (spec.driver !== "file") return isNode(spec.file) ? madeFile(spec.file) : undefined;
  const { create, filename } = spec as {
    readonly create?: { readonly overwrite?: boolean };
    readonly filename?: string;
  };
  return create === undefined || create.overwrite === true ? undefined : filename;
}
function isNode(value: unknown): value is NodeSpec {
  return typeof value === "object" && value !== null && !(value instanceof Disk);
}

/** The file or device at the bottom of a disk of its own. */
export function imageOf(spec: NodeSpec, none: boolean, { journal = {} }: AttachOptions): DiskImage | undefined {
  if (journal === false || journal === "take-over") return undefined;
  const filename = none ? undefined : filenameOf(spec);
  return filename === undefined ? undefined : { filename, journal };
}
export function filenameOf(spec: NodeSpec): string | undefined {
  if (spec.driver === "file" || spec.driver === "host_device") return spec.filename as string;
  return typeof spec.file === "object" && spec.file !== null ? filenameOf(spec.file as NodeSpec) : undefined;
}

/** Where the image lies; decorators and windows are looked through. */
export function directoryOf(spec: NodeSpec): string | undefined {
  if (typeof spec.filename === "string") return dirname(spec.filename);
  if (spec.file instanceof Disk) return spec.file.state.directory;
  return typeof spec.file === "object" && spec.file !== null ? directoryOf(spec.file as NodeSpec) : undefined;
}

/** The identity that an image has as a node (see @heirloom/block), without opening it. */
export function imageIdentity(spec: NodeSpec): string | undefined {
  if (typeof spec.filename === "string") {
    const status = statusOf(spec.filename);
    if (status === undefined) return undefined;
    return status.isBlockDevice() ? `device:${status.rdev}` : `file:${status.dev}:${status.ino}`;
  }
  return typeof spec.file === "object" && spec.file !== null && !(spec.file instanceof Disk)
    ? imageIdentity(spec.file as NodeSpec)
    : undefined;
}

/** Undefined where there is none, or where it cannot be looked at: whoever opens it says why. */
function statusOf(filename: string): Stats | undefined {
  try {
    return statSync(filename, { throwIfNoEntry: false });
  } catch {
    return undefined;
  }
}
