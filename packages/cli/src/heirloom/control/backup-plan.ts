/** What a backup is to do, from what was asked for and what there is: decided before anything begins. */
import { existsSync, statSync } from "node:fs";
import { resolve } from "node:path";
import type { DriveBackup } from "@heirloom/qmp";
import { CommandError, UsageError } from "../command-error.ts";
import { refuseExisting, unfinishedName } from "../new-file.ts";
import { quoted } from "../shell-words.ts";
import type { BackupFlags } from "./backup-command.ts";

export type Target =
  | { readonly kind: "node"; readonly name: string }
  /** A file or a device that is there, and is written in place. */
  | { readonly kind: "existing"; readonly path: string }
  /** Written as `unfinished`, which gets the name when it is whole. */
  | { readonly kind: "new"; readonly path: string; readonly unfinished: string };

export interface BackupPlan {
  readonly node: string;
  readonly target: Target;
  readonly sync: DriveBackup["sync"];
  readonly bitmap: string | undefined;
  readonly bitmapMode: DriveBackup["bitmap-mode"];
  /** Bytes a second; 0: no limit. */
  readonly speed: number;
  /** It goes on after a restart of who runs it. */
  readonly resumable: boolean;
  /** After every power loss too. */
  readonly syncSpill: boolean;
}

export interface Disk {
  readonly node: string;
  /** Bytes. */
  readonly length: number;
}

/** @param isNode whether there is a node of that name @throws UsageError, CommandError */
export function planBackup(
  { bitmap, update = false, sync: asked, bitmapMode, speed = 0, resumable = false, syncSpill = false }: BackupFlags,
  disk: Disk,
  text: string,
  isNode: (name: string) => boolean,
): BackupPlan {
  const byBitmap = asked === "incremental" || asked === "bitmap";
  if (bitmap === undefined && (byBitmap || bitmapMode !== undefined)) {
    throw new UsageError(`${byBitmap ? `--sync ${asked}` : "--bitmap-mode"} is about a bitmap; it needs --bitmap NAME`);
  }
  if (syncSpill && !resumable) throw new UsageError("--sync-spill is about a backup that is --resumable");
  if (resumable && bitmap === undefined) {
    throw new UsageError("--resumable needs --bitmap NAME: a persistent bitmap, whose journal keeps the job as well");
  }
  if (resumable && asked === "top")
    throw new UsageError("--sync top cannot go on after a restart; leave one of them out");
  const sync = asked ?? (bitmap !== undefined && update ? "incremental" : "full");
  const target = targetOf(text, disk, update, isNode);
  if (byBitmap && target.kind === "new") {
    throw new UsageError(
      `--sync ${asked} into a new raw file would lose which parts of it have changed: what has not reads as zeroes`,
      "Bring an older copy up to date (--update), or leave --sync out: a full backup, with which the bitmap begins anew.",
      "For the changes alone: heirloom pull URI TARGET --bitmap NAME.",
    );
  }
  const mode = bitmap === undefined || sync === "incremental" ? bitmapMode : (bitmapMode ?? "on-success");
  return { node: disk.node, target, sync, bitmap, bitmapMode: mode, speed, resumable, syncSpill };
}

function targetOf(text: string, disk: Disk, update: boolean, isNode: (name: string) => boolean): Target {
  if (isNode(text)) return { kind: "node", name: text };
  const path = resolve(text);
  if (!update) {
    refuseExisting(path);
    return { kind: "new", path, unfinished: unfinishedName(path) };
  }
  if (!existsSync(path)) {
    throw new CommandError(`there is no '${text}' to bring up to date`, [
      "Leave --update out for a new one, all of the disk; with --bitmap NAME the bitmap begins anew with it.",
    ]);
  }
  const status = statSync(path);
  if (status.isFile() && status.size !== disk.length) {
    throw new CommandError(`'${text}' has ${status.size} bytes, and '${disk.node}' has ${disk.length}`, [
      `Expected a copy of the same disk. If the disk was resized: truncate -s ${disk.length} ${quoted(text)}`,
    ]);
  }
  return { kind: "existing", path };
}
