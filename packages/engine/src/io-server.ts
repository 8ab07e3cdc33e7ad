/** The long task behind the main thread's `disk.read` and the rest: a guest that serves a ring. */
import assert from "node:assert";
import { inspect } from "node:util";
import { receiveMessageOnPort, type MessagePort } from "node:worker_threads";
import { connectNode, EIO, type Errno, loadDrivers, type NodeHandle } from "@heirloom/block";
import type { RegionReference } from "./arena.ts";
import { type DiskAddress, DiskIo } from "./disk-io.ts";
import * as ring from "./io-ring.ts";
import { readView } from "./reader.ts";
import type { Seat } from "./registry.ts";
import { type EngineAddress, ThreadContext } from "./thread-context.ts";
import { View } from "./view.ts";

export interface IoServerTask {
  readonly engine: EngineAddress;
  readonly seat: Seat;
  readonly ring: SharedArrayBuffer;
  /** Disks and views that the ring's requests name by number come here. */
  readonly port: MessagePort;
}

/** Something for the server to know before the requests that name its number. */
export type Adoption = {
  readonly number: number;
  readonly disk: DiskAddress;
  /** Arenas that there were by then: all that is named here lies in them. */
  readonly arenaCount: number;
} & (
  | { readonly kind: "disk" }
  | { readonly kind: "view"; readonly view: RegionReference; readonly target: NodeHandle | undefined }
);

/** Requests answered before a sleeping main thread is woken: a wake-up costs more than a 4 KiB write. */
const answersPerWake = 16;

export async function serveIo(task: IoServerTask): Promise<void> {
  const context = ThreadContext.of(task.engine);
  assert(context.goLive(task.seat), "a server's number is reserved for it");
  const server = new IoServer(task, context);
  await server.run();
  task.port.close();
}

class IoServer {
  readonly #task: IoServerTask;
  readonly #context: ThreadContext;
  readonly #ring: ring.IoRing;
  readonly #disks = new Map<number, DiskIo>();
  readonly #views = new Map<number, (buffer: Uint8Array, offset: number) => Errno>();

  constructor(task: IoServerTask, context: ThreadContext) {
    this.#task = task;
    this.#context = context;
    this.#ring = new ring.IoRing(task.ring);
  }

  async run(): Promise<void> {
    const { words } = this.#ring;
    let done = Atomics.load(words, ring.completedWord);
    for (;;) {
      const submitted = Atomics.load(words, ring.submittedWord);
      if (submitted === done) {
        Atomics.wait(words, ring.submittedWord, submitted);
        continue;
      }
      let unannounced = 0;
      while (done !== submitted) {
        const entry = (done >>> 0) % ring.ringEntries;
        const at = entry * ring.entryNumbers;
        const { numbers } = this.#ring;
        const closes = numbers[at] === ring.operationClose;
        if (numbers[at] === ring.operationAdopt) await this.#adoptNext();
        else if (closes) Atomics.store(words, ring.errnoStart + entry, 0);
        else Atomics.store(words, ring.errnoStart + entry, this.#serve(at));
        done = (done + 1) | 0;
        Atomics.store(words, ring.completedWord, done);
        if (++unannounced === answersPerWake || done === submitted) {
          Atomics.notify(words, ring.completedWord);
          unannounced = 0;
        }
        if (closes) return;
      }
    }
  }

  #serve(at: number): Errno {
    const { numbers, data } = this.#ring;
    const number = numbers[at + 1];
    const offset = numbers[at + 2];
    const length = numbers[at + 3];
    const place = numbers[at + 4];
    if (numbers[at] === ring.operationForget) {
      this.#disks.delete(number);
      this.#views.delete(number);
      return 0;
    }
    if (numbers[at] === ring.operationReadView) {
      const read = this.#views.get(number);
      return read === undefined ? EIO : read(data.subarray(place, place + length), offset);
    }
    const disk = this.#disks.get(number);
    if (disk === undefined) return EIO;
    switch (numbers[at]) {
      case ring.operationRead:
        return disk.read(data.subarray(place, place + length), offset);
      case ring.operationWrite:
        return disk.write(data.subarray(place, place + length), offset);
      case ring.operationDiscard:
        return disk.discard(offset, length);
      case ring.operationWriteZeroes:
        return disk.writeZeroes(offset, length, numbers[at + 5] !== 0);
      default:
        return disk.flush();
    }
  }

  /** What cannot be connected here answers EIO: its driver's fault must not end the thread, which serves other disks. */
  async #adoptNext(): Promise<void> {
    const message = receiveMessageOnPort(this.#task.port)?.message as Adoption | undefined;
    if (message === undefined) return;
    try {
      await this.#adopt(message);
    } catch (error) {
      process.emitWarning(`a disk cannot be served: ${inspect(error)}`, { code: "HEIRLOOM_DRIVER" });
    }
  }

  async #adopt(message: Adoption): Promise<void> {
    await loadDrivers(message.disk.node);
    if (message.disk.lowest !== undefined) await loadDrivers(message.disk.lowest);
    this.#context.arenas.catchUp(message.arenaCount);
    if (message.kind === "disk") {
      this.#disks.set(message.number, new DiskIo(message.disk, this.#context, this.#task.seat.participant));
      return;
    }
    const view = View.at(message.view, this.#context.arenas);
    const node = connectNode(message.disk.node);
    if (message.target !== undefined) await loadDrivers(message.target);
    const target = message.target && connectNode(message.target);
    this.#views.set(message.number, (buffer, offset) => readView(view, node, 0, target, buffer, offset));
  }
}
