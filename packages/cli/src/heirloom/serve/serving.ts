/** Disks that are open and exported, and the sockets that clients come through. All of it, or nothing. */
import type { ListenAddress, ServerTls } from "@heirloom/nbd";
import { createRuntime, type Disk, type DiskExport, type DiskServer, type Runtime } from "@heirloom/runtime";
import { CommandError } from "../command-error.ts";
import type { BitmapArgument } from "./bitmap-argument.ts";
import type { ImageArgument } from "./image-argument.ts";
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
  { bitmaps, readOnly }: ServeRequest,
): Promise<ServedDisk> {
  const disk = await runtime.attach(image.spec ?? { driver: "file", filename: image.path, readOnly });
  if (disk.length === 0) {
    throw new CommandError(`'${image.path}' is empty: a disk of no bytes`, [
      "If it is to be a new disk, give it a size: truncate -s 10G FILE",
    ]);
  }
  for (const { name, granularity } of bitmaps) {
    await disk.bitmaps.add(name, granularity === undefined ? {} : { granularity });
  }
  const exported = await server.add({
    disk,
    name: image.name,
    writable: !readOnly,
    bitmaps: bitmaps.map(({ name }) => name),
  });
  return { image, disk, exported };
}
