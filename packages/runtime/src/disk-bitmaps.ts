/** The named dirty bitmaps of a disk. */
import type { Action, Coordinator } from "./coordinator.ts";
import { refusal, RefusalError } from "./errors.ts";
import type { BitmapState } from "./bitmap-memory.ts";
import { bitmapInfo, successorInfo } from "./bitmap-info.ts";
import type { DiskState, GivenDisk } from "./disk-state.ts";
import type { HistoryEntry } from "./machines/machine-actor.ts";
import type { BitmapInfo } from "./options.ts";
import { checkMergeSources } from "./validation/merge-sources.ts";

export interface BitmapAddOptions {
  /** Bytes, a power of two from 512; 65536 by default. */
  readonly granularity?: number;
  /** Does not record until it is enabled. */
  readonly disabled?: boolean;
  /** Survives the process, and power losses: kept in a sidecar beside the image (`attach(..., { journal })` says where). */
  readonly persistent?: boolean;
}

/** A bitmap of another disk, or of this one by name. */
export type BitmapSource = string | { readonly disk: GivenDisk; readonly name: string };

export class DiskBitmaps {
  readonly #coordinator: Coordinator;
  readonly #disk: DiskState;

  /** @internal */
  constructor(coordinator: Coordinator, disk: DiskState) {
    this.#coordinator = coordinator;
    this.#disk = disk;
  }

  /** @throws RefusalError: the name is taken or no name, the granularity no power of two or too fine for the disk */
  async add(name: string, options: BitmapAddOptions = {}): Promise<void> {
    const { granularity, disabled = false, persistent = false } = options;
    await this.#command({ kind: "add", disk: this.#disk.name, name, granularity, disabled, persistent });
  }
  /** @throws RefusalError while a job, a view or an export has it */
  async remove(name: string): Promise<void> {
    await this.#do("remove", name);
  }
  /** @throws RefusalError */
  async clear(name: string): Promise<void> {
    await this.#do("clear", name);
  }
  /** Records from now on. @throws RefusalError */
  async enable(name: string): Promise<void> {
    await this.#do("enable", name);
  }
  /** Does not record from now on, and keeps what it says. @throws RefusalError */
  async disable(name: string): Promise<void> {
    await this.#do("disable", name);
  }
  /** Joins what the sources say into `target`, all or none. Granularities may differ. @throws RefusalError */
  async merge(target: string, sources: readonly BitmapSource[]): Promise<void> {
    checkMergeSources("bitmap merge", sources);
    const given = sources.map((source) => (typeof source === "string" ? { disk: this.#disk, name: source } : source));
    const references = given.map(({ disk, name }) => ({ node: typeof disk === "string" ? disk : disk.name, name }));
    const others = given.flatMap(({ disk }) => (typeof disk !== "string" && "state" in disk ? (disk.state ?? []) : []));
    await this.#command({ kind: "merge", disk: this.#disk.name, target, sources: references }, others);
  }

  /** All of them, newest first. @param options.successors those too that record for frozen bitmaps; they have no names */
  list(options: { readonly successors?: boolean } = {}): BitmapInfo[] {
    const listed: { order: number; info: BitmapInfo }[] = [];
    for (const bitmap of this.#disk.bitmaps.values()) {
      const { order, successorOrder } = bitmap.memory;
      listed.push({ order, info: bitmapInfo(bitmap) });
      const successor = options.successors === true ? successorInfo(bitmap) : undefined;
      if (successor !== undefined) listed.push({ order: successorOrder, info: successor });
    }
    return listed.sort((one, other) => other.order - one.order).map(({ info }) => info);
  }

  /** @throws RefusalError if there is none of this name */
  get(name: string): BitmapInfo {
    return bitmapInfo(this.#find(name));
  }

  /** States that it went through, and why. @throws RefusalError if there is none of this name */
  history(name: string): readonly HistoryEntry[] {
    return this.#find(name).actor.history;
  }

  /** What it says is dirty, in order; of a frozen one, what it said at the freeze. @throws RefusalError */
  *extents(name: string): IterableIterator<{ offset: number; length: number }> {
    const { bits } = this.#find(name).memory;
    bits.hold();
    try {
      yield* bits.bitmap.extents();
    } finally {
      bits.letGo();
    }
  }

  /** Level-0 words, least significant bit first: what QEMU's debug checksum covers. @throws RefusalError */
  serialize(name: string): Uint8Array {
    return this.#find(name).memory.bits.bitmap.serialize();
  }

  async #do(kind: "remove" | "clear" | "enable" | "disable", name: string): Promise<void> {
    await this.#command({ kind, disk: this.#disk.name, name });
  }

  async #command(action: Action, others: readonly DiskState[] = []): Promise<void> {
    await this.#coordinator.transaction([action], "individual", { given: [this.#disk, ...others] });
  }

  #find(name: string): BitmapState {
    const bitmap = this.#disk.bitmaps.get(name);
    if (bitmap !== undefined) return bitmap;
    const fields = { node: this.#disk.name, bitmap: name };
    throw new RefusalError("bitmap", refusal("ERR_BITMAP_NOT_FOUND", `Dirty bitmap '${name}' not found`, fields));
  }
}
