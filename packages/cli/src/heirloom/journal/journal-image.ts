/** IMAGE and `--journal` of the commands that look at a sidecar: where it is, and what stands in it. */
import { statSync } from "node:fs";
import { basename } from "node:path";
import { BlockError, closeFile, deviceLength, O_RDONLY, openFile } from "@heirloom/block";
import { inspectSidecar, type SidecarInspection } from "@heirloom/runtime";
import { CommandError } from "../command-error.ts";
import { placeOf } from "../serve/journal-place.ts";

export interface InspectFlags {
  readonly journal?: string;
  readonly json?: boolean;
}

export interface InspectedImage {
  readonly image: string;
  /** Bytes. */
  readonly length: number;
  /** Undefined where it has none. */
  readonly sidecar: SidecarInspection | undefined;
}

/** @throws CommandError, and what cannot be read */
export function inspectImage(image: string, { journal }: InspectFlags): InspectedImage {
  const length = lengthOf(image);
  const place = journal === undefined ? {} : placeOf(journal);
  return { image, length, sidecar: inspectSidecar({ filename: image, length, ...place }) };
}

function lengthOf(image: string): number {
  const status = statSync(image, { throwIfNoEntry: false });
  if (status === undefined) {
    const hint = image.endsWith(".heirloom") ? `Its image is meant: ${basename(image, ".heirloom")}` : undefined;
    throw new CommandError(`'${image}': No such file or directory`, hint === undefined ? [] : [hint]);
  }
  if (status.isFile() && image.endsWith(".heirloom")) {
    throw new CommandError(`'${image}' is a sidecar; expected the image that it belongs to`, [
      `Most often that is ${basename(image, ".heirloom")} beside it.`,
    ]);
  }
  if (status.isFile()) return status.size;
  if (!status.isBlockDevice()) throw new CommandError(`'${image}' is no image: expected a file or a block device`);
  const fd = openFile(image, O_RDONLY);
  if (fd < 0) throw BlockError.system("ERR_NODE_OPEN", `open '${image}'`, -fd, { node: image });
  try {
    const length = deviceLength(fd);
    if (length < 0) throw BlockError.system("ERR_NODE_OPEN", `length of '${image}'`, -length, { node: image });
    return length;
  } finally {
    closeFile(fd);
  }
}
