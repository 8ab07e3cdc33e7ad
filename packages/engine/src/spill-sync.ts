/**
 * A spill that is synced: that of a resumable job which is to survive every power loss. What lets a guest overwrite a cluster is then
 * that it is *safe*: in an entry of the spill file that a sync has covered, or on the target, with a flush of that recorded durably.
 * So a cluster that is neither was not overwritten since the freeze, whatever a power loss takes: a restart believes the disk there.
 *
 * `preserved` means here that a guest need not store the cluster any more, and not yet that it may overwrite it. A cluster that is
 * `copied` without a flush is not preserved: guests store it as if it were not on the target. An entry keeps its place after it was
 * drained (*held*), until a flush of the target covers its cluster.
 *
 * A guest looks inside the gate, and syncs outside it, standing aside; one sync covers all who wait. Why what it then marks is
 * covered: an entry is written, then counted (`stored`), then its cluster is preserved. Who saw the cluster preserved and loads `stored`
 * after that has a number that counts its entry. A sync that begins after it loaded a number covers every entry that this counts; it
 * is over before `synced` becomes that number. So once `synced` has reached what was loaded, the entry is on stable storage.
 *
 * A view that is given up is said to be so in the file, durably, before anybody overwrites what is not safe; where that fails
 * the guest waits until the job has ended, which takes its record away.
 */
import { syncData } from "@heirloom/block";
import { maskOf } from "./masks.ts";
import * as layout from "./spill-layout.ts";
import type { TableLayer } from "./table.ts";
import type { View } from "./view.ts";
import { brokenSpillFailed } from "./view-layout.ts";

/** A guest's request that has to wait for a sync: clusters `[first, end)` of a view. */
export interface Unsafe {
  readonly view: View;
  readonly first: number;
  readonly end: number;
}

/** Sleeps of who waits for another's sync, and of who waits for a job to end. A dead holder's view is broken: they look at that. */
const waitMs = 10;

/** Inside the gate, with all of `[offset, offset + length)` of the lowest node preserved: what is not safe yet, if anything. */
export function findUnsafe(layers: readonly TableLayer[], offset: number, length: number): Unsafe | undefined {
  for (const layer of layers) {
    const from = Math.max(offset - layer.base, 0);
    const to = Math.min(offset + length - layer.base, layer.length);
    if (to <= from) continue;
    for (const view of layer.views) {
      if (view.safe === undefined || from >= view.length || view.stopped()) continue;
      const first = Math.floor(from / view.clusterSize);
      const end = Math.ceil(Math.min(to, view.length) / view.clusterSize);
      if (view.broken() !== 0 ? isSaid(view) : isSafe(view, first, end)) continue;
      return { view, first, end };
    }
  }
  return undefined;
}

/** That the view is given up is durable. */
function isSaid({ spill: { words } }: View): boolean {
  return Atomics.load(words, layout.givenUpWord) !== 0;
}

function isSafe(view: View, first: number, end: number): boolean {
  if (unsafeIn(view, first, end) === 0) return true;
  // A sync for somebody else may have covered them by now.
  const { words } = view.spill;
  if (!isReached(words, Atomics.load(words, layout.storedWord))) return false;
  markSafe(view, first, end);
  return true;
}

function unsafeIn(view: View, first: number, end: number): number {
  for (let cluster = first; cluster < end; cluster = ((cluster >>> 5) + 1) * 32) {
    const unsafe = view.unsafeOf(cluster >>> 5, maskOf(cluster, Math.min(end, ((cluster >>> 5) + 1) * 32)));
    if (unsafe !== 0) return unsafe;
  }
  return 0;
}

function markSafe(view: View, first: number, end: number): void {
  for (let cluster = first; cluster < end; cluster = ((cluster >>> 5) + 1) * 32) {
    const mask = maskOf(cluster, Math.min(end, ((cluster >>> 5) + 1) * 32));
    view.setSafe(cluster >>> 5, view.unsafeOf(cluster >>> 5, mask));
  }
}

/** The counts wrap; they are never 2^31 apart. */
function isReached(words: Int32Array, count: number): boolean {
  return ((Atomics.load(words, layout.syncedWord) - count) | 0) >= 0;
}

/** Aside: the request may look again after this. What was unsafe was preserved when it was looked at. @param holder this thread's */
export function makeSafe({ view, first, end }: Unsafe, holder: number): void {
  const { words } = view.spill;
  if (view.broken() !== 0) {
    sayGivenUp(view);
    return;
  }
  const count = Atomics.load(words, layout.storedWord);
  while (!isReached(words, count)) {
    if (view.over()) return;
    const other = Atomics.compareExchange(words, layout.syncLockWord, 0, holder);
    if (other === 0) {
      syncEntries(view);
      Atomics.store(words, layout.syncLockWord, 0);
      Atomics.notify(words, layout.syncLockWord);
    } else Atomics.wait(words, layout.syncLockWord, other, waitMs);
  }
  markSafe(view, first, end);
}

/** Holding the lock. A sync that failed is not tried again: what it was to write may be gone from the page cache. */
function syncEntries(view: View): void {
  const { words } = view.spill;
  const count = Atomics.load(words, layout.storedWord);
  if (isReached(words, count)) return;
  const errno = syncData(Atomics.load(words, layout.fileDescriptorWord));
  if (errno === 0) Atomics.store(words, layout.syncedWord, count);
  else view.break(brokenSpillFailed, errno);
}

/** Whoever broke the view has written it into the file before. */
function sayGivenUp(view: View): void {
  const { words } = view.spill;
  if (syncData(Atomics.load(words, layout.fileDescriptorWord)) === 0) Atomics.store(words, layout.givenUpWord, 1);
  else Atomics.wait(words, layout.givenUpWord, 0, waitMs);
}
