/** An attached disk, for its user: guest I/O through the pool, bitmaps, points in time. */
import { BlockError, EIO, errnoName, type ImageUse, type NodeHandle } from "@heirloom/block";
import {
  type DiskHandle,
  type IoCounts,
  operationDiscard,
  operationFlush,
  operationRead,
  operationWrite,
  operationWriteZeroes,
  requestBytesMax,
} from "@heirloom/engine";
import type { Coordinator } from "./coordinator.ts";
import { DiskBitmaps } from "./disk-bitmaps.ts";
import type { DiskState } from "./disk-state.ts";
import { type ReopenOptions, reopenDisk } from "./reopening.ts";
import { resizeDisk } from "./resize.ts";
import type { JournalInfo, ViewRequest } from "./options.ts";
import type { SpillDefaults } from "./spill-options.ts";
import { notBytes, View } from "./view.ts";

export class Disk {
  readonly name: string;
  readonly bitmaps: DiskBitmaps;
  /** @internal */
  readonly state: DiskState;
  readonly #coordinator: Coordinator;
  readonly #detach: (force: boolean) => Promise<void>;
  readonly #defaults: SpillDefaults;

  /** @internal */
  constructor(
    coordinator: Coordinator,
    state: DiskState,
    defaults: SpillDefaults,
    detach: (force: boolean) => Promise<void>,
  ) {
    this.name = state.name;
    this.state = state;
    this.bitmaps = new DiskBitmaps(coordinator, state);
    this.#coordinator = coordinator;
    this.#defaults = defaults;
    this.#detach = detach;
  }

  /** Bytes. */
  get length(): number {
    return this.state.layer.table.length;
  }

  /** The open node, for what a driver offers beside the verbs (`setThrottle`, `armFault`, `releaseHang`). */
  get node(): NodeHandle {
    return this.state.node;
  }

  /** Fills `buffer` from `offset` (bytes). @throws BlockError */
  read(buffer: Uint8Array, offset: number): Promise<void> {
    return this.#pieces(operationRead, "read", buffer, offset);
  }
  /** Writes all of `buffer`; it must not change until the promise is settled. @throws BlockError */
  write(buffer: Uint8Array, offset: number): Promise<void> {
    return this.#pieces(operationWrite, "write", buffer, offset);
  }
  /** @throws BlockError */
  discard(offset: number, length: number): Promise<void> {
    return this.#one(operationDiscard, "discard", offset, length);
  }
  /** @param options.unmap allows to give the room back @throws BlockError */
  writeZeroes(offset: number, length: number, options: { readonly unmap?: boolean } = {}): Promise<void> {
    return this.#one(operationWriteZeroes, "write zeroes", offset, length, options.unmap === true ? 1 : 0);
  }
  /** Every write that was acknowledged before is on stable storage. @throws BlockError */
  flush(): Promise<void> {
    return this.#one(operationFlush, "flush", 0, 0);
  }

