/**
 * Rules of `blkdebug`: what they say, and the one word in which it stands how far they are.
 *
 * A rule of either kind is looked at when its event is announced and the state is its own. Those that inject errors are then
 * *active*, in the place of whatever was active, until another event finds some; those that set the state have it changed.
 * The state is 1 at the start, and the event `none` is announced once, then.
 */
import type { Errno, RequestKind } from "../node.ts";
import type { OptionTable } from "../options.ts";

/** What nodes announce. QEMU's format drivers have more: nobody announces those here. */
export const blkdebugEvents = [
  "none",
  "read_aio",
  "write_aio",
  "flush_to_os",
  "flush_to_disk",
  "pwritev",
  "pwritev_zero",
  "pwritev_done",
] as const;
export type BlkdebugEvent = (typeof blkdebugEvents)[number];

/** While it is active, requests of its kind fail. */
export interface InjectError {
  readonly event: BlkdebugEvent;
  /** 0, or not given: in every state. */
  readonly state?: number;
  /** All but `status` where not given. */
  readonly kind?: RequestKind;
  readonly error: string | number;
  /** Only requests that touch this byte; a flush touches none. */
  readonly offset?: number;
  /** The first time only. */
  readonly once?: boolean;
}

export interface SetState {
  readonly event: BlkdebugEvent;
  readonly state?: number;
  readonly newState: number;
}

/** Both lists as they lie in the handle, errors as numbers. */
export interface BlkdebugRules {
  readonly injectError: ReadonlyArray<InjectError & { readonly error: Errno }>;
  readonly setState: readonly SetState[];
}

const STATE_BITS = 16;
/** Active rules and those that are spent share the word with the state, so that one exchange changes all of it. */
export const INJECT_RULES_MAX = 24;
export const STATE_MAX: number = 2 ** STATE_BITS - 1;
const kinds = ["read", "write", "discard", "write-zeroes", "flush", "status"] as const;

export const blkdebugOptions: OptionTable = {
  file: { type: "node", required: true, doc: "the node that is decorated" },
  injectError: {
    type: "list",
    required: true,
    doc: "what fails, and when",
    fields: {
      event: { type: "choice", values: blkdebugEvents, required: true, doc: "what makes it active" },
      state: { type: "integer", max: STATE_MAX, doc: "only in this state; 0: in any" },
      kind: { type: "choice", values: kinds, doc: "requests that fail; all but status by default" },
      error: { type: "errno", required: true, doc: "what they answer" },
      offset: { type: "integer", doc: "only those that touch this byte" },
      once: { type: "boolean", doc: "the first time only" },
    },
  },
  setState: {
    type: "list",
    required: true,
    doc: "changes of state",
    fields: {
      event: { type: "choice", values: blkdebugEvents, required: true, doc: "what changes it" },
      state: { type: "integer", max: STATE_MAX, doc: "only in this state; 0: in any" },
      newState: { type: "integer", max: STATE_MAX, required: true, doc: "the state after it" },
    },
  },
};

/** State, active rules and spent rules, as they are packed in the word. */
interface Standing {
  readonly state: number;
  readonly active: number;
  readonly spent: number;
}

export const atStart: bigint = pack({ state: 1, active: 0, spent: 0 });

function pack({ state, active, spent }: Standing): bigint {
  return (
    BigInt(state) | (BigInt(active) << BigInt(STATE_BITS)) | (BigInt(spent) << BigInt(STATE_BITS + INJECT_RULES_MAX))
  );
}

function unpack(word: bigint): Standing {
  const mask = 2n ** BigInt(INJECT_RULES_MAX) - 1n;
  return {
    state: Number(word & BigInt(STATE_MAX)),
    active: Number((word >> BigInt(STATE_BITS)) & mask),
    spent: Number((BigInt.asUintN(64, word) >> BigInt(STATE_BITS + INJECT_RULES_MAX)) & mask),
  };
}

/** What an event makes of the word. */
export function afterEvent(word: bigint, { injectError, setState }: BlkdebugRules, event: BlkdebugEvent): bigint {
  const { state, active, spent } = unpack(word);
  const applies = (rule: { readonly event: BlkdebugEvent; readonly state?: number }): boolean =>
    rule.event === event && (rule.state === undefined || rule.state === 0 || rule.state === state);
  let found = 0;
  injectError.forEach((rule, index) => {
    if (applies(rule) && (spent & (1 << index)) === 0) found |= 1 << index;
  });
  // Of several the first one that was given holds.
  const next = setState.find(applies)?.newState ?? state;
  return pack({ state: next, active: found === 0 ? active : found, spent });
}

/** The rule that a request meets, and the word without it where it holds only once. */
export function ruleFor(
  word: bigint,
  rules: BlkdebugRules["injectError"],
  request: { readonly kind: RequestKind; readonly offset: number; readonly length: number },
): { readonly error: Errno; readonly after: bigint } | undefined {
  const standing = unpack(word);
  if (standing.active === 0) return undefined;
  const index = rules.findIndex((rule, at) => (standing.active & (1 << at)) !== 0 && meets(rule, request));
  if (index < 0) return undefined;
  const { error, once } = rules[index];
  if (once !== true) return { error, after: word };
  const bit = 1 << index;
  return { error, after: pack({ ...standing, active: standing.active & ~bit, spent: standing.spent | bit }) };
}

function meets(
  rule: InjectError,
  { kind, offset, length }: { readonly kind: RequestKind; readonly offset: number; readonly length: number },
): boolean {
  if (rule.kind === undefined ? kind === "status" : rule.kind !== kind) return false;
  return rule.offset === undefined || (rule.offset >= offset && rule.offset < offset + length);
}
