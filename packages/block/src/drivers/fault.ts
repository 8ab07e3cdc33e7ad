/**
 * `fault`: a decorator that makes chosen requests fail, wait, hang or kill their thread. For tests and demonstrations.
 *
 * Requests are counted over all threads, in shared memory, so that "the third write" is one write whoever makes it.
 * Rules are asked in order; a delay or a hang goes on to the next rule, an error answers.
 */
import assert from "node:assert/strict";
import { isMainThread } from "node:worker_threads";
import { BlockError } from "../block-error.ts";
import type { BlockNode, Driver, Errno, NodeHandle, NodeSpec, OpenContext, RequestKind, StatusExtent } from "../node.ts";

/** When a rule fires and what it does then. Exactly one action. */
export interface FaultRule {
  readonly kind: RequestKind | "any";
  /** Only requests that touch this range. A flush has none: only rules of kind flush, or without a range, match it. */
  readonly offset?: number;
  /** Up to the end of the disk where not given. */
  readonly length?: number;
  /** The first matching request that fires, counted from 1 since the rule was armed. */
  readonly nth?: number;
  /** From then on each `every`-th. */
  readonly every?: number;
  /** Only one ever; the default with `nth`. */
  readonly once?: boolean;
  /** From `nth` on all of them; the default without `nth`. */
  readonly always?: boolean;
  /** False: waits for `armFault`. */
  readonly armed?: boolean;
  readonly action:
    | { readonly error: string | number }
    | { readonly delayMs: number }
    | { readonly hang: true }
    | { readonly exit: true };
}

/** A rule as it lies in the handle: options read, defaults decided. */
interface Rule {
  readonly kind: RequestKind | "any";
  readonly matchesFlush: boolean;
  readonly offset: number;
  readonly end: number;
  readonly nth: number;
  /** 0: only the nth. */
  readonly every: number;
  readonly error: Errno;
  readonly delayMs: number;
  readonly hang: boolean;
  readonly exit: boolean;
}

interface FaultState {
  readonly rules: readonly Rule[];
  readonly shared: SharedArrayBuffer;
}

// Shared words: two for hangs, then three a rule.
/** Counts releases; a hang waits while it stays. */
const RELEASES = 0;
/** What requests answer that are let go of: 0 to go on. */
const RELEASE_ERRNO = 1;
const RULE_BASE = 2;
const RULE_WORDS = 3;
const ARMED = 0;
/** Requests that matched since the rule was armed. */
const MATCHED = 1;
/** Requests that the rule fired on since it was armed; notified. */
const FIRED = 2;

const kinds = ["any", "read", "write", "discard", "write-zeroes", "flush", "status"] as const;

export const fault: Driver = {
  options: {
    file: { type: "node", required: true, doc: "the node that is decorated" },
    rules: {
      type: "list",
      required: true,
      doc: "what fails, and how",
      fields: {
        kind: { type: "choice", values: kinds, required: true, doc: "requests that match" },
        offset: { type: "integer", doc: "first byte of the range that matches" },
        length: { type: "integer", min: 1, doc: "bytes of that range; up to the end where not given" },
        nth: { type: "integer", min: 1, doc: "first matching request that fires, from 1" },
        every: { type: "integer", min: 1, doc: "from then on each so-manieth" },
        once: { type: "boolean", doc: "fire one time; the default with nth" },
        always: { type: "boolean", doc: "fire from then on; the default without nth" },
        armed: { type: "boolean", default: true, doc: "false: wait for armFault" },
        action: {
          type: "object",
          required: true,
          doc: "one of them",
          fields: {
            error: { type: "errno", doc: "answer this" },
            delayMs: { type: "integer", max: 2 ** 31 - 1, doc: "wait, then go on" },
            hang: { type: "boolean", doc: "wait until releaseHang" },
            exit: { type: "boolean", doc: "end the worker thread" },
          },
        },
      },
    },
  },
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
  const { readOnly, alignment, clusterSize, identity } = child;
  const state: FaultState = { rules, shared };
  return { driver: "fault", readOnly, alignment, clusterSize, identity, state, children: [child] };
}

function readRule(rule: FaultRule, index: number): Rule {
  const refuse = (expected: string): never => {
    throw new BlockError("ERR_NODE_OPTION", `open fault: rules[${index}] must have ${expected}`, { node: "fault" });
  };
  const action = rule.action as { error?: Errno; delayMs?: number; hang?: boolean; exit?: boolean };
  const chosen = [action.error !== undefined, action.delayMs !== undefined, action.hang === true, action.exit === true];
  if (chosen.filter(Boolean).length !== 1) refuse("exactly one action of error, delayMs, hang: true, exit: true");
  const repeats = [rule.once === true, rule.always === true, rule.every !== undefined];
  if (repeats.filter(Boolean).length > 1) refuse("at most one of once, always, every");
  const once = rule.once === true || (rule.nth !== undefined && rule.always !== true && rule.every === undefined);
  const offset = rule.offset ?? 0;
  return {
    kind: rule.kind,
    matchesFlush: rule.kind === "flush" || (rule.offset === undefined && rule.length === undefined),
    offset,
    end: rule.length === undefined ? Number.MAX_SAFE_INTEGER : offset + rule.length,
    nth: rule.nth ?? rule.every ?? 1,
    every: once ? 0 : (rule.every ?? 1),
    error: action.error ?? 0,
    delayMs: action.delayMs ?? 0,
    hang: action.hang === true,
    exit: action.exit === true,
  };
}

