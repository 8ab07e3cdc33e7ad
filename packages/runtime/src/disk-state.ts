/** An attached disk as the coordinator knows it. */
import type { NodeHandle } from "@heirloom/block";
import type { Layer } from "@heirloom/engine";
import type { DiskJournal } from "@heirloom/journal";
import type { BitmapState } from "./bitmap-memory.ts";
import type { DiskImage } from "./keeping.ts";
import type { DiskContext, DiskEffect, DiskEvent } from "./machines/disk-machine.ts";
import type { MachineActor } from "./machines/machine-actor.ts";

export type DiskActor = MachineActor<{ readonly name: string }, DiskContext, DiskEvent, DiskEffect>;

export interface DiskState {
  readonly name: string;
  readonly layer: Layer;
  readonly node: NodeHandle;
  readonly actor: DiskActor;
  readonly bitmaps: Map<string, BitmapState>;
  /** Beside which its spill lies, if it is a file's. */
  readonly directory: string | undefined;
  /** The disk that it is a window of. */
  readonly under: DiskState | undefined;
  /** The attached disks that are windows of it. */
  readonly above: Set<DiskState>;
  /** Beside which a sidecar can lie; undefined where bitmaps cannot be kept. */
  image: DiskImage | undefined;
  /** Its user wants no journal. */
  readonly keepsNone: boolean;
  /** Told when it is gone. */
  readonly whenGone: (() => void)[];
  /** It was asked to take the journal of the disk under it over. */
  readonly takesOver: boolean;
  /** The window that has taken its journal over (taking-over.ts). */
  keptBy: DiskState | undefined;
  /** Once it has, or had, persistent bitmaps. */
  journal: DiskJournal | undefined;
}

/** A disk as a user names it: by its name, or as the very one that an object stands for. */
export type GivenDisk = string | { readonly name: string; readonly state?: DiskState };
