/** Disks that are open and exported, and the sockets that clients come through. All of it, or nothing. */
import type { ListenAddress, ServerTls } from "@heirloom/nbd";
import {
  createRuntime,
  type Disk,
  type DiskExport,
  type DiskServer,
  type JournalOptions,
  type Runtime,
} from "@heirloom/runtime";
import { CommandError } from "../command-error.ts";
import type { BitmapArgument } from "./bitmap-argument.ts";
import type { ImageArgument } from "./image-argument.ts";
import { refuseOtherFormats } from "./image-format.ts";

export interface ServeRequest {
  readonly images: readonly ImageArgument[];
  /** On every image. */
  readonly bitmaps: readonly BitmapArgument[];
  /** Where they are kept; undefined: they live as long as the command. */
  readonly journal: JournalOptions | undefined;
  readonly readOnly: boolean;
  /** Undefined: refused where it looks like another. */
  readonly format: "raw" | undefined;
  readonly listen: readonly ListenAddress[];
  readonly connectionsMax: number | undefined;
  /** Undefined: in the clear. */
  readonly tls: ServerTls | undefined;
}

export interface ServedDisk {
  readonly image: ImageArgument;
  readonly disk: Disk;
  readonly exported: DiskExport;
}

export interface Serving {
  readonly runtime: Runtime;
  readonly server: DiskServer;
  readonly disks: readonly ServedDisk[];
  readonly tls: "x509" | "psk" | undefined;
}

/** Clients find everything from the first instant: it listens last. @throws what the runtime refuses; then nothing is open */
export async function openServing(request: ServeRequest): Promise<Serving> {
  const { images, format, connectionsMax, listen, tls } = request;
  if (format === undefined) {
    for (const image of images) if (image.spec === undefined) refuseOtherFormats(image.path);
  }
  const runtime = createRuntime();
  try {
    const server = await runtime.serveNbd({ connectionsMax, tls });
    const disks: ServedDisk[] = [];
    for (const image of images) disks.push(await serveDisk(runtime, server, image, request));
    for (const address of listen) await server.listen(address);
    return { runtime, server, disks, tls: tls?.credentials.type };
  } catch (error) {
    await runtime.close();
    throw error;
  }
}

async function serveDisk(
  runtime: Runtime,
  server: DiskServer,
  image: ImageArgument,
  { bitmaps, journal, readOnly }: ServeRequest,
): Promise<ServedDisk> {
  // What was kept for it before goes on, also where nothing is added: it must not become wrong.
  const options = { journal: journal ?? { allowTmpfs: true } };
  const disk = await runtime.attach(image.spec ?? { driver: "file", filename: image.path, readOnly }, options);
  if (disk.length === 0) {
    throw new CommandError(`'${image.path}' is empty: a disk of no bytes`, [
      "If it is to be a new disk, give it a size: truncate -s 10G FILE",
    ]);
  }
  for (const bitmap of bitmaps) await haveBitmap(disk, image.path, bitmap, journal !== undefined);
  const exported = await server.add({
    disk,
    name: image.name,
    writable: !readOnly,
    // One that cannot be believed is not shown: whoever asks for it must not take it for what changed.
    bitmaps: disk.bitmaps
      .list()
      .filter(({ inconsistent, recording }) => !inconsistent && recording)
      .map(({ name }) => name)
      .reverse(),
  });
  return { image, disk, exported };
}

/** Goes on with a bitmap that was kept, or begins it. */
async function haveBitmap(disk: Disk, path: string, wanted: BitmapArgument, persistent: boolean): Promise<void> {
  const { name, granularity, fresh = false } = wanted;
  const known = disk.bitmaps.list().find((bitmap) => bitmap.name === name);
  if (known !== undefined && !fresh) {
    if (!known.recording && !known.inconsistent) {
      throw new CommandError(`the bitmap '${name}' of '${path}' is disabled: it has not seen what was written since`, [
        `To begin it anew, and the next backup with everything: --bitmap ${name},fresh`,
      ]);
    }
    if (granularity === undefined || known.granularity === granularity) return;
    throw new CommandError(
      `'${path}' has a bitmap '${name}' with a granularity of ${known.granularity}, and ${granularity} was asked for`,
      [`To begin it anew, and the next backup with everything: --bitmap ${name},granularity=${granularity},fresh`],
    );
  }
  if (known !== undefined) await disk.bitmaps.remove(name);
  await disk.bitmaps.add(name, { persistent, ...(granularity === undefined ? {} : { granularity }) });
}

export interface KeptBitmap {
  readonly name: string;
  /** Bytes that it says are dirty. */
  readonly dirty: number;
  /** How it came back, or that it was begun now. */
  readonly story: string;
  readonly inconsistent: boolean;
}

/** The bitmaps that outlive the command. */
export function keptBitmaps({ bitmaps }: Disk): KeptBitmap[] {
  const kept = bitmaps.list().filter(({ persistent }) => persistent);
  return kept.reverse().map(({ name, count, inconsistent }) => ({
    name,
    dirty: count,
    story: bitmaps.history(name)[0]?.reason ?? "begins empty: the first backup has to be a full one",
    inconsistent,
  }));
}
