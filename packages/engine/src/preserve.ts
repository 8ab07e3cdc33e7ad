/**
 * What a guest does before it overwrites something that a view still needs: the old data goes into the spill.
 *
 * A claim is held for one device read of at most 256 KiB, never while a target is written, never while waiting. So a guest
 * waits for at most one read of another thread; for a full spill it waits outside of the gate, and for a bounded time.
 *
 * Old data that cannot be kept at all breaks the view, and the guest goes on; where the view has it the other way round
 * (`breakGuestWrite`) the answer is an errno for the guest, nothing is preserved, and the next write tries again.
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
export const preserveFull = -1;
/** ETIMEDOUT. */
const timedOut = 110;

/**
 * A claim is held for one read of the device. One that is held for this long is held by a thread that hangs there; a thread
 * that only waits for a core must not be taken for one.
 */
const claimHeldMsMax = 1000;

/** This thread's buffer for what cannot be read straight into a slot of memory. */
let bounce: Uint8Array | undefined;

/**
 * Inside the gate.
 * @returns `preserveDone`, `preserveFull`, or an errno that the guest's write fails with
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
    if (view.neededOf(cluster >>> 5, mask) !== 0) {
      const result = preserveWord(view, node, base, cluster >>> 5, mask);
      if (result !== preserveDone) return result;
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
      if (now < deadline) view.waitForClaim(word, needed);
      else if (view.breakGuestWrite) return timedOut;
      else view.break(brokenClaimHeld);
      continue;
    }
    // Looked at again under the claim: whoever preserved one in between has released it since.
    const still = view.over() ? 0 : view.neededOf(word, claimed);
    const result = still === 0 ? preserveDone : spillClaimed(view, node, base, word, still);
    view.release(word, claimed);
    if (result !== preserveDone) return result;
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
    spill.giveBack(slot);
    return lost(view, brokenUnreadable, errno);
  }
  const kept = keep(view, cluster, slot, data);
  if (kept !== preserveDone) return kept === viewOver ? preserveDone : kept;
  view.setPreserved(cluster >>> 5, 1 << (cluster & 31));
  if (view.synchronous || spill.isPressing()) view.wakeMovers();
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
    for (const slot of slots) spill.giveBack(slot);
    return lost(view, brokenUnreadable, errno);
  }
  let kept = 0;
  let failed = preserveDone;
  for (let cluster = first; cluster < end; cluster++) {
    const at = (cluster - first) * clusterSize;
    const one = data.subarray(at, at + view.bytesOf(cluster));
    const slot = slots[cluster - first];
    const memory = spill.memory(slot);
    if (memory !== undefined) memory.set(one);
    const result = keep(view, cluster, slot, one);
    if (result === preserveDone) kept |= 1 << (cluster & 31);
    else if (result !== viewOver) failed = result;
  }
  if (kept !== 0) {
    view.setPreserved(first >>> 5, kept);
    if (view.synchronous || spill.isPressing()) view.wakeMovers();
  }
  if (failed !== preserveDone) return failed;
  return slots.length === count ? preserveDone : preserveFull;
}

/** Old data is not to be had: the view gives way, or the guest's write. The claim is still held. */
function lost(view: View, reason: number, errno: number): number {
  if (view.breakGuestWrite) return errno;
  view.break(reason, errno);
  return preserveDone;
}

/** Of `keep`: the view needs nothing any more. */
const viewOver = -2;

/** What was read becomes a full slot, unless the view is over by now. Zeroes need no room. @returns `preserveDone`, `viewOver` or an errno */
function keep(view: View, cluster: number, slot: number, data: Uint8Array): number {
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
    const answer = failed === 0 ? preserveDone : lost(view, brokenSpillFailed, failed);
    if (answer !== preserveDone) {
      spill.giveBack(kept);
      return answer;
    }
  }
  if (view.over()) {
    spill.giveBack(kept);
    return viewOver;
  }
  spill.publish(kept, cluster);
  return preserveDone;
}

function bounceOf(): Uint8Array {
  return (bounce ??= new Uint8Array(claimBytesMax));
}
