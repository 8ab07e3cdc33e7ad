/**
 * `blkdebug`: faults as QEMU's driver of that name injects them, with states, for tests that were written for it. (`fault`
 * is ours: it counts, and it delays, hangs and ends threads as well.)
 *
 * All threads share the word of `blkdebug-rule.ts`; each change of it is one compare-exchange, so that of two threads
 * that meet a rule which holds once, one fails. Events are announced by the node itself and by the node above it, which is
 * `raw`, or nobody.
 */
import { BlockError } from "../block-error.ts";
import type { BlockNode, Driver, Errno, NodeHandle, NodeSpec, OpenContext, RequestKind } from "../node.ts";
import {
  afterEvent,
  atStart,
  type BlkdebugEvent,
  blkdebugOptions,
  type BlkdebugRules,
  INJECT_RULES_MAX,
  ruleFor,
} from "./blkdebug-rule.ts";
import { DecoratedNode, decoratedHandle } from "./decorated-node.ts";

interface BlkdebugState {
  readonly rules: BlkdebugRules;
  /** int64: the standing of the rules; then two more, of which only the first halves count: changes, and those flushed. */
  readonly shared: SharedArrayBuffer;
}

const STANDING = 0;
const CHANGES = 1;
const FLUSHED = 2;

export const blkdebug: Driver = {
  options: blkdebugOptions,
  open: openBlkdebug,
  connect: (handle, context) => new BlkdebugNode(context.connect(handle.children[0]), handle.state as BlkdebugState),
  close: (handle, context) => context.close(handle.children[0]),
};

function openBlkdebug(options: Record<string, unknown>, context: OpenContext): NodeHandle {
  const { file, injectError, setState } = options as unknown as BlkdebugRules & { file: NodeSpec };
  if (injectError.length > INJECT_RULES_MAX) {
    const message = `open blkdebug: injectError must have at most ${INJECT_RULES_MAX} rules, not ${injectError.length}`;
    throw new BlockError("ERR_NODE_OPTION", message, { node: "blkdebug" });
  }
  const rules = { injectError, setState };
  const shared = new SharedArrayBuffer(3 * 8);
  new BigInt64Array(shared)[STANDING] = BigInt.asIntN(64, afterEvent(atStart, rules, "none"));
  const child = context.open(file);
  const state: BlkdebugState = { rules, shared };
  return decoratedHandle("blkdebug", child, state);
}

class BlkdebugNode extends DecoratedNode {
  readonly #rules: BlkdebugRules;
  readonly #words: BigInt64Array;

  constructor(child: BlockNode, state: BlkdebugState) {
    super(child);
    this.#rules = state.rules;
    this.#words = new BigInt64Array(state.shared);
  }

  announce(event: BlkdebugEvent): void {
    // Nothing was written since: QEMU does not get as far.
    if (event === "flush_to_disk" && this.#isFlushed()) return;
    for (;;) {
      const word = Atomics.load(this.#words, STANDING);
      if (this.#exchange(word, afterEvent(word, this.#rules, event))) return;
    }
  }

  override write(buffer: Uint8Array, offset: number): Errno {
    this.announce("pwritev");
    const errno = super.write(buffer, offset);
    this.#changed();
    return errno;
  }

  override discard(offset: number, length: number): Errno {
    const errno = super.discard(offset, length);
    Atomics.add(this.#words, CHANGES, 1n);
    return errno;
  }

  override writeZeroes(offset: number, length: number, unmap: boolean): Errno {
    this.announce("pwritev_zero");
    const errno = super.writeZeroes(offset, length, unmap);
    this.#changed();
    return errno;
  }

  override flush(): Errno {
    const changes = Atomics.load(this.#words, CHANGES);
    const errno = this.#isFlushed() ? this.child.flush() : super.flush();
    if (errno === 0) Atomics.store(this.#words, FLUSHED, changes);
    return errno;
  }

  /** Also where it failed. */
  #changed(): void {
    Atomics.add(this.#words, CHANGES, 1n);
    this.announce("pwritev_done");
  }

  #isFlushed(): boolean {
    return Atomics.load(this.#words, FLUSHED) === Atomics.load(this.#words, CHANGES);
  }

  protected override before(kind: RequestKind, offset: number, length: number): Errno {
    for (;;) {
      const word = Atomics.load(this.#words, STANDING);
      const met = ruleFor(word, this.#rules.injectError, { kind, offset, length });
      if (met === undefined) return 0;
      if (this.#exchange(word, met.after)) return met.error;
    }
  }

  #exchange(word: bigint, next: bigint): boolean {
    return word === next || Atomics.compareExchange(this.#words, STANDING, word, BigInt.asIntN(64, next)) === word;
  }
}
