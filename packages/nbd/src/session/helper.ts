/** A helper thread: does what would make a session wait. It sleeps while there is nothing, and ends when that lasts. */
import { receiveMessageOnPort } from "node:worker_threads";
import { EIO, type Errno, ringDoorbell } from "@heirloom/block";
import type { ServiceThread } from "@heirloom/engine";
import { Exported } from "./exported.ts";
import { findExtents, KNOWN_BYTES } from "./known-extents.ts";
import { PIECE_BYTES_MAX } from "./limits.ts";
import type { FromHelper, HelperOptions, PostedExport, ToHelper } from "./messages.ts";
import * as layout from "./work-layout.ts";
import { WorkQueue } from "./work-queue.ts";

/** Without work for so long, a helper ends. */
const IDLE_MS = 10_000;

class Helper {
  readonly #thread: ServiceThread;
  readonly #queue: WorkQueue;
  readonly #payload: Uint8Array;
  readonly #posted = new Map<number, PostedExport>();
  readonly #exports = new Map<number, Exported>();
  #newsSeen = -1;
  #told = false;
  #cache: Uint8Array | undefined;

  constructor(thread: ServiceThread) {
    this.#thread = thread;
    const options = thread.options as HelperOptions;
    for (const posted of options.exports) this.#posted.set(posted.id, posted);
    this.#queue = new WorkQueue(options.work, options.slots);
    this.#payload = new Uint8Array(options.budget.bytes);
  }

  async run(): Promise<void> {
    const queue = this.#queue;
    this.#say({ type: "ready" });
    for (;;) {
      const seen = queue.workSeen();
      this.#takeNews();
      const slot = queue.take(this.#thread.participant);
      if (slot !== -1) await this.#serve(slot);
      // Whoever submits from here on finds no helper asleep, and asks for one.
      else if (this.#told || queue.stopping) return;
      else if (!queue.sleep(seen, IDLE_MS)) this.#say({ type: "idle" });
    }
  }

  async #serve(slot: number): Promise<void> {
    const queue = this.#queue;
    let errno: Errno = EIO;
    try {
      const exported = await this.#exportOf(queue.get(slot, layout.exportField));
      if (exported !== undefined) errno = this.#do(exported, slot);
    } finally {
      // A driver module that throws has not done it. The thread ends with that, and whoever watches threads is told.
      const bell = queue.get(slot, layout.bellField);
      queue.finish(slot, errno);
      ringDoorbell(bell);
    }
  }

  #do(exported: Exported, slot: number): Errno {
    const queue = this.#queue;
    const flags = queue.get(slot, layout.flagsField);
    const offset = queue.number(slot, layout.offsetNumber);
    const length = queue.number(slot, layout.lengthNumber);
    const data = queue.number(slot, layout.dataNumber);
    if (exported.disk !== undefined) {
      exported.disk.admitted = (flags & layout.flagAdmitted) !== 0;
      const now = performance.timeOrigin + performance.now();
      exported.disk.waitedMs = Math.max(0, now - queue.number(slot, layout.arrivedNumber));
    }
    const errno = this.#perform(exported, slot, queue.get(slot, layout.operationField), flags, offset, length, data);
    return errno === 0 && (flags & layout.flagFua) !== 0 ? exported.flush() : errno;
  }

  #perform(
    exported: Exported,
    slot: number,
    operation: number,
    flags: number,
    offset: number,
    length: number,
    data: number,
  ): Errno {
    const whole = this.#queue.number(slot, layout.wholeNumber);
    switch (operation) {
      case layout.workRead:
        return exported.read(this.#payload.subarray(data, data + length), offset, whole);
      case layout.workWrite:
        return exported.write(this.#payload.subarray(data, data + length), offset, whole);
      case layout.workFlush:
        return exported.flush();
      case layout.workDiscard:
        return exported.discard(offset, length);
      case layout.workWriteZeroes: {
        const unmap = (flags & layout.flagUnmap) !== 0;
        return exported.writeZeroes(offset, length, unmap, (flags & layout.flagFast) !== 0);
      }
      case layout.workStatus: {
        const found = new Float64Array(this.#payload.buffer, data, KNOWN_BYTES / 8);
        const result = findExtents(exported, offset, length, found);
        if (result > 0) return result;
        this.#queue.numbers[slot * layout.slotNumbers + layout.lengthNumber] = -result;
        return 0;
      }
      default:
        return this.#readIntoCache(exported, offset, length);
    }
  }

  #readIntoCache(exported: Exported, offset: number, length: number): Errno {
    this.#cache ??= new Uint8Array(PIECE_BYTES_MAX);
    for (let done = 0; done < length; done += PIECE_BYTES_MAX) {
      const piece = Math.min(PIECE_BYTES_MAX, length - done);
      const errno = exported.read(this.#cache.subarray(0, piece), offset + done);
      if (errno !== 0) return errno;
    }
    return 0;
  }

  #takeNews(): void {
    const news = this.#queue.newsSeen();
    if (news === this.#newsSeen) return;
    this.#newsSeen = news;
    for (;;) {
      const received = receiveMessageOnPort(this.#thread.port);
      if (received === undefined) return;
      const message = received.message as ToHelper;
      if (message.type === "export") this.#posted.set(message.export.id, message.export);
      else if (message.type === "end") this.#told = true;
      else {
        this.#exports.get(message.export)?.close();
        this.#exports.delete(message.export);
        this.#posted.delete(message.export);
      }
    }
  }

  /** Undefined once it was forgotten. */
  async #exportOf(id: number): Promise<Exported | undefined> {
    let exported = this.#exports.get(id);
    if (exported !== undefined) return exported;
    this.#takeNews();
    const posted = this.#posted.get(id);
    if (posted === undefined) return undefined;
    exported = await Exported.open(posted, this.#thread);
    this.#exports.set(id, exported);
    return exported;
  }

  #say(message: FromHelper): void {
    this.#thread.port.postMessage(message);
  }
}

export async function serve(thread: ServiceThread): Promise<void> {
  await new Helper(thread).run();
}
