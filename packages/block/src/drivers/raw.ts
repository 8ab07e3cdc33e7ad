/**
 * `raw`: a window on another node. Without `size` it reaches to the child's end and moves with it.
 *
 * Its identity is the child's: two windows on one file count as the same storage even where they do not overlap. That
 * refuses more than it must, and never too little.
 */
import { BlockError } from "../block-error.ts";
import { ENOTSUP } from "../errno.ts";
import type {
  BlockNode,
  ConnectContext,
  DirectFile,
  Driver,
  Errno,
  NodeHandle,
  NodeSpec,
  OpenContext,
  RequestKind,
  StatusExtent,
} from "../node.ts";

interface RawState {
  readonly offset: number;
  /** `undefined`: up to the child's end. */
  readonly size: number | undefined;
}

interface RawOptions {
  readonly file: NodeSpec;
  readonly offset: number;
  readonly size?: number;
  readonly readOnly: boolean;
}

export const raw: Driver = {
  options: {
    file: { type: "node", required: true, doc: "the node that the window is on" },
    offset: { type: "integer", default: 0, doc: "bytes of the child before the window" },
    size: { type: "integer", doc: "bytes of the window; up to the child's end where not given" },
    readOnly: { type: "boolean", default: false, doc: "refuse changes, whatever the child allows" },
  },
  open: openRaw,
  connect: (handle, context) => connectRaw(handle, context),
  close: (handle, context) => context.close(handle.children[0]),
};

function openRaw(options: Record<string, unknown>, context: OpenContext): NodeHandle {
  const { file, offset, size } = options as unknown as RawOptions;
  const child = context.open(file);
  const state: RawState = { offset, size };
  try {
    checkWindow(state, context.connect(child).length(), child);
  } catch (error) {
    context.close(child);
    throw error;
  }
  const { alignment, clusterSize, identity } = child;
  const readOnly = child.readOnly || (options as unknown as RawOptions).readOnly;
  return { driver: "raw", readOnly, alignment, clusterSize, identity, state, children: [child] };
}

function checkWindow(state: RawState, childLength: number, child: NodeHandle): void {
  const { offset, size } = state;
  if (offset > childLength || (size !== undefined && size > childLength - offset)) {
    const window = size === undefined ? `offset ${offset}` : `offset ${offset} and size ${size}`;
    const message = `open raw: ${window} must lie in the node under it (${child.driver}), which is ${childLength} bytes long`;
    throw new BlockError("ERR_NODE_OPTION", message, { node: "raw" });
  }
  if (offset % child.alignment === 0 && (size ?? 0) % child.alignment === 0) return;
  const message = `open raw: offset and size must be multiples of ${child.alignment}, the alignment of the node under it`;
  throw new BlockError("ERR_NODE_OPTION", message, { node: "raw" });
}

function connectRaw(handle: NodeHandle, context: ConnectContext): BlockNode {
  const child = context.connect(handle.children[0]);
  return new RawNode(child, handle.state as RawState);
}

class RawNode implements BlockNode {
  readonly direct: DirectFile | undefined;
  readonly readNow: BlockNode["readNow"];
  readonly writeZeroesFast: BlockNode["writeZeroesFast"];
  readonly zeroesFrom: BlockNode["zeroesFrom"];
  readonly #child: BlockNode;
  readonly #offset: number;
  readonly #size: number | undefined;

  constructor(child: BlockNode, state: RawState) {
    this.#child = child;
    this.#offset = state.offset;
    this.#size = state.size;
    this.direct = child.direct && { fd: child.direct.fd, shift: child.direct.shift + state.offset };
    const { readNow, writeZeroesFast, zeroesFrom } = child;
    this.readNow = readNow && ((buffer, offset) => readNow.call(child, buffer, offset + state.offset));
    this.zeroesFrom = zeroesFrom && ((offset, length) => zeroesFrom.call(child, offset + state.offset, length));
    this.writeZeroesFast =
      writeZeroesFast && ((offset, length, unmap) => writeZeroesFast.call(child, offset + state.offset, length, unmap));
  }

  length(): number {
    return this.#size ?? Math.max(0, this.#child.length() - this.#offset);
  }

  read(buffer: Uint8Array, offset: number): Errno {
    this.#child.announce?.("read_aio");
    return this.#child.read(buffer, offset + this.#offset);
  }

  write(buffer: Uint8Array, offset: number): Errno {
    this.#child.announce?.("write_aio");
    return this.#child.write(buffer, offset + this.#offset);
  }

  discard(offset: number, length: number): Errno {
    return this.#child.discard(offset + this.#offset, length);
  }

  writeZeroes(offset: number, length: number, unmap: boolean): Errno {
    return this.#child.writeZeroes(offset + this.#offset, length, unmap);
  }

  flush(): Errno {
    this.#child.announce?.("flush_to_os");
    this.#child.announce?.("flush_to_disk");
    return this.#child.flush();
  }

  status(offset: number, length: number, extent: StatusExtent): Errno {
    return this.#child.status(offset + this.#offset, length, extent);
  }

  /** A window of a given size keeps it. */
  resize(length: number): Errno {
    return this.#size === undefined ? this.#child.resize(length + this.#offset) : ENOTSUP;
  }

  admit(kind: RequestKind, length: number): number {
    return this.#child.admit(kind, length);
  }
}
