/**
 * Reading a point in time. Reads the device without a claim, then looks again whether the view is over and the clusters
 * not preserved: what was not preserved after the read was not overwritten before it. What moved is read from the spill,
 * pinned, or, once drained, from the target.
 */
import { type BlockNode, EACCES, EINVAL, EIO, type Errno } from "@heirloom/block";
import { noSlot } from "./spill.ts";
import type { View } from "./view.ts";

/** One device read at most, so that little has to be read again where a guest was faster. */
const spanBytesMax = 256 * 1024;

/**
 * @param base where the view's disk begins in `node`
 * @param target of the view's job, or undefined where nobody drains
 * @returns 0; EINVAL for a range outside the view, EACCES for one outside its set; EIO if the view is over
 */
export function readView(
  view: View,
  node: BlockNode,
  base: number,
  target: BlockNode | undefined,
  buffer: Uint8Array,
  offset: number,
): Errno {
  if (offset < 0 || offset + buffer.length > view.length) return EINVAL;
  let done = 0;
  while (done < buffer.length) {
    const at = offset + done;
    const cluster = Math.floor(at / view.clusterSize);
    if (!view.isReadable(cluster)) return view.over() ? EIO : EACCES;
    const spanEnd = spanWithout(view, cluster, Math.min(offset + buffer.length, at + spanBytesMax));
    const end = spanEnd > at ? spanEnd : Math.min((cluster + 1) * view.clusterSize, offset + buffer.length);
    const part = buffer.subarray(done, end - offset);
    const errno = spanEnd > at ? readDevice(view, node, base, part, at) : readMoved(view, target, part, at, cluster);
    if (view.over()) return EIO;
    if (view.isRetired(cluster)) continue;
    if (errno === again) continue;
    if (errno !== 0) return errno;
    done = end - offset;
  }
  return 0;
}

const again = -1;

/** Where the run of clusters from `cluster` on ends that are in the set and not preserved; at most `limit`. */
function spanWithout(view: View, cluster: number, limit: number): number {
  let next = cluster;
  while (next * view.clusterSize < limit && view.isReadable(next) && !view.isPreserved(next)) next++;
  return Math.min(limit, next * view.clusterSize);
}

function readDevice(view: View, node: BlockNode, base: number, part: Uint8Array, at: number): Errno {
  const errno = node.read(part, base + at);
  if (errno !== 0) return errno;
  const last = Math.floor((at + part.length - 1) / view.clusterSize);
  for (let cluster = Math.floor(at / view.clusterSize); cluster <= last; cluster++) {
    // A guest may have written before or while we read: the old data has moved, or nobody needed it any more.
    if (view.isPreserved(cluster) || view.isRetired(cluster)) return again;
  }
  return 0;
}

function readMoved(view: View, target: BlockNode | undefined, part: Uint8Array, at: number, cluster: number): Errno {
  // Once it is there it stays; and the look into the spill for what has left it is the dearest one.
  if (target !== undefined && view.isCopied(cluster)) return target.read(part, at);
  const slot = view.spill.pin(cluster);
  if (slot !== noSlot) {
    const errno = view.spill.load(slot, part, at - cluster * view.clusterSize);
    view.spill.unpin(slot);
    return errno;
  }
  // On its way from a copier's buffer to the target.
  view.waitForWork(view.workSeen(), 1);
  return again;
}
