/**
 * Carrying the spill to the target. Takes only clusters that are `preserved` and that no copier works on: the kernel may
 * be copying what a guest wrote over one of them at this moment, and whoever writes last must be the drainer.
 *
 * Where guests wait for the target (`synchronous`) a write that fails is theirs to hear of: its slot keeps the errno, and is
 * not tried again before a guest asks for it, or now and then. It is none of the job's errors.
 *
 * Where clusters are found by an index, neighbours go in one request: guests spill in clusters of a few KiB, and overwrite more.
 */
import { type Errno, isZero } from "@heirloom/block";
import { sayCopied } from "./copied.ts";
import type { MoverJob } from "./mover-types.ts";
import { brokenSpillFailed } from "./view-layout.ts";
import { noSlot } from "./spill.ts";

export interface DrainResult {
  /** Slots carried over. */
  drained: number;
  /** Of the first write that failed; its slot stays full. */
  errno: Errno;
  /** Bytes; where that was. */
  offset: number;
}

/**
 * Drains up to `slotsMax` slots.
 * @param again one that failed before is tried again
 * @param bounce a buffer of this thread, of a cluster at least; more than that, and neighbours go together
 */
export function drain(
  job: MoverJob,
  slotsMax: number,
  bounce: Uint8Array,
  result: DrainResult,
  again: boolean = false,
): void {
  const { view } = job;
  const { spill } = view;
  result.drained = 0;
  result.errno = 0;
  const isOver = (): boolean => view.over();
  let passedOver = 0;
  let trying = again;
  let alone = false;
  while (result.drained < slotsMax && !view.over()) {
    const slot = spill.takeFull();
    if (slot === noSlot) return;
    const cluster = spill.cluster(slot);
    if (!view.isPreserved(cluster) || view.isCopying(cluster)) {
      spill.putBack(slot);
      // Slots that cannot go yet must not keep this thread from the others, nor for ever.
      if (++passedOver > passedOverMax) return;
      continue;
    }
    if (view.isRetired(cluster)) {
      drop(job, slot, isOver);
      continue;
    }
    if (spill.syncs && view.isCopied(cluster)) {
      spill.hold(slot); // a copier was quicker
      result.drained++;
      continue;
    }
    if (view.synchronous && spill.failure(slot) !== 0) {
      if (!trying) {
        spill.putBack(slot);
        if (++passedOver > passedOverMax) return;
        continue;
      }
      trying = false;
    }
    const slots = alone || again ? [slot] : withNeighbours(job, slot, cluster, bounce.length);
    if (slots.length > 1) {
      if (carryRun(job, slots, cluster, bounce) === 0) {
        if (view.synchronous) view.setTargetErrno(0);
        result.drained += slots.length;
        if (!letGoOf(job, slots, cluster, isOver)) return;
        continue;
      }
      // Whose fault it is shows when each is tried alone.
      for (const one of slots.slice(1)) spill.putBack(one);
      alone = true;
    }
    const errno = carry(job, slot, cluster, bounce);
    if (view.synchronous) view.setTargetErrno(errno);
    if (errno !== 0) {
      if (view.synchronous) {
        spill.setFailure(slot, errno);
        spill.putBack(slot);
        view.madeProgress();
        continue;
      }
      spill.putBack(slot);
      result.errno = errno;
      result.offset = cluster * view.clusterSize;
      return;
    }
    // Its slot is free for another cluster only when a restart finds this one on the target.
    if (!sayCopied(job, cluster >>> 5, 1 << (cluster & 31))) return;
    if (spill.syncs) spill.hold(slot);
    else spill.freeDrained(slot, isOver);
    view.madeProgress();
    result.drained++;
  }
}

/** The slots of clusters from `first` on that can go in one request of at most so many bytes; the caller has the first of them. */
function withNeighbours({ view }: MoverJob, slot: number, first: number, bytesMax: number): number[] {
  const { spill } = view;
  const slots = [slot];
  if (!spill.isIndexed || spill.isKept || spill.isZeroSlot(slot)) return slots;
  const end = Math.min(view.clusters, first + Math.floor(bytesMax / view.clusterSize));
  for (let cluster = first + 1; cluster < end; cluster++) {
    if (!view.isPreserved(cluster) || view.isCopied(cluster)) break; // the index is not asked for what it has not
    if (view.isCopying(cluster) || view.isRetired(cluster)) break;
    const next = spill.takeFullOf(cluster);
    if (next === noSlot) break;
    if (spill.isZeroSlot(next) || spill.failure(next) !== 0) {
      spill.putBack(next);
      break;
    }
    slots.push(next);
  }
  return slots;
}

/** Writes what the slots of neighbours hold with one request. */
function carryRun({ view, target }: MoverJob, slots: readonly number[], first: number, buffer: Uint8Array): Errno {
  const { spill, clusterSize } = view;
  const offset = first * clusterSize;
  const bytes = Math.min((first + slots.length) * clusterSize, view.length) - offset;
  for (const [index, slot] of slots.entries()) {
    const at = index * clusterSize;
    const errno = spill.load(slot, buffer.subarray(at, Math.min(at + clusterSize, bytes)));
    if (errno !== 0) return errno;
  }
  return target.write(buffer.subarray(0, bytes), offset);
}

/** They have arrived. False where that could not be recorded. */
function letGoOf(job: MoverJob, slots: readonly number[], first: number, over: () => boolean): boolean {
  for (const [index, slot] of slots.entries()) {
    const cluster = first + index;
    if (!sayCopied(job, cluster >>> 5, 1 << (cluster & 31))) return false;
    job.view.spill.freeDrained(slot, over);
  }
  job.view.madeProgress();
  return true;
}

/** Readers have given its cluster up. */
function drop({ view }: MoverJob, slot: number, over: () => boolean): void {
  view.spill.freeDrained(slot, over);
  view.madeProgress();
}

/** Slots that cannot go yet are looked at so often in one call. */
const passedOverMax = 64;

function carry(job: MoverJob, slot: number, cluster: number, bounce: Uint8Array): Errno {
  const { view } = job;
  const { spill } = view;
  const offset = cluster * view.clusterSize;
  const bytes = view.bytesOf(cluster);
  if (spill.isZeroSlot(slot)) return job.target.writeZeroes(offset, bytes, true);
  const memory = spill.memory(slot);
  if (memory !== undefined)
    return job.target.write(bytes === memory.length ? memory : memory.subarray(0, bytes), offset);
  const data = bounce.subarray(0, bytes);
  const errno = spill.load(slot, data);
  // A kept spill has no slots for zeroes; that they are some is worth a look all the same.
  if (errno === 0 && spill.isKept && isZero(data)) return job.target.writeZeroes(offset, bytes, true);
  if (errno === 0) return job.target.write(data, offset);
  view.break(brokenSpillFailed, errno); // what guests preserved is lost
  return errno;
}
