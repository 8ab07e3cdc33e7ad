/** Disks that are open and exported, and the sockets that clients come through. All of it, or nothing. */
import type { ListenAddress, ServerTls } from "@heirloom/nbd";
import {
  type BitmapInfo,
  createRuntime,
  type Disk,
  type DiskExport,
  type DiskServer,
  type JournalOptions,
  type Runtime,
} from "@heirloom/runtime";
import { type MetricsAddress, type MetricsServer, serveMetrics } from "../../metrics/metrics-server.ts";
import { CommandError } from "../command-error.ts";
import { version } from "../version.ts";
import type { BitmapArgument } from "./bitmap-argument.ts";
import type { ImageArgument } from "./image-argument.ts";
import { type ControlSocket, openControlSocket } from "./control-socket.ts";
import { nodeNameFor } from "./node-name.ts";
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
  /** Where it is driven over QMP. */
  readonly control: string | undefined;
  readonly metrics: MetricsAddress | undefined;
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
  readonly control: ControlSocket | undefined;
  readonly metrics: MetricsServer | undefined;
}

/** A disk's bitmaps as they came. */
export function oldestFirst(disk: Disk): readonly BitmapInfo[] {
  return disk.bitmaps.list().reverse();
}

/**
 * Clients find everything from the first instant: it listens last. @param quit a client says that it shall end
 * @throws what the runtime refuses; then nothing is open
 */
export async function openServing(request: ServeRequest, quit: () => void): Promise<Serving> {
  const { images, format, connectionsMax, listen, tls, control: path } = request;
  if (format === undefined) {
    for (const image of images) if (image.spec === undefined) refuseOtherFormats(image.path);
  }
  // Whoever drives it with QEMU's tools gets QEMU's refusals.
  const runtime = createRuntime(path === undefined ? {} : { backupOfTargets: false });
  try {
    const server = await runtime.serveNbd({ connectionsMax, tls });
    const disks: ServedDisk[] = [];
    for (const image of images) disks.push(await serveDisk(runtime, server, image, request));
    for (const address of listen) await server.listen(address);
    const control = path === undefined ? undefined : await openControlSocket(path, { runtime, server, disks }, quit);
    const metrics = await openMetrics(request.metrics, runtime);
    return { runtime, server, disks, tls: tls?.credentials.type, control, metrics };
  } catch (error) {
    await runtime.close();
    throw error;
  }
}

/** @throws CommandError */
async function openMetrics(address: MetricsAddress | undefined, runtime: Runtime): Promise<MetricsServer | undefined> {
  if (address === undefined) return undefined;
  try {
    return await serveMetrics(address, version, () => Promise.resolve(runtime));
  } catch (error) {
    throw new CommandError(`--metrics: ${(error as Error).message}`, ["Choose another path or port."], {
      cause: error,
    });
  }
}

async function serveDisk(
  runtime: Runtime,
  server: DiskServer,
  image: ImageArgument,
  { bitmaps, journal, readOnly, control }: ServeRequest,
): Promise<ServedDisk> {
  const name = nodeNameFor(image.name, (other) => runtime.disks.some((disk) => disk.name === other));
  // What was kept for it before goes on, also where nothing is added: it must not become wrong.
  const options = { name, journal: journal ?? { allowTmpfs: true } };
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
    bitmaps: shownBitmaps(disk, bitmaps, control === undefined),
  });
  return { image, disk, exported };
}

/**
 * Of those that can be believed: whoever asks for one that cannot must not take it for what changed. One that a backup still has,
 * which was cut off, is not to be seen before that has ended. One that clients see is busy as long as they may look, so where backups are driven over QMP they see only those that were said to be for them.
 */
function shownBitmaps(disk: Disk, asked: readonly BitmapArgument[], byDefault: boolean): readonly string[] {
  const isShown = (name: string): boolean => asked.find((one) => one.name === name)?.exported ?? byDefault;
  return oldestFirst(disk)
    .filter(({ name, inconsistent, recording, busy }) => !inconsistent && recording && !busy && isShown(name))
    .map(({ name }) => name);
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
  /** The resumable backup that has it, and was cut off. */
  readonly waiting: string | null;
}

/** The bitmaps that outlive the command. */
export function keptBitmaps(runtime: Runtime, { name: node, bitmaps }: Disk): KeptBitmap[] {
  const waiting = runtime.inspect().jobs.filter(({ disk, waits }) => disk === node && waits !== null);
  const kept = bitmaps.list().filter(({ persistent }) => persistent);
  return kept.reverse().map(({ name, count, inconsistent }) => ({
    name,
    dirty: count,
    story: bitmaps.history(name)[0]?.reason ?? "begins empty: the first backup has to be a full one",
    inconsistent,
    waiting: waiting.find(({ bitmap }) => bitmap === name)?.job ?? null,
  }));
}
