/**
 * What a guest does before it overwrites something that a view still needs: the old data goes into the spill.
 *
 * A claim is held for one device read, never while a target is written, never while waiting. So a guest waits for at most
 * one read of another thread; for a full spill it waits outside of the gate, and for a bounded time.
 */
import { type BlockNode, isZero } from "@heirloom/block";
import { noSlot } from "./spill.ts";
import type { View } from "./view.ts";
import { brokenSpillFailed, brokenUnreadable } from "./view-layout.ts";

/** All of the range is preserved, or the view needs nothing any more. */
export const preserveDone = 0;
/** The spill is full: leave the gate, wait, start over. */
export const preserveFull = 1;

const bounces: Uint8Array[] = [];

/** This thread's own buffer for a cluster that goes to a file slot. */
function bounce(clusterSize: number): Uint8Array {
  let buffer = bounces.find((one) => one.length === clusterSize);
  if (buffer === undefined) bounces.push((buffer = new Uint8Array(clusterSize)));
  return buffer;
}

/**
 * Inside the gate.
 * @param node reads the disk, below the gate @param base where the view's disk begins in it
 * @param offset of the range, in bytes of the view's disk
 */
export function preserveRange(view: View, node: BlockNode, base: number, offset: number, length: number): number {
  if (offset >= view.length) return preserveDone;
  const first = Math.floor(offset / view.clusterSize);
  const last = Math.floor((Math.min(offset + length, view.length) - 1) / view.clusterSize);
  for (let cluster = first; cluster <= last; cluster++) {
    if (view.needed(cluster) && preserveCluster(view, node, base, cluster) === preserveFull) return preserveFull;
  }
  return preserveDone;
}

function preserveCluster(view: View, node: BlockNode, base: number, cluster: number): number {
  const word = cluster >>> 5;
  const bit = 1 << (cluster & 31);
  for (;;) {
    if (view.over() || !view.needed(cluster)) return preserveDone;
    if (view.claim(word, bit) === 0) {
      view.waitForClaim(word, bit);
      continue;
    }
    // Looked at again under the claim: whoever preserved it in between has released it since.
    if (view.over() || !view.needed(cluster)) {
      view.release(word, bit);
      return preserveDone;
    }
    const result = spillClaimed(view, node, base, cluster);
    view.release(word, bit);
    return result;
  }
}

/** The claim is held; the cluster is needed. Breaks the view, while still holding it, if the old data cannot be kept. */
function spillClaimed(view: View, node: BlockNode, base: number, cluster: number): number {
  const { spill } = view;
  let slot = spill.take();
  if (slot === noSlot) return preserveFull;
  const memory = spill.memory(slot);
  const bytes = view.bytesOf(cluster);
  const room = memory ?? bounce(view.clusterSize);
  const data = bytes === room.length ? room : room.subarray(0, bytes);
  const errno = node.read(data, base + cluster * view.clusterSize);
  if (errno !== 0) {
    view.break(brokenUnreadable, errno);
    spill.giveBack(slot);
    return preserveDone;
  }
  if (isZero(data)) {
    const zero = spill.takeZero();
    if (zero !== noSlot) {
      spill.giveBack(slot);
      view.madeProgress(); // somebody may sleep for the room that was not needed
      slot = zero;
    }
  }
  if (memory === undefined && !spill.isZeroSlot(slot)) {
    const failed = spill.store(slot, data);
    if (failed !== 0) {
      view.break(brokenSpillFailed, failed);
      spill.giveBack(slot);
      return preserveDone;
    }
  }
  if (view.over()) {
    spill.giveBack(slot);
    return preserveDone;
  }
  spill.publish(slot, cluster);
  view.setPreserved(cluster >>> 5, 1 << (cluster & 31));
  view.wakeMovers();
  return preserveDone;
}
