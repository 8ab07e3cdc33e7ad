/**
 * The background copy that claims afterwards: nothing is claimed while a run is read and written. Take `copying`, look whether the
 * clusters are needed, copy; then claim and look again. A cluster that is still needed was not overwritten in between (a guest
 * would have preserved it first), so the copy is of the old data: `preserved` and `copied` together. One that is not needed any
 * more was preserved by a guest, and the drainer, which waits while `copying` is set, writes over whatever was put there.
 *
 * The kernel copies so, since there is no buffer that old data could be safe in; and resumable jobs do, since a buffer does not
 * outlive its process. A resumable job's record is written under the claim, a sector to the page cache.
 */
import type { Errno } from "@heirloom/block";
import { sayCopied } from "./copied.ts";
import { lowestOf, maskOf, runEnd } from "./masks.ts";
import type { MoverJob } from "./mover-types.ts";
import type { Run } from "./runs.ts";

/**
 * @param copySpan brings clusters `[first, end)` to the target @returns its errno; the clusters in question are left for another try
 */
export function copyRunThenClaim(job: MoverJob, run: Run, copySpan: (first: number, end: number) => Errno): Errno {
  const end = run.first + run.count;
  let cluster = run.first;
  while (cluster < end && !job.view.over()) {
    const first = takeNeeded(job, cluster, end);
    if (first.count === 0) {
      cluster = first.next;
      continue;
    }
    const errno = copySpan(first.start, first.start + first.count);
    settleSpan(job, first.start, first.start + first.count, errno === 0);
    if (errno !== 0) return errno;
    cluster = first.next;
  }
  return 0;
}

const taken = { start: 0, count: 0, next: 0 };

/**
 * Takes `copying` for the first stretch of needed clusters in `[cluster, end)`, across words. `next` is where to go on: a
 * stretch ends before a cluster that is not needed or that another thread works on.
 */
function takeNeeded(job: MoverJob, cluster: number, end: number): typeof taken {
  const { view } = job;
  taken.start = cluster;
  taken.count = 0;
  taken.next = cluster;
  while (taken.next < end) {
    const word = taken.next >>> 5;
    const upTo = Math.min(end, (word + 1) * 32);
    const owned = view.takeCopying(word, maskOf(taken.next, upTo));
    const wanted = view.wantedOf(word, owned);
    if (wanted === 0) {
      if (owned !== 0) view.dropCopying(word, owned);
      if (taken.count === 0) taken.next = upTo;
      return taken;
    }
    const low = lowestOf(wanted);
    const high = runEnd(wanted, low);
    const gap = word * 32 + low !== taken.next;
    const kept = gap && taken.count > 0 ? 0 : maskOf(low, high);
    if (owned !== kept) view.dropCopying(word, owned & ~kept);
    if (kept === 0) return taken;
    if (taken.count === 0) taken.start = word * 32 + low;
    taken.count += high - low;
    taken.next = word * 32 + high;
    if (taken.next < upTo) return taken;
  }
  return taken;
}

/** Claims word by word, looks again, and sets both bits for what is still needed. */
function settleSpan(job: MoverJob, first: number, end: number, arrived: boolean): void {
  const { view } = job;
  let cluster = first;
  while (cluster < end) {
    const word = cluster >>> 5;
    const upTo = Math.min(end, (word + 1) * 32);
    const all = maskOf(cluster, upTo);
    let left = arrived ? all : 0;
    while (left !== 0 && !view.over()) {
      const got = view.claim(word, left);
      if (got === 0) {
        view.waitForClaim(word, left);
        continue;
      }
      const still = view.over() ? 0 : view.neededOf(word, got);
      // Of a synced spill it is preserved when a flush covers it (spill-sync.ts).
      if (still !== 0 && sayCopied(job, word, still) && view.safe === undefined) view.setPreserved(word, still);
      view.release(word, got);
      left &= ~got;
    }
    view.dropCopying(word, all);
    cluster = upTo;
  }
}
