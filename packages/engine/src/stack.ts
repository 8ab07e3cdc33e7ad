/**
 * A stack of nodes that share a gate, on the main thread: its layers (attached disks), each with what records and which
 * views stand, and the table in force. Only a transition changes what the table says.
 */
import assert from "node:assert";
import type { NodeHandle } from "@heirloom/block";
import type { Arenas, Region } from "./arena.ts";
import type { DiskAddress } from "./disk-io.ts";
import type { EngineView } from "./engine-view.ts";
import * as gate from "./gate-layout.ts";
import type { Recorder } from "./recorder.ts";
import { encodeTable, type LayerDescriptor, storeTable } from "./table.ts";
import type { ViewMemory } from "./view-memory.ts";

/** What a layer's part of the table says. */
export interface LayerTable {
  readonly length: number;
  readonly recorders: readonly Recorder[];
  readonly views: readonly ViewMemory[];
}

/** A disk that is attached: one layer of a stack. */
export interface Layer {
  readonly id: number;
  readonly stack: Stack;
  readonly node: NodeHandle;
  /** Bytes into the lowest node. */
  readonly base: number;
  table: LayerTable;
  /** Memory of io-counters.ts. */
  readonly counters: Region;
  /** The view that the node reads, of a snapshot. */
  readonly snapshotOf?: EngineView | undefined;
  /** Of a disk whose bitmaps are kept: what its guard's module is told of the disk. */
  guard?: readonly number[] | undefined;
}

export class Stack {
  readonly gateRegion: Region;
  readonly words: Int32Array;
  readonly layers: Map<number, Layer> = new Map();
  readonly #arenas: Arenas;
  #table: Region | undefined;
  #tableLength = 0;
  #generation = 0;

  constructor(arenas: Arenas) {
    this.#arenas = arenas;
    this.gateRegion = arenas.allocate(gate.gateBytes);
    this.words = new Int32Array(this.gateRegion.buffer, this.gateRegion.byteOffset, gate.gateBytes / 4);
    this.commit(this.prepare(new Map()));
  }

  /** The lowest of the stack's nodes that is attached: everything that any layer holds, it holds. */
  get lowest(): Layer {
    let lowest: Layer | undefined;
    for (const layer of this.layers.values())
      if (lowest === undefined || layer.base < lowest.base || layer.id < lowest.id) lowest = layer;
    assert(lowest !== undefined, "a stack has a layer");
    return lowest;
  }

  address(layer: Layer): DiskAddress {
    const lowest = this.lowest;
    return {
      layer: layer.id,
      node: layer.node,
      lowest: lowest === layer ? undefined : lowest.node,
      base: layer.base,
      gate: { arena: this.gateRegion.arena, byteOffset: this.gateRegion.byteOffset },
      counters: { arena: layer.counters.arena, byteOffset: layer.counters.byteOffset },
    };
  }

  /** Writes the next table down, for a commit or for `abandon`. */
  prepare(next: ReadonlyMap<Layer, LayerTable>): PreparedTable {
    const layers: LayerDescriptor[] = [];
    for (const layer of this.layers.values()) {
      const table = next.get(layer) ?? layer.table;
      layers.push({
        layer: layer.id,
        base: layer.base,
        length: table.length,
        recorders: table.recorders.map((recorder) => recorder.descriptor),
        views: table.views.map((view) => view.region),
        guard: guardRow(layer, table),
      });
    }
    const values = encodeTable(this.#arenas.buffers.length + 1, layers);
    const region = this.#arenas.allocate(values.length * 8);
    values[0] = this.#arenas.buffers.length; // the table's own arena may be the newest
    storeTable(region, values);
    return { region, length: values.length, next };
  }

  /** Gate closed and empty (or not yet known to anybody): stores only. */
  commit(prepared: PreparedTable): void {
    const old = this.#table;
    this.#generation = (this.#generation + 1) | 0;
    if (this.#generation === 0) this.#generation = 1; // what a thread begins with
    Atomics.store(this.words, gate.tableArenaWord, prepared.region.arena);
    Atomics.store(this.words, gate.tableOffsetWord, prepared.region.byteOffset / 8);
    Atomics.store(this.words, gate.tableLengthWord, prepared.length);
    Atomics.store(this.words, gate.generationWord, this.#generation);
    for (const [layer, table] of prepared.next) layer.table = table;
    this.#table = prepared.region;
    const oldLength = this.#tableLength;
    this.#tableLength = prepared.length;
    if (old !== undefined) this.#recycle(old, oldLength);
  }

  /** The transition was given up. */
  abandon(prepared: PreparedTable): void {
    this.#recycle(prepared.region, prepared.length);
  }

  /** No thread will enter any more. */
  free(): void {
    if (this.#table !== undefined) this.#recycle(this.#table, this.#tableLength);
    this.#table = undefined;
    this.words.fill(0);
    this.#arenas.free(this.gateRegion);
  }

  #recycle(region: Region, length: number): void {
    new Float64Array(region.buffer, region.byteOffset, length).fill(0);
    this.#arenas.free(region);
  }
}

/** The disk's part, how many recorders are kept, and theirs. Empty where none is. */
function guardRow({ guard }: Layer, { recorders }: LayerTable): readonly number[] {
  const kept = recorders.filter((recorder) => recorder.kept !== undefined).map((recorder) => recorder.kept?.row ?? []);
  return guard === undefined || kept.length === 0 ? [] : [...guard, kept.length, ...kept.flat()];
}

export interface PreparedTable {
  readonly region: Region;
  readonly length: number;
  readonly next: ReadonlyMap<Layer, LayerTable>;
}