  /** Bytes; grown space reads as zeroes and is not dirty. @throws RefusalError while jobs, views or handles use the disk */
  async resize(length: number): Promise<void> {
    await resizeDisk(this.#coordinator, this.state, length);
  }

  /**
   * Opens it anew, for writing or for reading only; exports and backups that read it go on. A window can be written where the
   * disk under it can: it is reopened after that one, and made read-only with it.
   * @throws RefusalError while anybody writes it, or BlockError where it cannot be opened so; then nothing has changed
   */
  async reopen(options: ReopenOptions): Promise<void> {
    await reopenDisk(this.#coordinator, this.state, options, this.#imageUse);
  }

  /**
   * What the disk holds now, for reading while guests go on. With a bitmap: frozen until the view ends, and the view is
   * limited to what it says changed.
   * @example
   * await using view = disk.view({ bitmap: "daily" });
   * for await (const { offset, length } of view.extents()) {
   *   const data = new Uint8Array(length);
   *   await view.read(data, offset);
   * }
   * await view.success();
   */
  view(request: ViewRequest = {}): View {
    return new View(this.#coordinator, this.state, request, this.#defaults);
  }

  /**
   * Locks the file or device of a disk that was attached with `locking: 'off'`, for as long as it is used so.
   * @throws BlockError where another program stands against it; then it is locked as before
   */
  async lockImage(use: ImageUse): Promise<void> {
    this.#coordinator.refuseClosing(this.state, true, "lock image"); // its descriptor may be another file's by now
    await this.#coordinator.engine.lockNode(this.state.node, this.#imageUse, use);
    this.#imageUse = use;
  }
  #imageUse: ImageUse = "none";

  /** A thread of a job that has ended still works with it. */
  get lettingGo(): boolean {
    return this.#coordinator.jobs.ending.holds(this.state);
  }
  /** Resolves when none does. */
  async released(): Promise<void> {
    await this.#coordinator.jobs.ending.released(this.state);
  }

  /** For one thread of yours, registered with the runtime: post it, and `openDisk` it there. @throws RefusalError */
  handle(): DiskHandle {
    this.#coordinator.refuseClosing(this.state, true, "handle");
    return this.#coordinator.engine.handle(this.state.layer);
  }

  /** Where persistent bitmaps are kept, and how far; undefined where there are none. */
  get journal(): JournalInfo | undefined {
    const { journal } = this.state;
    if (journal === undefined) return undefined;
    const { generation, recoveries } = journal.directory;
    return { path: journal.path, ...journal.figures, generation, recoveries, failed: journal.failed?.message ?? null };
  }

  /** Who uses the disk now: jobs, views and exports by id, disks that are windows of it by name. */
  get users(): {
    readonly jobs: readonly string[];
    readonly views: readonly string[];
    readonly exports: readonly string[];
    readonly windows: readonly string[];
  } {
    const { users } = this.state.actor.context;
    const ids = (kind: string): string[] => users.filter((user) => user.kind === kind).map((user) => user.id);
    return {
      jobs: ids("job"),
      views: ids("view"),
      exports: ids("export"),
      windows: [...this.state.above].map((disk) => disk.name),
    };
  }

  /** Guest requests and bytes so far. */
  get traffic(): { readonly requests: number; readonly bytes: number } {
    return this.#coordinator.engine.traffic(this.state.layer);
  }

  /** Requests of guests since the disk was attached, by kind; what backups wrote to it included. Its windows have counts of their own. */
  get counts(): IoCounts {
    const { layer } = this.state;
    return this.#coordinator.engine.counts(layer);
  }

  /**
   * Closes the disk. With `force` its jobs are cancelled, its views fail, its windows are detached, and threads that have it
   * open cannot change it any more; the image stays open until they have closed it or ended.
   * @throws RefusalError without `force` while jobs, views, windows or posted handles live; it names them
   */
  async detach(options: { readonly force?: boolean } = {}): Promise<void> {
    await this.#detach(options.force === true);
  }

  // A promise of its own at each layer of these calls would be most of the garbage of a request: only the last one makes one.
  #pieces(operation: number, name: string, buffer: Uint8Array, offset: number): Promise<void> {
    if (!(buffer instanceof Uint8Array)) return Promise.reject(notBytes(`${name} on '${this.name}'`));
    if (buffer.length <= requestBytesMax) return this.#one(operation, name, offset, buffer.length, 0, buffer);
    return this.#cut(operation, name, buffer, offset);
  }

  async #cut(operation: number, name: string, buffer: Uint8Array, offset: number): Promise<void> {
    this.#check(name, offset, buffer.length);
    const pieces: Promise<void>[] = [];
    for (let done = 0; done < buffer.length; done += requestBytesMax) {
      const piece = buffer.subarray(done, done + requestBytesMax);
      pieces.push(this.#one(operation, name, offset + done, piece.length, 0, piece));
    }
    await Promise.all(pieces);
  }

  // Not an async function: what it keeps over its await is 1 KiB for each request.
  #one(operation: number, name: string, offset: number, length: number, flag = 0, buffer?: Uint8Array): Promise<void> {
    try {
      this.#check(name, offset, length);
    } catch (error) {
      return Promise.reject(error);
    }
    const { layer } = this.state;
    return this.#coordinator.engine
      .io(layer)
      .request(operation, layer.id, offset, length, buffer, flag)
      .then(
        (errno) => {
          if (errno !== 0) throw this.#failure(name, offset, errnoName(errno), errno);
        },
        (cause: unknown) => {
          throw this.#failure(name, offset, "the thread that did it ended", EIO, cause);
        },
      );
  }

  #failure(name: string, offset: number, what: string, errno: number, cause?: unknown): BlockError {
    const details = cause === undefined ? { offset, errno } : { offset, errno, cause };
    return new BlockError("ERR_IO", `${name} on '${this.name}' at offset ${offset}: ${what}`, details);
  }

  #check(name: string, offset: number, length: number): void {
    const operation = `${name} on '${this.name}'`;
    if (this.state.actor.state !== "open") throw new BlockError("ERR_REQUEST", `${operation}: the disk is detached`);
    const fits =
      Number.isSafeInteger(offset) &&
      offset >= 0 &&
      Number.isSafeInteger(length) &&
      length >= 0 &&
      offset + length <= this.length;
    if (fits) return;
    const message = `${operation}: offset ${offset} and length ${length} must lie within the disk's ${this.length} bytes`;
    throw new BlockError("ERR_REQUEST", message, { offset, errno: 22 });
  }
}
