/**
 * `throttle`: a decorator that limits bytes and requests a second, over all threads together.
 *
 * It never waits itself: `admit` says how long the caller should, so that a guest waits outside of its gate and asks
 * again. A request that is let through is charged whole; one that is larger than the burst runs up a debt that those
 * after it wait for, as in QEMU's throttle groups.
 *
 * A limit is one shared word: the time, on the clock that all threads share, at which all that was charged is paid for
 * (int64 nanoseconds; a number would round after 104 days of uptime). A request may start while that time is at most
 * the burst's worth ahead of now, and moves it by its cost with a compare-exchange: no lock that a dying thread could
 * keep. Two threads that look at once may both pass; both are charged, so the rate holds and the burst may be exceeded
 * by a request a thread. A BigInt is allocated per request, which a node that is slowed down on purpose can afford.
 */
import assert from "node:assert/strict";
import { BlockError } from "../block-error.ts";
import type {
  BlockNode,
  Driver,
  Errno,
  NodeHandle,
  NodeSpec,
  OpenContext,
  RequestKind,
  StatusExtent,
} from "../node.ts";
import { loadSharedInteger, SHARED_INTEGER_WORDS, storeSharedInteger } from "../shared-integer.ts";

/** 0 or not given: no limit. A burst that is not given is worth 100 ms. */
export interface ThrottleLimits {
  readonly bytesPerSecond?: number;
  readonly requestsPerSecond?: number;
  /** What may pass at once after a quiet time. */
  readonly burstBytes?: number;
  readonly burstRequests?: number;
}

interface ThrottleState {
  /** Two int64: paid-for times of bytes and of requests. */
  readonly paid: SharedArrayBuffer;
  /** Four shared integers in the order of `limitNames`. */
  readonly limits: SharedArrayBuffer;
}

const limitNames = ["bytesPerSecond", "requestsPerSecond", "burstBytes", "burstRequests"] as const;
const PAID_BYTES = 0;
const PAID_REQUESTS = 1;
const NS_PER_SECOND = 1_000_000_000;
/** The default burst is rate / 10. */
const DEFAULT_BURST_DIVISOR = 10;
const INTERVAL_MS_MAX = 2 ** 31 - 1;

export const throttle: Driver = {
  options: {
    file: { type: "node", required: true, doc: "the node that is decorated" },
    bytesPerSecond: { type: "integer", default: 0, doc: "0: no limit" },
    requestsPerSecond: { type: "integer", default: 0, doc: "0: no limit" },
    burstBytes: { type: "integer", doc: "bytes that may pass at once after a quiet time; 100 ms worth by default" },
    burstRequests: { type: "integer", doc: "requests that may pass at once; 100 ms worth by default" },
  },
  open: openThrottle,
  connect: (handle, context) => new ThrottleNode(context.connect(handle.children[0]), handle.state as ThrottleState),
  close: (handle, context) => context.close(handle.children[0]),
};

function openThrottle(options: Record<string, unknown>, context: OpenContext): NodeHandle {
  const { file, ...limits } = options as unknown as ThrottleLimits & { file: NodeSpec };
  const state: ThrottleState = {
    paid: new SharedArrayBuffer(2 * 8),
    limits: new SharedArrayBuffer(limitNames.length * SHARED_INTEGER_WORDS * 4),
  };
  storeLimits(state, limits);
  const child = context.open(file);
  const { readOnly, alignment, clusterSize, identity } = child;
  return { driver: "throttle", readOnly, alignment, clusterSize, identity, state, children: [child] };
}

/**
 * Changes the limits for all threads. What was charged before is forgotten, so that a higher limit helps at once.
 *
 * @throws BlockError ERR_NODE_OPTION for a limit that is not an integer of at least 0.
 * @example setThrottle(handle, { bytesPerSecond: 50e6 })
 */
export function setThrottle(handle: NodeHandle, limits: ThrottleLimits): void {
  assert.equal(handle.driver, "throttle", "expected the handle of a throttle node");
  for (const name of limitNames) {
    const value = limits[name];
    if (value === undefined || (Number.isSafeInteger(value) && value >= 0)) continue;
    const message = `set throttle: '${name}' must be an integer of at least 0, not ${value}`;
    throw new BlockError("ERR_NODE_OPTION", message, { node: "throttle" });
  }
  storeLimits(handle.state as ThrottleState, limits);
}

