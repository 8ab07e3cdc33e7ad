/** An engine with disks, and a server on a Unix path that shows them. Everything ends with the test. */
import assert from "node:assert/strict";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type FaultRule, type NodeHandle, type NodeSpec, releaseHang } from "@heirloom/block";
import { Engine, type Layer, type Recorder } from "@heirloom/engine";
import { NbdServer, type NbdExportSpec, type NbdServerEvent, type NbdServerOptions } from "@heirloom/nbd";
import { onTestFinished } from "vitest";
import { scratchDirectory } from "../tool.fixture.ts";
import { type Form, RawNbd } from "../../testing/raw-client.ts";

export const KiB = 1024;
export const MiB: number = 1024 * 1024;

/** Numbers in [0, 1) that a seed decides. */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Bytes of which none is zero. */
export function pattern(length: number, seed: number): Buffer {
  const bytes = Buffer.alloc(length);
  let state = Math.imul(seed + 1, 0x9e3779b1) >>> 0;
  for (let index = 0; index < length; index++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bytes[index] = (state >>> 24) | 1;
  }
  return bytes;
}

/** Where two images differ first, for a short failure text; -1 if they do not. */
export function difference(one: Uint8Array, other: Uint8Array): number {
  if (Buffer.compare(one, other) === 0) return -1;
  const at = one.findIndex((byte, index) => byte !== other[index]);
  return at === -1 ? one.length : at;
}

export interface ServedDisk {
  readonly name: string;
  readonly layer: Layer;
  readonly handle: NodeHandle;
  /** The image's file. */
  readonly file: string;
}

export class Served {
  readonly engine: Engine;
  readonly server: NbdServer;
  readonly path: string;
  readonly directory: string;
  readonly events: NbdServerEvent[] = [];
  readonly #waiting = new Set<() => void>();
  readonly #hung: NodeHandle[] = [];

  private constructor(options: NbdServerOptions, directory: string) {
    this.engine = new Engine({ idleTimeoutMs: 5000 });
    this.directory = directory;
    this.path = join(directory, "nbd.sock");
    this.server = new NbdServer(this.engine, {
      ...options,
      onEvent: (event) => {
        this.events.push(event);
        for (const wake of this.#waiting) wake();
      },
    });
  }

  /** @param where images on a tmpfs, where there is one, or on a disk */
  static async open(options: NbdServerOptions = {}, where: "memory" | "disk" = "memory"): Promise<Served> {
    const base = where === "memory" && existsSync("/dev/shm") ? "/dev/shm" : undefined;
    const served = new Served(options, scratchDirectory(base));
    onTestFinished(() => served.#close());
    await served.server.listen({ path: served.path });
    return served;
  }

  /** A disk whose image is a file with this content, or this long; faults over it, where there are rules. */
  async disk(name: string, content: Uint8Array | number, rules?: readonly FaultRule[]): Promise<ServedDisk> {
    const file = join(this.directory, `${name}.raw`);
    const length = typeof content === "number" ? content : content.length;
    if (typeof content !== "number") writeFileSync(file, content);
    const image = { driver: "file", filename: file, ...(typeof content === "number" ? { create: { length } } : {}) };
    return this.attach(name, rules === undefined ? image : { driver: "fault", file: image, rules }, file);
  }

  async attach(name: string, spec: NodeSpec, file = ""): Promise<ServedDisk> {
    const opened = await this.engine.openNode(spec);
    if (opened.handle.driver === "fault") this.#hung.push(opened.handle);
    return { name, layer: this.engine.addLayer(opened), handle: opened.handle, file };
  }

  /** A bitmap that records from now on. */
  async record(disk: ServedDisk, granularity = 64 * KiB): Promise<Recorder> {
    const { layer } = disk;
    const recorder = this.engine.recorder(layer.table.length, granularity);
    await this.engine.transitions.run({
      name: "record",
      stacks: [layer.stack],
      prepare: () => ({
        tables: new Map([[layer, { ...layer.table, recorders: [...layer.table.recorders, recorder] }]]),
      }),
    });
    return recorder;
  }

  /** Writable unless said otherwise. */
  show(disk: ServedDisk, options: Partial<NbdExportSpec> = {}): string {
    const { arena, byteOffset } = disk.layer.stack.gateRegion;
    const spec: NbdExportSpec = {
      name: disk.name,
      source: { disk: this.engine.postedDisk(disk.layer) },
      disk: `${arena}:${byteOffset}`,
      writable: true,
      length: disk.layer.table.length,
      alignment: disk.handle.alignment,
      bitmaps: [],
      ...options,
    };
    this.server.add(spec);
    return spec.name;
  }

  client(name: string, form?: Form, contexts?: string[], early?: Uint8Array): Promise<RawNbd> {
    return RawNbd.open(this.path, name, form, contexts, early);
  }

  /** Until it holds; looked at again after each event of the server. */
  async until(holds: () => boolean): Promise<void> {
    while (!holds()) {
      await new Promise<void>((resolve) => {
        const wake = (): void => {
          this.#waiting.delete(wake);
          clearTimeout(timer);
          resolve();
        };
        const timer = setTimeout(wake, 5);
        this.#waiting.add(wake);
      });
    }
  }

  /** The image's bytes, as they are now. */
  bytes(disk: ServedDisk): Buffer {
    return readFileSync(disk.file);
  }

  async #close(): Promise<void> {
    RawNbd.closeAll();
    for (const handle of this.#hung) releaseHang(handle);
    const stopped = this.server.stop({ hard: true });
    const again = setInterval(() => this.#hung.forEach((handle) => releaseHang(handle)), 20);
    await stopped;
    clearInterval(again);
    assert(await this.engine.close(), "no thread is left behind");
  }
}

/** Two images are the same; else where they are not, and what is there. */
export function expectSame(one: Uint8Array, other: Uint8Array, what: string): void {
  const at = difference(one, other);
  assert(
    at === -1,
    `${what}: differs at ${at}: ${one[at]} instead of ${other[at]} (${one.length} bytes, ${other.length})`,
  );
}
