/**
 * What the engine's tests stand on: an engine whose guests run in the test's own thread, so that every step is a call;
 * plain models of bits; and a watch over memory that was given back.
 */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type BlockNode, connectNode, type NodeHandle, type NodeSpec, openNode } from "@heirloom/block";
import {
  Engine,
  type EngineOptions,
  type EngineView,
  type EngineViewOptions,
  type Layer,
  type LayerTable,
  type Recorder,
  type TransitionOutcome,
} from "@heirloom/engine";
import type { Region } from "../dist/arena.js";
import { DiskIo } from "../dist/disk-io.js";
import { jobWords } from "../dist/job-layout.js";
import type { MoverJob } from "../dist/mover-types.js";
import { ThreadContext } from "../dist/thread-context.js";
import type { View } from "../dist/view.js";

export const KiB = 1024;
export const MiB = 1024 * 1024;

/** Bytes of which none is zero, different for each seed. */
export function pattern(length: number, seed: number): Uint8Array {
  const bytes = new Uint8Array(length);
  let state = Math.imul(seed + 1, 0x9e3779b1) >>> 0;
  for (let index = 0; index < length; index++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bytes[index] = (state >>> 24) | 1;
  }
  return bytes;
}

export async function memoryNode(size: number, content?: Uint8Array): Promise<BlockNode> {
  const node = connectNode(await openNode({ driver: "memory", size }));
  if (content !== undefined) assert.equal(node.write(content, 0), 0);
  return node;
}

/** A node whose verbs are another's but for some. */
export function nodeWith(node: BlockNode, verbs: Partial<BlockNode>): BlockNode {
  return {
    length: () => node.length(),
    read: (buffer, offset) => node.read(buffer, offset),
    write: (buffer, offset) => node.write(buffer, offset),
    discard: (offset, length) => node.discard(offset, length),
    writeZeroes: (offset, length, unmap) => node.writeZeroes(offset, length, unmap),
    flush: () => node.flush(),
    status: (offset, length, extent) => node.status(offset, length, extent),
    resize: (length) => node.resize(length),
    admit: (kind, length) => node.admit(kind, length),
    direct: node.direct,
    ...verbs,
  };
}

export function contentOf(node: BlockNode, offset = 0, length: number = node.length() - offset): Uint8Array {
  const bytes = new Uint8Array(length);
  assert.equal(node.read(bytes, offset), 0);
  return bytes;
}

/** Offset of the first byte that differs, or -1. (Comparing large arrays item by item takes seconds.) */
export function difference(one: Uint8Array, other: Uint8Array): number {
  if (Buffer.compare(one, other) === 0) return -1;
  const at = one.findIndex((byte, index) => byte !== other[index]);
  return at === -1 ? one.length : at;
}

export interface LabDisk {
  readonly layer: Layer;
  readonly handle: NodeHandle;
  /** The device itself, below the gate. */
  readonly node: BlockNode;
  /** A guest in this thread. */
  readonly guest: DiskIo;
}

/** An engine; closed at the end of its test by `await using`. */
export class Lab {
  readonly engine: Engine;
  /** Regions that were given back and not handed out again. */
  readonly free = new Set<Region>();
  #directory: string | undefined;

  constructor(options: EngineOptions = {}) {
    this.engine = new Engine({ idleTimeoutMs: 5000, ...options });
    const { arenas } = this.engine;
    const allocate = arenas.allocate.bind(arenas);
    const free = arenas.free.bind(arenas);
    arenas.allocate = (byteLength, kind) => {
      const region = allocate(byteLength, kind);
      this.free.delete(region);
      return region;
    };
    arenas.free = (region) => {
      this.free.add(region);
      free(region);
    };
  }

  /** This thread as a guest's: made late, since a thread on which nobody else turns the event loop cannot ask for arenas. */
  get context(): ThreadContext {
    const context = ThreadContext.of(this.engine.address());
    assert(context.arenas.knows(this.engine.arenas.buffers.length));
    return context;
  }

  get directory(): string {
    return (this.#directory ??= mkdtempSync(join(tmpdir(), "heirloom-engine-")));
  }

  async disk(spec: NodeSpec, under?: { readonly layer: Layer; readonly offset: number }): Promise<LabDisk> {
    const handle = await openNode(spec);
    const node = connectNode(handle);
    const layer = this.engine.addLayer({ handle, length: node.length() }, under);
    if (under !== undefined) await this.change(layer, {});
    return { layer, handle, node, guest: this.guest(layer) };
  }

  memory(size: number): Promise<LabDisk> {
    return this.disk({ driver: "memory", size, sizeMax: size * 2 });
  }

  /** Another guest, in this thread. */
  guest(layer: Layer): DiskIo {
    const seat = this.engine.registry.reserve();
    assert(seat !== undefined);
    return new DiskIo(layer.stack.address(layer), this.context, seat.participant);
  }

  /** One transition that makes the layer's part of the table say this. */
  change(layer: Layer, table: Partial<LayerTable>, commit?: () => void): Promise<TransitionOutcome> {
    return this.engine.transitions.run({
      name: "change",
      stacks: [layer.stack],
      deadlineMs: 1000,
      prepare: () => ({ tables: new Map([[layer, { ...layer.table, ...table }]]), commit }),
    });
  }

  async record(layer: Layer, granularity: number): Promise<Recorder> {
    const recorder = this.engine.recorder(layer.table.length, granularity);
    await this.change(layer, { recorders: [...layer.table.recorders, recorder] });
    return recorder;
  }

  /** A view that stands. */
  async view(layer: Layer, options: Partial<EngineViewOptions> = {}, set?: Recorder): Promise<EngineView> {
    const view = this.engine.view(
      layer,
      {
        length: layer.table.length,
        clusterSize: 65536,
        alignment: 1,
        guestDelayMaxMs: 10,
        breakGuestWrite: false,
        spillMemory: 4 * MiB,
        spillFile: 0,
        ...options,
      },
      set,
      { directory: undefined, allowTmpfs: false, floor: 0.05 },
      () => {},
    );
    await this.change(layer, { views: [...layer.table.views, view.memory] });
    return view;
  }

  /** Ends a view: out of the table, stopped, let go. */
  async end(view: EngineView): Promise<void> {
    await this.change(view.layer, { views: view.layer.table.views.filter((one) => one !== view.memory) }, () =>
      view.stop(),
    );
    view.wake();
    await view.release();
  }

  /** Every byte of what was given back zeroed is zero. */
  expectFreeIsZero(): void {
    let regions = 0;
    for (const { kind, buffer, byteOffset, byteLength } of this.free) {
      if (kind === "raw") continue;
      regions++;
      const words = new Int32Array(buffer, byteOffset, byteLength / 4);
      const dirty = words.findIndex((word) => word !== 0);
      assert.equal(dirty, -1, `a free region of ${byteLength} bytes is not zero at word ${dirty}: ${words[dirty]}`);
    }
    assert(regions > 0, "something was given back");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.engine.close();
    if (this.#directory !== undefined) rmSync(this.#directory, { recursive: true });
  }
}

/** A job on this thread. */
export function jobOf(view: View, source: BlockNode, target: BlockNode, given: Partial<MoverJob> = {}): MoverJob {
  return {
    words: new Int32Array(new SharedArrayBuffer(jobWords * 4)),
    view,
    source,
    target,
    targetIsZero: false,
    runBytesMax: MiB,
    detectZeroes: false,
    discardSource: false,
    scan: undefined,
    record: undefined,
    onSourceError: "report",
    onTargetError: "report",
    report: () => {},
    ...given,
  };
}
