/**
 * A thread's side of the arenas: number to buffer. New arenas are announced on the engine's broadcast channel before
 * any table names a region in them, so a thread that finds a number it does not know reads its channel, without an
 * event loop. One case is left: a handle made before an arena, opened after it was announced. Then the thread asks on the
 * channel, outside every gate, and sleeps on the count of arenas until the main thread has said them again.
 */
import assert from "node:assert";
import { BroadcastChannel, type MessagePort, receiveMessageOnPort } from "node:worker_threads";
import type { RegionReference } from "./arena.ts";
import type { Registry } from "./registry.ts";

export interface ArenaAnnouncement {
  readonly arenas: readonly { readonly arena: number; readonly buffer: SharedArrayBuffer }[];
}
/** Sent by a thread that missed announcements. */
export interface ArenaQuestion {
  readonly missingArenas: true;
}

/** Number to buffer, for whoever reads descriptors. */
export interface ArenaLookup {
  buffer(arena: number): SharedArrayBuffer;
}

export class ArenaMap implements ArenaLookup {
  readonly #buffers: SharedArrayBuffer[];
  readonly #registry: Registry;
  readonly #channel: BroadcastChannel;

  constructor(registry: Registry, channelName: string, known: readonly SharedArrayBuffer[]) {
    this.#registry = registry;
    this.#buffers = [...known];
    this.#channel = new BroadcastChannel(channelName);
    this.#channel.unref();
  }

  /** Whether all arenas up to `count` are known now; false only in the case described above. */
  knows(count: number): boolean {
    if (this.#hasAll(count)) return true;
    this.#receive();
    return this.#hasAll(count);
  }

  /** Outside of every gate: sleeps until arenas up to `count` are known. */
  catchUp(count: number): void {
    while (!this.knows(count)) {
      const question: ArenaQuestion = { missingArenas: true };
      this.#channel.postMessage(question);
      this.#registry.waitForArena(this.#registry.arenaCount, 10);
    }
  }

  buffer(arena: number): SharedArrayBuffer {
    const buffer = this.#buffers[arena];
    assert(buffer !== undefined, `arena ${arena} was announced before it is named`);
    return buffer;
  }

  words(reference: RegionReference, count: number): Int32Array {
    return new Int32Array(this.buffer(reference.arena), reference.byteOffset, count);
  }

  close(): void {
    this.#channel.close();
  }

  #hasAll(count: number): boolean {
    for (let arena = 0; arena < count; arena++) if (this.#buffers[arena] === undefined) return false;
    return true;
  }

  #receive(): void {
    for (;;) {
      // Takes broadcast channels as well (Node 15.12); its types say ports only.
      const received = receiveMessageOnPort(this.#channel as unknown as MessagePort);
      if (received === undefined) return;
      const message = received.message as ArenaAnnouncement | ArenaQuestion;
      if (!("arenas" in message)) continue; // another thread's question
      for (const { arena, buffer } of message.arenas) this.#buffers[arena] ??= buffer;
    }
  }
}
