/**
 * A point in time on a thread that serves it to others: reads, and what is known to be zeroes. Nobody drains such a view,
 * so what guests overwrite stays in its spill.
 */
import { type BlockNode, EAGAIN, EINVAL, EIO, type Errno, type StatusExtent } from "@heirloom/block";
import { readView } from "./reader.ts";
import { noSlot } from "./spill.ts";
import type { View } from "./view.ts";

/** One answer of `status` looks at no more preserved clusters than this. */
const preservedRunMax = 1024;

export class ViewReader {
  readonly #view: View;
  readonly #node: BlockNode;
  /** Its `read` answers EAGAIN where the node's would wait for a device. */
  readonly #now: BlockNode | undefined;

  constructor(view: View, node: BlockNode) {
    this.#view = view;
    this.#node = node;
    const { readNow } = node;
    this.#now = readNow && (Object.create(node, { read: { value: readNow.bind(node) } }) as BlockNode);
  }

  /** Bytes of the disk at the instant. */
  get length(): number {
    return this.#view.length;
  }
  /** Ended, or given up: every read answers EIO. */
  get over(): boolean {
    return this.#view.over();
  }
  /** As of the node under it; see `DiskIo.prompt`. */
  get prompt(): boolean {
    return this.#now !== undefined;
  }

  read(buffer: Uint8Array, offset: number): Errno {
    return readView(this.#view, this.#node, 0, undefined, buffer, offset);
  }
  /** EAGAIN where it would wait for a device. */
  readNow(buffer: Uint8Array, offset: number): Errno {
    return this.#now === undefined ? EAGAIN : readView(this.#view, this.#now, 0, undefined, buffer, offset);
  }

  /** Zero only for what was zeroes at the instant. */
  status(offset: number, length: number, extent: StatusExtent): Errno {
    const view = this.#view;
    if (offset < 0 || length <= 0 || offset + length > view.length) return EINVAL;
    for (;;) {
      const first = Math.floor(offset / view.clusterSize);
      const errno = view.isPreserved(first)
        ? this.#statusOfSpill(first, offset, length, extent)
        : this.#statusOfDevice(first, offset, length, extent);
      if (view.over()) return EIO;
      if (errno !== 0 || extent.length > 0) return errno;
    }
  }

  /** As of `DiskIo.zeroesFrom`. What guests have overwritten since is not known cheaply. */
  zeroesFrom(offset: number, length: number): number {
    const view = this.#view;
    const zeroes = this.#node.zeroesFrom?.(offset, length) ?? 0;
    // What is not preserved now had not been written when the node was asked.
    const end = offset + zeroes;
    let cluster = Math.floor(offset / view.clusterSize);
    while (cluster * view.clusterSize < end && !view.isPreserved(cluster)) cluster++;
    // Once it is over nothing is preserved any more, and the node holds what came after it.
    return view.over() ? 0 : Math.max(0, Math.min(end, cluster * view.clusterSize) - offset);
  }

  /** Leaves a length of 0 where a guest was faster. */
  #statusOfDevice(first: number, offset: number, length: number, extent: StatusExtent): Errno {
    const view = this.#view;
    const errno = this.#node.status(offset, length, extent);
    if (errno !== 0) return errno;
    // What is not preserved now had not been written when the node was asked.
    const end = offset + extent.length;
    let cluster = first;
    while (cluster * view.clusterSize < end && !view.isPreserved(cluster)) cluster++;
    extent.length = Math.max(0, Math.min(end, cluster * view.clusterSize) - offset);
    return 0;
  }

  #statusOfSpill(first: number, offset: number, length: number, extent: StatusExtent): Errno {
    const view = this.#view;
    const end = offset + length;
    const zero = this.#isZeroInSpill(first);
    let cluster = first + 1;
    while (
      cluster * view.clusterSize < end &&
      cluster - first < preservedRunMax &&
      view.isPreserved(cluster) &&
      this.#isZeroInSpill(cluster) === zero
    )
      cluster++;
    extent.length = Math.min(end, cluster * view.clusterSize) - offset;
    extent.zero = zero;
    extent.allocated = !zero;
    return 0;
  }

  #isZeroInSpill(cluster: number): boolean {
    const { spill } = this.#view;
    const slot = spill.pin(cluster);
    if (slot === noSlot) return false;
    const zero = spill.isZeroSlot(slot);
    spill.unpin(slot);
    return zero;
  }
}
