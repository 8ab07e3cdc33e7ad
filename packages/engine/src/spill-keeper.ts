/**
 * Grows a view's spill file, from the main thread by way of a helper: guests ask by a word when memory is half full, and
 * never wait for the answer other than as for a full spill.
 */
import type { Errno } from "@heirloom/block";
import type { SpillFile, SpillFileTask } from "./helper-tasks.ts";
import type { Pool } from "./pool.ts";
import { fileDescriptorWord, fileSlotsWord, fileWantedWord, freeFileWord } from "./spill-layout.ts";
import { type TaskResult, unwrap } from "./task-result.ts";
import type { View } from "./view.ts";
import type { ViewMemory } from "./view-memory.ts";

export interface SpillFileOptions {
  /** Undefined: no file, since there is no directory to put it in. */
  readonly directory: string | undefined;
  readonly allowTmpfs: boolean;
  /** Share of the file system that stays free; 0.05 by default. */
  readonly floor: number;
}

/** What the view can preserve at most, in whole clusters. */
function setBytes(view: View): number {
  const all = view.clusters * view.clusterSize;
  if (view.set === undefined) return all;
  const granules = view.set.count() / view.set.granularity;
  return Math.min(all, granules * Math.max(view.set.granularity, view.setUnit));
}

/** The file grows by this, or by as much as it has already. */
const growthBytes = 64 * 1024 * 1024;

export class SpillKeeper {
  readonly #pool: Pool;
  readonly #memory: ViewMemory;
  readonly #options: SpillFileOptions;
  readonly #onRefused: (error: Error) => void;
  #fd = -1;
  #allocated = 0;
  #ended = false;
  readonly #followed: Promise<void>;

  /** @param onRefused told once when the file cannot be made or grown: the spill stays as large as it is */
  constructor(pool: Pool, memory: ViewMemory, options: SpillFileOptions, onRefused: (error: Error) => void) {
    this.#pool = pool;
    this.#memory = memory;
    this.#options = options;
    this.#onRefused = onRefused;
    this.#fd = memory.kept?.fd ?? -1;
    this.#allocated = memory.kept?.allocated ?? 0;
    this.#followed = this.#follow();
  }

  /** Bytes of the file that have room on disk. */
  get allocated(): number {
    return this.#allocated;
  }

  /** The view has ended and every thread has let go of it. */
  async close(): Promise<void> {
    this.#ended = true;
    Atomics.notify(this.#memory.spillWords, fileWantedWord);
    await this.#followed;
    if (this.#fd === -1) return;
    // By a helper: the file system gives up to gigabytes back before a close returns.
    // Where the helper dies nobody knows whether it had closed it; closing again might hit somebody else's file.
    await this.#pool.help<TaskResult<Errno>>("closeFileTask", { fd: this.#fd }).catch(() => {});
  }

  async #follow(): Promise<void> {
    const words = this.#memory.spillWords;
    const { directory } = this.#options;
    if (directory === undefined || this.#memory.fileSlotsMax === 0) return;
    while (!this.#ended) {
      const wanted = Atomics.load(words, fileWantedWord);
      if ((wanted & 1) === 0) {
        const wait = Atomics.waitAsync(words, fileWantedWord, wanted);
        if (wait.async) await wait.value;
        continue;
      }
      try {
        await this.#grow(directory);
      } catch (error) {
        if (!this.#ended) this.#onRefused(error as Error);
        return; // the word stays odd: nobody asks again
      }
      Atomics.add(words, fileWantedWord, 1);
    }
  }

  async #grow(directory: string): Promise<void> {
    const { clusterSize, fileSlotsMax, spillWords, view } = this.#memory;
    const most = this.#memory.bytesFor(Math.min(fileSlotsMax, Math.ceil(setBytes(view) / clusterSize)));
    const to = Math.min(most, this.#allocated + Math.max(growthBytes, this.#allocated));
    if (to <= this.#allocated) return;
    const task: SpillFileTask = { ...this.#options, directory, fd: this.#fd, from: this.#allocated, to };
    const file = unwrap(await this.#pool.help<TaskResult<SpillFile>>("spillFileTask", task));
    const slots = this.#memory.slotsIn(file.allocated);
    const before = this.#memory.slotsIn(this.#allocated);
    this.#fd = file.fd;
    this.#allocated = file.allocated;
    Atomics.store(spillWords, fileDescriptorWord, file.fd);
    Atomics.store(spillWords, fileSlotsWord, slots); // the number first, then how many are free
    Atomics.add(spillWords, freeFileWord, slots - before);
    view.madeProgress();
  }
}
