/** What a guest's operation does for the table: preserve for the views, then mark in the recorders. */
import type { BlockNode, Errno } from "@heirloom/block";
import { maskOf } from "./masks.ts";
import { preserveDone, preserveFull, preserveRange } from "./preserve.ts";
import type { TableLayer } from "./table.ts";
import type { View } from "./view.ts";

/**
 * Inside the gate: preserves what `[offset, offset + length)` of `lowest`, the stack's lowest node, holds for every view.
 * @returns the view whose spill is full, 0 when all is safe, or the errno that the guest's write fails with
 */
export function preserveForViews(
  layers: readonly TableLayer[],
  lowest: BlockNode,
  offset: number,
  length: number,
): View | Errno {
  for (const layer of layers) {
    if (layer.views.length === 0) continue;
    const from = Math.max(offset - layer.base, 0);
    const to = Math.min(offset + length - layer.base, layer.length);
    if (to <= from) continue;
    for (const view of layer.views) {
      const result = preserveRange(view, lowest, layer.base, from, to - from);
      if (result !== preserveDone) return result === preserveFull ? view : result;
    }
  }
  return 0;
}

/**
 * Inside the gate, after `preserveForViews`: a view whose target a write of `[offset, offset + length)` has to wait for, or the
 * errno that the target answered. A first look asks for what failed before to be tried again.
 * @returns 0 when all that must be there is on the targets
 */
export function behindViews(
  layers: readonly TableLayer[],
  offset: number,
  length: number,
  firstLook: boolean,
): View | Errno {
  for (const layer of layers) {
    const from = Math.max(offset - layer.base, 0);
    const to = Math.min(offset + length - layer.base, layer.length);
    if (to <= from) continue;
    for (const view of layer.views) {
      const answer = view.synchronous ? behindView(view, from, to, firstLook) : 0;
      if (answer !== 0) return answer;
    }
  }
  return 0;
}

function behindView(view: View, from: number, to: number, firstLook: boolean): View | Errno {
  let waits = false;
  const end = Math.ceil(Math.min(to, view.length) / view.clusterSize);
  for (let cluster = Math.floor(from / view.clusterSize); cluster < end;) {
    const upTo = Math.min(end, ((cluster >>> 5) + 1) * 32);
    const behind = view.over() ? 0 : view.behindOf(cluster >>> 5, maskOf(cluster, upTo));
    for (let at = cluster; behind !== 0 && at < upTo; at++) {
      if ((behind & (1 << (at & 31))) === 0) continue;
      const errno = view.failureOf(at, firstLook);
      if (errno !== 0) return errno;
      waits = true;
    }
    cluster = upTo;
  }
  if (waits) view.wakeMovers();
  return waits ? view : 0;
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
