/**
 * The scan of a view whose set was not known at the instant: it begins with all clusters, and what turns out not to be in
 * the set is *retired*. As a copier does, the scan holds `copying`, so no copy of the cluster is under way, and claims the
 * cluster for the moment in which it retires it: a guest that had claimed it before has preserved it (it is left as it is, and
 * carried over though it need not be), and one that claims it later finds it retired. Without the claim a second guest could
 * overwrite the retired cluster while the first one, which had found it needed, reads it.
 */
import type { SharedBitmap } from "@heirloom/bitmap";
import type { StatusExtent } from "@heirloom/block";
import { retiredClustersWord, scanCursorWord, scannedWord } from "./job-layout.ts";
import type { MoverJob } from "./mover-types.ts";

/** What decides: allocation in the source's top layer, or a bitmap whose bits were joined after the instant. */
export type ScanBy = { readonly kind: "allocated" } | { readonly kind: "bitmap"; readonly bitmap: SharedBitmap };

/** Clusters looked at in one step. */
const stepClusters = 4096;
const scanDone = 2;

/** @returns true when all was scanned; false: there is more, call again; undefined: another thread scans */
export function scanStep(job: MoverJob, by: ScanBy): boolean | undefined {
  const state = Atomics.load(job.words, scannedWord);
  if (state === scanDone) return true;
  if (state === 1 && !scanning.has(job)) return undefined;
  if (state === 0) {
    if (Atomics.compareExchange(job.words, scannedWord, 0, 1) !== 0) return undefined;
    scanning.add(job);
  }
  const from = Atomics.load(job.words, scanCursorWord);
  const to = Math.min(job.view.clusters, from + stepClusters);
  scanClusters(job, by, from, to);
  Atomics.store(job.words, scanCursorWord, to);
  if (to < job.view.clusters) return false;
  scanning.delete(job);
  Atomics.store(job.words, scannedWord, scanDone);
  job.view.wakeMovers();
  return true;
}

/** Jobs that this thread scans. */
const scanning = new WeakSet<MoverJob>();

function scanClusters(job: MoverJob, by: ScanBy, from: number, to: number): void {
  const { view } = job;
  let cluster = from;
  while (cluster < to && !view.over()) {
    const offset = cluster * view.clusterSize;
    const unit = offset - (offset % view.setUnit);
    const outside = by.kind === "bitmap" ? cleanUntil(job, by.bitmap, unit) : unallocatedUntil(job, unit);
    const next = outside > unit ? outside : Math.min(unit + view.setUnit, view.length);
    const end = Math.min(to, Math.max(cluster + 1, Math.ceil(next / view.clusterSize)));
    if (outside > unit) for (let one = cluster; one < end; one++) retire(job, one);
    cluster = end;
  }
}

/** Where the whole clean units from `unit` on end, bytes; `unit` itself if any byte of it is dirty. */
function cleanUntil({ view }: MoverJob, bitmap: SharedBitmap, unit: number): number {
  const dirty = bitmap.nextDirty(unit);
  return dirty === -1 ? view.length : dirty - (dirty % view.setUnit);
}

/** Where the whole units without allocation from `unit` on end; what nobody knows of counts as allocated. */
function unallocatedUntil({ view, source }: MoverJob, unit: number): number {
  const extent: StatusExtent = { length: 0, zero: false, allocated: false };
  let at = unit;
  while (at < view.length) {
    if (source.status(at, view.length - at, extent) !== 0 || extent.allocated) break;
    at += extent.length;
  }
  return at >= view.length ? view.length : at - (at % view.setUnit);
}

function retire(job: MoverJob, cluster: number): void {
  const { view } = job;
  const word = cluster >>> 5;
  const bit = 1 << (cluster & 31);
  if (view.takeCopying(word, bit) === 0) return;
  while (!view.over()) {
    if (view.claim(word, bit) === 0) {
      view.waitForClaim(word, bit);
      continue;
    }
    if (!view.isPreserved(cluster)) {
      Atomics.or(view.retired, word, bit);
      Atomics.add(job.words, retiredClustersWord, 1);
    }
    view.release(word, bit);
    break;
  }
  view.dropCopying(word, bit);
}
