/**
 * A node on another one, to which it hands every verb: what decorates a node says only what it does otherwise. A kernel copy,
 * and what a child may do without waiting, would pass a decorator by, so those are not handed on.
 */
import type { BlockNode, Errno, NodeHandle, RequestKind, StatusExtent } from "../node.ts";

/** Of a node that is as its child in all but its state. */
export function decoratedHandle(driver: string, child: NodeHandle, state: unknown): NodeHandle {
  const { readOnly, alignment, clusterSize, identity } = child;
  return { driver, readOnly, alignment, clusterSize, identity, state, children: [child] };
}

export class DecoratedNode implements BlockNode {
  readonly direct = undefined;
  protected readonly child: BlockNode;

  constructor(child: BlockNode) {
    this.child = child;
  }

  length(): number {
    return this.child.length();
  }

  read(buffer: Uint8Array, offset: number): Errno {
    return this.before("read", offset, buffer.length) || this.child.read(buffer, offset);
  }

  write(buffer: Uint8Array, offset: number): Errno {
    return this.before("write", offset, buffer.length) || this.child.write(buffer, offset);
  }

  discard(offset: number, length: number): Errno {
    return this.before("discard", offset, length) || this.child.discard(offset, length);
  }

  writeZeroes(offset: number, length: number, unmap: boolean): Errno {
    return this.before("write-zeroes", offset, length) || this.child.writeZeroes(offset, length, unmap);
  }

  flush(): Errno {
    return this.before("flush", 0, 0) || this.child.flush();
  }

  status(offset: number, length: number, extent: StatusExtent): Errno {
    return this.before("status", offset, length) || this.child.status(offset, length, extent);
  }

  resize(length: number): Errno {
    return this.child.resize(length);
  }

  admit(kind: RequestKind, length: number): number {
    return this.child.admit(kind, length);
  }

  /** An errno answers the request; 0 lets it go on. */
  protected before(_kind: RequestKind, _offset: number, _length: number): Errno {
    return 0;
  }
}
