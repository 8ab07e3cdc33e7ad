/**
 * `fault`: a decorator that makes chosen requests fail, wait, hang or kill their thread. For tests and demonstrations.
 *
 * Requests are counted over all threads, in shared memory, so that "the third write" is one write whoever makes it.
 * Rules are asked in order; a delay or a hang goes on to the next rule, an error answers.
 */
import assert from "node:assert/strict";
import { isMainThread } from "node:worker_threads";
import type { BlockNode, Driver, Errno, NodeHandle, NodeSpec, OpenContext, RequestKind } from "../node.ts";
import { DecoratedNode, decoratedHandle } from "./decorated-node.ts";
import {
  ARMED,
  faultOptions,
  type FaultRule,
  type FaultState,
  FIRED,
  MATCHED,
  readRule,
  RELEASE_ERRNO,
  RELEASES,
  type Rule,
  RULE_BASE,
  RULE_WORDS,
  ruleWord,
} from "./fault-rule.ts";

export const fault: Driver = {
  options: faultOptions,
  open: openFault,
  connect: (handle, context) => new FaultNode(context.connect(handle.children[0]), handle.state as FaultState),
  close: (handle, context) => context.close(handle.children[0]),
};

function openFault(options: Record<string, unknown>, context: OpenContext): NodeHandle {
  const { file, rules: given } = options as unknown as { file: NodeSpec; rules: FaultRule[] };
  const rules = given.map(readRule);
  const shared = new SharedArrayBuffer((RULE_BASE + RULE_WORDS * rules.length) * 4);
  const words = new Int32Array(shared);
  given.forEach((rule, index) => Atomics.store(words, ruleWord(index, ARMED), rule.armed === false ? 0 : 1));
  const child = context.open(file);
  const state: FaultState = { rules, shared };
  return decoratedHandle("fault", child, state);
}

class FaultNode extends DecoratedNode {
  readonly #rules: readonly Rule[];
  readonly #words: Int32Array;

  constructor(child: BlockNode, state: FaultState) {
    super(child);
    this.#rules = state.rules;
    this.#words = new Int32Array(state.shared);
  }

  protected override before(kind: RequestKind, offset: number, length: number): Errno {
    for (let index = 0; index < this.#rules.length; index++) {
      const rule = this.#rules[index];
      if (rule.kind !== "any" && rule.kind !== kind) continue;
      if (kind === "flush" ? !rule.matchesFlush : offset >= rule.end || offset + length <= rule.offset) continue;
      if (Atomics.load(this.#words, ruleWord(index, ARMED)) === 0) continue;
      const count = Atomics.add(this.#words, ruleWord(index, MATCHED), 1) + 1;
      const beyond = count - rule.nth;
      const fires = rule.every === 0 ? beyond === 0 : beyond >= 0 && beyond % rule.every === 0;
      const errno = fires ? this.#fire(rule, index) : 0;
      if (errno !== 0) return errno;
    }
    return 0;
  }

  #fire(rule: Rule, index: number): Errno {
    // Before it is counted: who waits for the count and releases then must not be missed.
    const releases = Atomics.load(this.#words, RELEASES);
    Atomics.add(this.#words, ruleWord(index, FIRED), 1);
    Atomics.notify(this.#words, ruleWord(index, FIRED));
    if (rule.error !== 0) return rule.error;
    if (rule.hang) {
      while (Atomics.load(this.#words, RELEASES) === releases) Atomics.wait(this.#words, RELEASES, releases);
      return Atomics.load(this.#words, RELEASE_ERRNO);
    }
    if (rule.exit) {
      assert(!isMainThread, "fault: an exit rule ends a worker thread, and this is the main thread");
      process.exit(1);
    }
    this.#sleep(rule.delayMs);
    return 0;
  }

  #sleep(delayMs: number): void {
    // Nobody knows this word, so nothing wakes it early.
    if (delayMs > 0) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, delayMs);
  }
}