function storeLimits(state: ThrottleState, limits: ThrottleLimits): void {
  const words = new Int32Array(state.limits);
  const { bytesPerSecond = 0, requestsPerSecond = 0 } = limits;
  const burstBytes = limits.burstBytes ?? Math.ceil(bytesPerSecond / DEFAULT_BURST_DIVISOR);
  const burstRequests = limits.burstRequests ?? Math.ceil(requestsPerSecond / DEFAULT_BURST_DIVISOR);
  [bytesPerSecond, requestsPerSecond, burstBytes, burstRequests].forEach((value, index) =>
    storeSharedInteger(words, index * SHARED_INTEGER_WORDS, value),
  );
  const paid = new BigInt64Array(state.paid);
  Atomics.store(paid, PAID_BYTES, 0n);
  Atomics.store(paid, PAID_REQUESTS, 0n);
}

class ThrottleNode implements BlockNode {
  /** A kernel copy that nobody asked admission for would pass the limits by. */
  readonly direct = undefined;
  readonly readNow: BlockNode["readNow"];
  readonly writeZeroesFast: BlockNode["writeZeroesFast"];
  readonly zeroesFrom: BlockNode["zeroesFrom"];
  readonly #child: BlockNode;
  readonly #limits: Int32Array;
  readonly #paid: BigInt64Array;

  constructor(child: BlockNode, state: ThrottleState) {
    this.#child = child;
    this.#limits = new Int32Array(state.limits);
    this.#paid = new BigInt64Array(state.paid);
    this.readNow = child.readNow?.bind(child);
    this.writeZeroesFast = child.writeZeroesFast?.bind(child);
    this.zeroesFrom = child.zeroesFrom?.bind(child);
  }

  length(): number {
    return this.#child.length();
  }

  read(buffer: Uint8Array, offset: number): Errno {
    return this.#child.read(buffer, offset);
  }

  write(buffer: Uint8Array, offset: number): Errno {
    return this.#child.write(buffer, offset);
  }

  discard(offset: number, length: number): Errno {
    return this.#child.discard(offset, length);
  }

  writeZeroes(offset: number, length: number, unmap: boolean): Errno {
    return this.#child.writeZeroes(offset, length, unmap);
  }

  flush(): Errno {
    return this.#child.flush();
  }

  status(offset: number, length: number, extent: StatusExtent): Errno {
    return this.#child.status(offset, length, extent);
  }

  resize(length: number): Errno {
    return this.#child.resize(length);
  }

  /** Flushes and status are free. */
  admit(kind: RequestKind, length: number): number {
    if (kind === "flush" || kind === "status") return this.#child.admit(kind, length);
    const bytesPerSecond = this.#limit(0);
    const requestsPerSecond = this.#limit(1);
    // hrtime is the one monotonic clock that has the same origin on every thread.
    const now = process.hrtime.bigint();
    const wait = Math.max(
      bytesPerSecond === 0 ? 0 : this.#wait(PAID_BYTES, now, costNs(this.#limit(2), bytesPerSecond)),
      requestsPerSecond === 0 ? 0 : this.#wait(PAID_REQUESTS, now, costNs(this.#limit(3), requestsPerSecond)),
    );
    if (wait > 0) return wait;
    const below = this.#child.admit(kind, length);
    if (below > 0) return below;
    if (bytesPerSecond > 0) this.#charge(PAID_BYTES, now, costNs(length, bytesPerSecond));
    if (requestsPerSecond > 0) this.#charge(PAID_REQUESTS, now, costNs(1, requestsPerSecond));
    return 0;
  }

  #limit(index: number): number {
    return loadSharedInteger(this.#limits, index * SHARED_INTEGER_WORDS);
  }

  /** Milliseconds until the paid-for time is at most the burst ahead. */
  #wait(word: number, now: bigint, burstNs: bigint): number {
    const ahead = Atomics.load(this.#paid, word) - now - burstNs;
    return ahead <= 0n ? 0 : Math.min(Math.ceil(Number(ahead) / 1e6), INTERVAL_MS_MAX);
  }

  #charge(word: number, now: bigint, cost: bigint): void {
    for (;;) {
      const paid = Atomics.load(this.#paid, word);
      const next = (paid > now ? paid : now) + cost;
      if (Atomics.compareExchange(this.#paid, word, paid, next) === paid) return;
    }
  }
}

/** At most 3 years, so that no sum passes int64. */
const COST_NS_MAX = 1e17;

function costNs(amount: number, perSecond: number): bigint {
  return BigInt(Math.min(Math.round((amount * NS_PER_SECOND) / perSecond), COST_NS_MAX));
}
