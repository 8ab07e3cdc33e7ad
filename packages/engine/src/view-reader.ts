/**
 * A point in time on a thread that serves it to others: reads, what is known to be zeroes, and giving up parts of it. What
 * guests overwrite is in its spill, and, where the view has a target, on that sooner or later.
 */
import { type BlockNode, EACCES, EAGAIN, EINVAL, EIO, type Errno, type StatusExtent } from "@heirloom/block";
import { maskOf } from "./masks.ts";
import { readView } from "./reader.ts";
import { noSlot } from "./spill.ts";
import type { View } from "./view.ts";

/** One answer of `status` looks at no more preserved clusters than this. */
const preservedRunMax = 1024;
/** Of at most 10 ms each. */
const claimWaitsMax = 4;

export class ViewReader {
  readonly #view: View;
  readonly #node: BlockNode;
  readonly #target: BlockNode | undefined;
  /** Their `read` answers EAGAIN where the node's would wait for a device. */
  readonly #now: BlockNode | undefined;
  readonly #targetNow: BlockNode | undefined;

  /** @param target where the view's movers carry its spill, if there are any */
  constructor(view: View, node: BlockNode, target?: BlockNode) {
    this.#view = view;
    this.#node = node;
    this.#target = target;
    this.#now = readingNow(node);
    this.#targetNow = target && readingNow(target);
  }

  /** Bytes of the disk at the instant. */
  get length(): number {
    return this.#view.length;
  }
  /** Ended, or given up: every read answers EIO. */
  get over(): boolean {
    return this.#view.over();
  }
  /** As of the nodes under it; see `DiskIo.prompt`. */
  get prompt(): boolean {
    return this.#now !== undefined && (this.#target === undefined || this.#targetNow !== undefined);
  }

  read(buffer: Uint8Array, offset: number): Errno {
    return readView(this.#view, this.#node, 0, this.#target, buffer, offset);
  }
  /** EAGAIN where it would wait for a device. */
  readNow(buffer: Uint8Array, offset: number): Errno {
    if (this.#now === undefined || !this.prompt) return EAGAIN;
    return readView(this.#view, this.#now, 0, this.#targetNow, buffer, offset);
  }

  /** Zero only for what was zeroes at the instant. EACCES where nothing can be read; what can be ends before that. */
  status(offset: number, length: number, extent: StatusExtent): Errno {
    const view = this.#view;
    if (offset < 0 || length <= 0 || offset + length > view.length) return EINVAL;
    for (;;) {
      const first = Math.floor(offset / view.clusterSize);
      if (!view.isReadable(first)) return view.over() ? EIO : EACCES;
      const errno = view.isPreserved(first)
        ? this.#statusOfMoved(first, offset, length, extent)
        : this.#statusOfDevice(first, offset, length, extent);
      if (view.over()) return EIO;
      if (errno !== 0 || extent.length > 0) return errno;
    }
  }

  /** As of `DiskIo.zeroesFrom`. What guests have overwritten since is not known cheaply. */
  zeroesFrom(offset: number, length: number): number {
    const view = this.#view;
    const zeroes = this.#node.zeroesFrom?.(offset, length) ?? 0;
    const end = this.#untouchedEnd(Math.floor(offset / view.clusterSize), offset + zeroes);
    // Once it is over nothing is preserved any more, and the node holds what came after it.
    return view.over() ? 0 : Math.max(0, end - offset);
  }

  /**
   * The whole clusters of the range are part of the point in time no more: guests need not preserve them, readers are refused,
   * and the target is rid of them when a mover comes by. Rounded inwards: what is left over is kept.
   */
  discard(offset: number, length: number): Errno {
    const view = this.#view;
    const end = offset + length;
    const last = end === view.length ? view.clusters : Math.floor(end / view.clusterSize);
    for (let cluster = Math.ceil(offset / view.clusterSize); cluster < last;) {
      const word = cluster >>> 5;
      const upTo = Math.min(last, (word + 1) * 32);
      giveUp(view, word, maskOf(cluster, upTo));
      cluster = upTo;
    }
    view.tellDiscards();
    return view.over() ? EIO : 0;
  }

  /** Leaves a length of 0 where a guest was faster. */
  #statusOfDevice(first: number, offset: number, length: number, extent: StatusExtent): Errno {
    const errno = this.#node.status(offset, length, extent);
    if (errno === 0) extent.length = Math.max(0, this.#untouchedEnd(first, offset + extent.length) - offset);
    return errno;
  }

  /** Where the run of clusters that can be read and are not preserved ends; at most `limit`. What the node said before this look holds for them. */
  #untouchedEnd(first: number, limit: number): number {
    const view = this.#view;
    let cluster = first;
    while (cluster * view.clusterSize < limit && view.isReadable(cluster) && !view.isPreserved(cluster)) cluster++;
    return Math.min(limit, cluster * view.clusterSize);
  }

  #statusOfMoved(first: number, offset: number, length: number, extent: StatusExtent): Errno {
    const view = this.#view;
    const onTarget = this.#isOnTarget(first);
    const zero = !onTarget && this.#isZeroInSpill(first);
    let cluster = first + 1;
    while (
      cluster * view.clusterSize < offset + length &&
      cluster - first < preservedRunMax &&
      view.isReadable(cluster) &&
      view.isPreserved(cluster) &&
      this.#isOnTarget(cluster) === onTarget &&
      (onTarget || this.#isZeroInSpill(cluster) === zero)
    )
      cluster++;
    const end = Math.min(offset + length, cluster * view.clusterSize);
    if (onTarget && this.#target !== undefined) return this.#target.status(offset, end - offset, extent);
    extent.length = end - offset;
    extent.zero = zero;
    extent.allocated = !zero;
    return 0;
  }

  #isOnTarget(cluster: number): boolean {
    return this.#target !== undefined && this.#view.isCopied(cluster);
  }

  /** False as well for what has just left the spill. */
  #isZeroInSpill(cluster: number): boolean {
    const { spill } = this.#view;
    const slot = spill.pin(cluster);
    if (slot === noSlot) return false;
    const zero = spill.isZeroSlot(slot);
    spill.unpin(slot);
    return zero;
  }
}

function readingNow(node: BlockNode): BlockNode | undefined {
  const { readNow } = node;
  return readNow && (Object.create(node, { read: { value: readNow.bind(node) } }) as BlockNode);
}

/**
 * Claimed, so that nobody is in the middle of preserving what a guest may overwrite from here on. A claim that is held for long
 * is not waited for: its cluster stays.
 */
function giveUp(view: View, word: number, mask: number): void {
  let waits = 0;
  for (let left = mask; left !== 0 && !view.over();) {
    const claimed = view.claim(word, left);
    if (claimed === 0) {
      if (++waits > claimWaitsMax) return;
      view.waitForClaim(word, left);
      continue;
    }
    view.retire(word, claimed);
    view.release(word, claimed);
    left &= ~claimed;
  }
}
