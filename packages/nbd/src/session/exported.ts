/** What an export is on one thread: a disk that this thread is a guest of, or a point in time. */
import { SharedBitmap } from "@heirloom/bitmap";
import { EPERM, type Errno, type StatusExtent } from "@heirloom/block";
import type { DiskIo, ServiceThread, ViewReader } from "@heirloom/engine";
import { countedDiscard, type CountedKind, countedRead, countedWrite } from "@heirloom/engine/thread";
import { CMD_READ, CMD_TRIM, CMD_WRITE, CMD_WRITE_ZEROES } from "../protocol/constants.ts";
import type { PostedExport } from "./messages.ts";

export type Context =
  | { readonly kind: "allocation" }
  | { readonly kind: "depth" }
  | { readonly kind: "bitmap"; readonly bitmap: SharedBitmap };

const countedKinds: ReadonlyMap<number, CountedKind> = new Map([
  [CMD_READ, countedRead],
  [CMD_WRITE, countedWrite],
  [CMD_WRITE_ZEROES, countedWrite],
  [CMD_TRIM, countedDiscard],
]);

export class Exported {
  readonly id: number;
  /** The same for exports that share a gate. */
  readonly diskKey: string;
  readonly length: number;
  readonly alignment: number;
  readonly payloadBytesMax: number;
  readonly contexts: readonly Context[];
  readonly writable: boolean;
  /** The disk that changes go to; undefined for a point in time. */
  readonly disk: DiskIo | undefined;
  readonly #reads: DiskIo | ViewReader;

  private constructor(posted: PostedExport, disk: DiskIo | undefined, reads: DiskIo | ViewReader) {
    this.id = posted.id;
    this.diskKey = posted.disk;
    this.length = posted.length;
    this.alignment = posted.alignment;
    this.payloadBytesMax = posted.payloadBytesMax;
    this.writable = posted.writable;
    this.contexts = posted.contexts.map((context) =>
      context.kind === "bitmap" ? { kind: "bitmap", bitmap: SharedBitmap.from(context.bitmap) } : context,
    );
    this.disk = disk;
    this.#reads = reads;
  }

  static async open(posted: PostedExport, thread: ServiceThread): Promise<Exported> {
    if ("view" in posted.source) return new Exported(posted, undefined, await thread.view(posted.source.view));
    const disk = await thread.disk(posted.source.disk);
    return new Exported(posted, disk, disk);
  }

  /** No verb waits for more than its own device: it can be called by a thread that serves others as well. */
  get prompt(): boolean {
    return this.#reads.prompt;
  }

  /** EAGAIN where it would wait. @param whole as `DiskIo.whole` */
  readNow(buffer: Uint8Array, offset: number, whole = 0): Errno {
    if (this.disk !== undefined) this.disk.whole = whole;
    return this.#reads.readNow(buffer, offset);
  }
  read(buffer: Uint8Array, offset: number, whole = 0): Errno {
    if (this.disk !== undefined) this.disk.whole = whole;
    return this.#reads.read(buffer, offset);
  }
  status(offset: number, length: number, extent: StatusExtent): Errno {
    return this.#reads.status(offset, length, extent);
  }
  zeroesFrom(offset: number, length: number): number {
    return this.#reads.zeroesFrom(offset, length);
  }
  write(buffer: Uint8Array, offset: number, whole = 0): Errno {
    if (this.disk === undefined) return EPERM;
    this.disk.whole = whole;
    return this.disk.write(buffer, offset);
  }
  discard(offset: number, length: number): Errno {
    if (this.disk === undefined) return EPERM;
    this.disk.whole = 0;
    return this.disk.discard(offset, length);
  }
  writeZeroes(offset: number, length: number, unmap: boolean, fast: boolean): Errno {
    if (this.disk === undefined) return EPERM;
    this.disk.whole = 0;
    return fast ? this.disk.writeZeroesFast(offset, length, unmap) : this.disk.writeZeroes(offset, length, unmap);
  }
  flush(): Errno {
    if (this.disk === undefined) return 0;
    this.disk.whole = 0;
    return this.disk.flush();
  }
  /** A request of this type was refused before it came here. */
  countRefused(type: number): void {
    const kind = countedKinds.get(type);
    if (kind !== undefined) this.disk?.refused(kind);
  }
  close(): void {
    this.disk?.close();
  }
}
