/** What a guest's operation does for the table: preserve for the views, then mark in the recorders. */
import type { BlockNode, Errno } from "@heirloom/block";
import { preserveFull, preserveRange } from "./preserve.ts";
import type { TableLayer } from "./table.ts";
import type { View } from "./view.ts";

/**
 * Inside the gate: preserves what `[offset, offset + length)` of `lowest`, the stack's lowest node, holds for every view.
 * @returns the view whose spill is full, or undefined when all is safe
 */
export function preserveForViews(
  layers: readonly TableLayer[],
  lowest: BlockNode,
  offset: number,
  length: number,
): View | undefined {
  for (const layer of layers) {
    if (layer.views.length === 0) continue;
    const from = Math.max(offset - layer.base, 0);
    const to = Math.min(offset + length - layer.base, layer.length);
    if (to <= from) continue;
    for (const view of layer.views) {
      if (preserveRange(view, lowest, layer.base, from, to - from) === preserveFull) return view;
    }
  }
  return undefined;
}

/** Inside the gate: whether the guards of all layers let `[offset, offset + length)` of the lowest node be written. */
export function isReady(layers: readonly TableLayer[], offset: number, length: number): boolean {
  for (const layer of layers) {
    if (layer.guard === undefined) continue;
    const from = Math.max(offset - layer.base, 0);
    const to = Math.min(offset + length - layer.base, layer.length);
    if (to > from && !layer.guard.ready(from, to - from)) return false;
  }
  return true;
}

/** Outside the gate: does what `isReady` missed. @returns 0, or EAGAIN */
export function prepareGuards(layers: readonly TableLayer[], offset: number, length: number, patient: boolean): Errno {
  for (const layer of layers) {
    if (layer.guard === undefined) continue;
    const from = Math.max(offset - layer.base, 0);
    const to = Math.min(offset + length - layer.base, layer.length);
    const errno = to > from ? layer.guard.prepare(from, to - from, patient) : 0;
    if (errno !== 0) return errno;
  }
  return 0;
}

/** Inside the gate, before the device is written: a bitmap may say too much, never too little. */
export function markRecorders(layers: readonly TableLayer[], offset: number, length: number): void {
  for (const layer of layers) {
    if (layer.recorders.length === 0) continue;
    const from = Math.max(offset - layer.base, 0);
    const to = Math.min(offset + length - layer.base, layer.length);
    if (to <= from) continue;
    for (const recorder of layer.recorders) recorder.set(from, to - from);
  }
}
