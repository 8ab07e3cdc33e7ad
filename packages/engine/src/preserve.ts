/**
 * What a guest does before it overwrites something that a view still needs: the old data goes into the spill.
 *
 * A claim is held for one device read of at most 256 KiB, never while a target is written, never while waiting. So a guest
 * waits for at most one read of another thread; for a full spill it waits outside of the gate, and for a bounded time.
 *
 * Clusters of one word are claimed and read together: a large write costs few reads.
 */
import { type BlockNode, isZero } from "@heirloom/block";
import { noSlot } from "./spill.ts";
import { lowestOf, maskOf, runEnd } from "./masks.ts";
import type { View } from "./view.ts";
import { brokenClaimHeld, brokenSpillFailed, brokenUnreadable, claimBytesMax } from "./view-layout.ts";

/** All of the range is preserved, or the view needs nothing any more. */
export const preserveDone = 0;
/** The spill is full: leave the gate, wait, start over. */
export const preserveFull = 1;

/**
 * A claim is held for one read of the device. One that is held for this long is held by a thread that hangs there; a thread
 * that only waits for a core must not be taken for one.
 */
const claimHeldMsMax = 1000;

/** This thread's buffer for what cannot be read straight into a slot of memory. */
let bounce: Uint8Array | undefined;

/**
 * Inside the gate.
 * @param node reads the disk, below the gate @param base where the view's disk begins in it
 * @param offset of the range, in bytes of the view's disk
 */
export function preserveRange(view: View, node: BlockNode, base: number, offset: number, length: number): number {
  if (offset >= view.length) return preserveDone;
  const first = Math.floor(offset / view.clusterSize);
  const end = Math.floor((Math.min(offset + length, view.length) - 1) / view.clusterSize) + 1;
  const perClaim = Math.min(32, claimBytesMax / view.clusterSize);
  for (let cluster = first; cluster < end;) {
    const upTo = Math.min(end, cluster + perClaim, ((cluster >>> 5) + 1) * 32);
    const mask = maskOf(cluster, upTo);
    if (
      view.neededOf(cluster >>> 5, mask) !== 0 &&
      preserveWord(view, node, base, cluster >>> 5, mask) === preserveFull
    ) {
      return preserveFull;
    }
    cluster = upTo;
  }
  return preserveDone;
}

function preserveWord(view: View, node: BlockNode, base: number, word: number, mask: number): number {
  let deadline = 0;
  for (;;) {
    const needed = view.over() ? 0 : view.neededOf(word, mask);
    if (needed === 0) return preserveDone;
    const claimed = view.claim(word, needed);
    if (claimed === 0) {
      // A thread that hangs in a device read keeps its claim; this one is inside the gate and must not hang with it.
      const now = performance.now();
      if (deadline === 0) deadline = now + claimHeldMsMax;
      if (now >= deadline) view.break(brokenClaimHeld);
      else view.waitForClaim(word, needed);
      continue;
    }
    // Looked at again under the claim: whoever preserved one in between has released it since.
    const still = view.over() ? 0 : view.neededOf(word, claimed);
    const result = still === 0 ? preserveDone : spillClaimed(view, node, base, word, still);
    view.release(word, claimed);
    if (result === preserveFull) return preserveFull;
    // What others have claimed meanwhile is looked at, and waited for, in the next turn.
  }
}

/** The claims are held, their clusters needed. Breaks the view, while still holding them, if the old data cannot be kept. */
function spillClaimed(view: View, node: BlockNode, base: number, word: number, mask: number): number {
  let left = mask;
  while (left !== 0) {
    const from = lowestOf(left);
    const to = runEnd(left, from);
    const first = word * 32 + from;
    const result = to - from === 1 ? spillOne(view, node, base, first) : spillSpan(view, node, base, first, to - from);
    if (result !== preserveDone || view.over()) return result;
    left &= ~maskOf(from, to);
  }
  return preserveDone;
}

/** One cluster, read straight into its slot where that is in memory. */
function spillOne(view: View, node: BlockNode, base: number, cluster: number): number {
  const { spill } = view;
  const slot = spill.take();
  if (slot === noSlot) return preserveFull;
  const bytes = view.bytesOf(cluster);
  const memory = spill.memory(slot);
  const data = memory !== undefined && bytes === memory.length ? memory : (memory ?? bounceOf()).subarray(0, bytes);
  const errno = node.read(data, base + cluster * view.clusterSize);
  if (errno !== 0) {
    view.break(brokenUnreadable, errno);
    spill.giveBack(slot);
    return preserveDone;
  }
  if (keep(view, cluster, slot, data)) {
    view.setPreserved(cluster >>> 5, 1 << (cluster & 31));
    if (spill.isPressing()) view.wakeMovers();
  }
  return preserveDone;
}

/** Neighbours, with one read; as many as there are slots for. */
function spillSpan(view: View, node: BlockNode, base: number, first: number, count: number): number {
  const { spill, clusterSize } = view;
  const slots: number[] = [];
  while (slots.length < count) {
    const slot = spill.take();
    if (slot === noSlot) break;
    slots.push(slot);
  }
  if (slots.length === 0) return preserveFull;
  const end = first + slots.length;
  const offset = first * clusterSize;
  const data = bounceOf().subarray(0, Math.min(end * clusterSize, view.length) - offset);
  const errno = node.read(data, base + offset);
  if (errno !== 0) {
    view.break(brokenUnreadable, errno);
    for (const slot of slots) spill.giveBack(slot);
    return preserveDone;
  }
  let kept = 0;
  for (let cluster = first; cluster < end; cluster++) {
    const at = (cluster - first) * clusterSize;
    const one = data.subarray(at, at + view.bytesOf(cluster));
    const slot = slots[cluster - first];
    const memory = spill.memory(slot);
    if (memory !== undefined) memory.set(one);
    if (keep(view, cluster, slot, one)) kept |= 1 << (cluster & 31);
  }
  if (kept !== 0) {
    view.setPreserved(first >>> 5, kept);
    if (spill.isPressing()) view.wakeMovers();
  }
  return slots.length === count ? preserveDone : preserveFull;
}

/** What was read becomes a full slot, unless the view is over by now. Zeroes need no room. */
function keep(view: View, cluster: number, slot: number, data: Uint8Array): boolean {
  const { spill } = view;
  let kept = slot;
  if (isZero(data)) {
    const zero = spill.takeZero();
    if (zero !== noSlot) {
      spill.giveBack(slot);
      view.madeProgress(); // somebody may sleep for the room that was not needed
      kept = zero;
    }
  }
  if (kept === slot && spill.memory(slot) === undefined) {
    const failed = spill.store(slot, data, cluster);
    if (failed !== 0) view.break(brokenSpillFailed, failed);
  }
  if (view.over()) {
    spill.giveBack(kept);
    return false;
  }
  spill.publish(kept, cluster);
  return true;
}

function bounceOf(): Uint8Array {
  return (bounce ??= new Uint8Array(claimBytesMax));
}
