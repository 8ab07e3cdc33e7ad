/**
 * The recorder table: what a changing operation must do. One table per stack of nodes, written by the main thread into
 * a region of its own before the gate closes; the commit stores where it lies and its generation. A thread that finds
 * the generation moved, inside the gate, reads it there.
 *
 * Why a table needs no acknowledgement before its region is used again: threads read it only inside the gate, and the
 * next commit finds the gate empty. (Views and bitmaps that a table named live longer: see view-memory.ts.)
 *
 * Layers: nodes of one stack are windows of its lowest node. A layer has the `base` of its window in bytes of the lowest
 * node; a write at a place of any of them is a write to every layer whose window holds that place.
 */
import type { SharedBitmap } from "@heirloom/bitmap";
import type { Region, RegionReference } from "./arena.ts";
import type { ArenaLookup } from "./arena-map.ts";
import { type BitmapDescriptor, getBitmap, getReference, putBitmap } from "./descriptors.ts";
import { NumberReader, NumberWriter } from "./numbers.ts";
import { View } from "./view.ts";
import type { WriteGuard } from "./write-guard.ts";

/** A layer as the main thread writes it down. */
export interface LayerDescriptor {
  readonly layer: number;
  readonly base: number;
  readonly length: number;
  readonly recorders: readonly BitmapDescriptor[];
  readonly views: readonly RegionReference[];
  /** For the guard's module; empty where there is none. */
  readonly guard: readonly number[];
}

/** A layer as a thread uses it. */
export interface TableLayer {
  readonly layer: number;
  readonly base: number;
  readonly length: number;
  readonly recorders: readonly SharedBitmap[];
  readonly views: readonly View[];
  readonly guard: WriteGuard | undefined;
}

export function encodeTable(arenaCount: number, layers: readonly LayerDescriptor[]): Float64Array {
  const row = new NumberWriter();
  row.put(arenaCount, layers.length);
  for (const layer of layers) {
    row.put(layer.layer, layer.base, layer.length, layer.recorders.length);
    for (const recorder of layer.recorders) putBitmap(row, recorder);
    row.put(layer.views.length);
    for (const view of layer.views) row.put(view.arena, view.byteOffset);
    row.put(layer.guard.length, ...layer.guard);
  }
  return Float64Array.from(row.values);
}

/** Writes an encoded table into a region. */
export function storeTable(region: Region, table: Float64Array): void {
  new Float64Array(region.buffer, region.byteOffset, table.length).set(table);
}

/** The arenas that a table needs: its first number. */
export function tableArenaCount(table: Float64Array): number {
  return table[0];
}

/** @param makeGuard for what is written down for the guard's module */
export function decodeTable(
  table: Float64Array,
  arenas: ArenaLookup,
  makeGuard: (row: readonly number[]) => WriteGuard,
): readonly TableLayer[] {
  const row = new NumberReader(table);
  row.get(); // arenas: looked at by the caller
  const layers: TableLayer[] = [];
  const count = row.get();
  for (let index = 0; index < count; index++) {
    const layer = row.get();
    const base = row.get();
    const length = row.get();
    const recorders: SharedBitmap[] = [];
    for (let left = row.get(); left > 0; left--) recorders.push(getBitmap(row, arenas));
    const views: View[] = [];
    for (let left = row.get(); left > 0; left--) views.push(View.at(getReference(row), arenas));
    const guardRow = Array.from({ length: row.get() }, () => row.get());
    const guard = guardRow.length === 0 ? undefined : makeGuard(guardRow);
    layers.push({ layer, base, length, recorders, views, guard });
  }
  return layers;
}