function ruleWord(index: number, field: number): number {
  return RULE_BASE + index * RULE_WORDS + field;
}

class FaultNode implements BlockNode {
  /** A kernel copy would pass the rules by. */
  readonly direct = undefined;
  readonly #child: BlockNode;
  readonly #rules: readonly Rule[];
  readonly #words: Int32Array;

  constructor(child: BlockNode, state: FaultState) {
    this.#child = child;
    this.#rules = state.rules;
    this.#words = new Int32Array(state.shared);
  }

  length(): number {
    return this.#child.length();
  }

  read(buffer: Uint8Array, offset: number): Errno {
    return this.#ask("read", offset, buffer.length) || this.#child.read(buffer, offset);
  }

  write(buffer: Uint8Array, offset: number): Errno {
    return this.#ask("write", offset, buffer.length) || this.#child.write(buffer, offset);
  }

  discard(offset: number, length: number): Errno {
    return this.#ask("discard", offset, length) || this.#child.discard(offset, length);
  }

  writeZeroes(offset: number, length: number, unmap: boolean): Errno {
    return this.#ask("write-zeroes", offset, length) || this.#child.writeZeroes(offset, length, unmap);
  }

  flush(): Errno {
    return this.#ask("flush", 0, 0) || this.#child.flush();
  }

  status(offset: number, length: number, extent: StatusExtent): Errno {
    return this.#ask("status", offset, length) || this.#child.status(offset, length, extent);
  }

  resize(length: number): Errno {
    return this.#child.resize(length);
  }

  admit(kind: RequestKind, length: number): number {
    return this.#child.admit(kind, length);
  }

  #ask(kind: RequestKind, offset: number, length: number): Errno {
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

/** Arms a rule and counts from 0 again. From any thread. */
export function armFault(handle: NodeHandle, ruleIndex: number): void {
  const words = ruleWords(handle, ruleIndex);
  Atomics.store(words, ruleWord(ruleIndex, MATCHED), 0);
  Atomics.store(words, ruleWord(ruleIndex, FIRED), 0);
  Atomics.store(words, ruleWord(ruleIndex, ARMED), 1);
}

/** The rule matches nothing until it is armed again. Requests that hang already go on hanging. */
export function disarmFault(handle: NodeHandle, ruleIndex: number): void {
  Atomics.store(ruleWords(handle, ruleIndex), ruleWord(ruleIndex, ARMED), 0);
}

/** How often the rule fired since it was armed. */
export function faultCount(handle: NodeHandle, ruleIndex: number): number {
  return Atomics.load(ruleWords(handle, ruleIndex), ruleWord(ruleIndex, FIRED));
}

/** Resolves when the rule has fired `count` times since it was armed: a test waits for a hang without sleeping. */
export async function faultReached(handle: NodeHandle, ruleIndex: number, count = 1): Promise<void> {
  const words = ruleWords(handle, ruleIndex);
  const word = ruleWord(ruleIndex, FIRED);
  // waitAsync alone does not keep the event loop alive.
  const alive = setInterval(() => undefined, 1000);
  try {
    for (;;) {
      const fired = Atomics.load(words, word);
      if (fired >= count) return;
      await Atomics.waitAsync(words, word, fired).value;
    }
  } finally {
    clearInterval(alive);
  }
}

/**
 * Lets go of every request that hangs now: it goes on to the node below, or answers `errno` where one is given.
 * Requests that come later hang again, unless the rule is disarmed.
 */
export function releaseHang(handle: NodeHandle, errno: Errno = 0): void {
  const words = new Int32Array(faultState(handle).shared);
  Atomics.store(words, RELEASE_ERRNO, errno);
  Atomics.add(words, RELEASES, 1);
  Atomics.notify(words, RELEASES);
}

function faultState(handle: NodeHandle): FaultState {
  assert.equal(handle.driver, "fault", "expected the handle of a fault node");
  return handle.state as FaultState;
}

function ruleWords(handle: NodeHandle, ruleIndex: number): Int32Array {
  const { rules, shared } = faultState(handle);
  assert(ruleIndex in rules, `expected a rule index from 0 to ${rules.length - 1}, not ${ruleIndex}`);
  return new Int32Array(shared);
}
