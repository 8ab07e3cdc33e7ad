/** Disks that are open and exported, and the sockets that clients come through. All of it, or nothing. */
import type { ListenAddress, ServerTls } from "@heirloom/nbd";
import {
  type BitmapInfo,
  createRuntime,
  type Disk,
  type DiskExport,
  type DiskServer,
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
  { bitmaps, readOnly, control }: ServeRequest,
): Promise<ServedDisk> {
  const name = nodeNameFor(image.name, (other) => runtime.disks.some((disk) => disk.name === other));
  const disk = await runtime.attach(image.spec ?? { driver: "file", filename: image.path, readOnly }, { name });
  if (disk.length === 0) {
    throw new CommandError(`'${image.path}' is empty: a disk of no bytes`, [
      "If it is to be a new disk, give it a size: truncate -s 10G FILE",
    ]);
  }
  for (const { name: bitmap, granularity } of bitmaps) {
    await disk.bitmaps.add(bitmap, granularity === undefined ? {} : { granularity });
  }
  const exported = await server.add({
    disk,
    name: image.name,
    writable: !readOnly,
    // One that clients see is busy as long as they may look; with a control socket backups shall have them.
    bitmaps: bitmaps.filter(({ exported: shown = control === undefined }) => shown).map((bitmap) => bitmap.name),
  });
  return { image, disk, exported };
}
