/**
 * What a fault rule says: as people give it, as it lies in a handle, and the words that its counts take in shared memory.
 */
import { BlockError } from "../block-error.ts";
import type { Errno, RequestKind } from "../node.ts";
import type { OptionTable } from "../options.ts";

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
export interface Rule {
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

export interface FaultState {
  readonly rules: readonly Rule[];
  readonly shared: SharedArrayBuffer;
}

// Shared words: two for hangs, then three a rule.
/** Counts releases; a hang waits while it stays. */
export const RELEASES = 0;
/** What requests answer that are let go of: 0 to go on. */
export const RELEASE_ERRNO = 1;
export const RULE_BASE = 2;
export const RULE_WORDS = 3;
export const ARMED = 0;
/** Requests that matched since the rule was armed. */
export const MATCHED = 1;
/** Requests that the rule fired on since it was armed; notified. */
export const FIRED = 2;

const kinds = ["any", "read", "write", "discard", "write-zeroes", "flush", "status"] as const;

export const faultOptions: OptionTable = {
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
};

export function readRule(rule: FaultRule, index: number): Rule {
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

export function ruleWord(index: number, field: number): number {
  return RULE_BASE + index * RULE_WORDS + field;
}
