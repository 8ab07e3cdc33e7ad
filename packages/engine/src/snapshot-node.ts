/**
 * A node that reads a point-in-time view. It cannot be written: what is there is what was there. Discards give parts up.
 *
 * A driver module: threads load it by its URL. The disk and the target are their owners' to close, and nobody may use the node
 * once the view's memory is given back.
 */
import {
  type BlockNode,
  connectNode,
  type DirectFile,
  type Driver,
  ENOTSUP,
  type Errno,
  type NodeHandle,
  type StatusExtent,
} from "@heirloom/block";
import type { SnapshotParts, SnapshotState } from "./snapshot-spec.ts";
import { View } from "./view.ts";
import { ViewReader } from "./view-reader.ts";

export const driver: Driver = {
  open: (options) => {
    const { source, target, view, arenas, discard, readOnly } = options as unknown as SnapshotParts;
    const state: SnapshotState = { view, arenas, discard };
    return {
      driver: import.meta.url,
      readOnly,
      alignment: source.alignment,
      clusterSize: source.clusterSize,
      identity: `snapshot:${view.arena}:${view.byteOffset}`,
      state,
      children: target === undefined ? [source] : [source, target],
    };
  },
  connect: (handle) => new SnapshotNode(handle),
  close: () => {},
};

class SnapshotNode implements BlockNode {
  readonly direct: DirectFile | undefined = undefined;
  readonly readNow: BlockNode["readNow"];
  readonly #reader: ViewReader;
  readonly #discards: boolean;

  constructor(handle: NodeHandle) {
    const { view, arenas, discard } = handle.state as SnapshotState;
    const [source, target] = handle.children.map((child) => connectNode(child));
    this.#reader = new ViewReader(View.at(view, { buffer: (arena) => arenas[arena] }), source, target);
    this.#discards = discard;
    this.readNow = this.#reader.prompt ? (buffer, offset) => this.#reader.readNow(buffer, offset) : undefined;
  }

  length(): number {
    return this.#reader.length;
  }
  read(buffer: Uint8Array, offset: number): Errno {
    return this.#reader.read(buffer, offset);
  }
  write(): Errno {
    return ENOTSUP;
  }
  discard(offset: number, length: number): Errno {
    return this.#discards ? this.#reader.discard(offset, length) : 0;
  }
  writeZeroes(): Errno {
    return ENOTSUP;
  }
  writeZeroesFast(): Errno {
    return ENOTSUP;
  }
  flush(): Errno {
    return 0;
  }
  status(offset: number, length: number, extent: StatusExtent): Errno {
    return this.#reader.status(offset, length, extent);
  }
  zeroesFrom(offset: number, length: number): number {
    return this.#reader.zeroesFrom(offset, length);
  }
  resize(): Errno {
    return ENOTSUP;
  }
  admit(): number {
    return 0;
  }
}
