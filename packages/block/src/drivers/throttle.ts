/**
 * `throttle`: a decorator that limits bytes and requests a second, over all threads together, by itself or with the other nodes
 * of a group (throttle-group.ts).
 *
 * It never waits itself: `admit` says how long the caller should, so that a guest waits outside of its gate and asks
 * again. A request that is let through is charged whole.
 */
import assert from "node:assert/strict";
import { BlockError } from "../block-error.ts";
import type { BlockNode, Driver, NodeHandle, NodeSpec, OpenContext, RequestKind } from "../node.ts";
import { DecoratedNode, decoratedHandle } from "./decorated-node.ts";
import {
  type GroupLimit,
  GROUP_MEMBERS_MAX,
  GroupMember,
  joinGroup,
  leaveGroup,
  makeThrottleGroup,
  setGroupLimits,
} from "./throttle-group.ts";

/** 0 or not given: no limit. A burst that is not given is worth 100 ms. */
export interface ThrottleLimits {
  readonly bytesPerSecond?: number;
  readonly requestsPerSecond?: number;
  /** What may pass at once after a quiet time. */
  readonly burstBytes?: number;
  readonly burstRequests?: number;
}

interface ThrottleOptions extends ThrottleLimits {
  readonly file: NodeSpec;
  readonly group?: SharedArrayBuffer;
}

interface ThrottleState {
  readonly group: SharedArrayBuffer;
  readonly member: number;
}

const limitNames = ["bytesPerSecond", "requestsPerSecond", "burstBytes", "burstRequests"] as const;

export const throttle: Driver = {
  options: {
    file: { type: "node", required: true, doc: "the node that is decorated" },
    bytesPerSecond: { type: "integer", default: 0, doc: "0: no limit" },
    requestsPerSecond: { type: "integer", default: 0, doc: "0: no limit" },
    burstBytes: { type: "integer", doc: "bytes that may pass at once after a quiet time; 100 ms worth by default" },
    burstRequests: { type: "integer", doc: "requests that may pass at once; 100 ms worth by default" },
    group: {
      type: "memory",
      doc: "a group (`makeThrottleGroup`) whose limits it shares; instead of limits of its own",
    },
  },
  open: openThrottle,
  connect: (handle, context) => new ThrottleNode(context.connect(handle.children[0]), handle.state as ThrottleState),
  close: (handle, context) => {
    const { group, member } = handle.state as ThrottleState;
    leaveGroup(group, member);
    context.close(handle.children[0]);
  },
};

function openThrottle(options: Record<string, unknown>, context: OpenContext): NodeHandle {
  const { file, group: shared, ...limits } = options as unknown as ThrottleOptions;
  const group = shared ?? makeThrottleGroup(1);
  if (shared === undefined) setGroupLimits(group, asGroupLimits(limits));
  const child = context.open(file);
  const member = joinGroup(group);
  if (member === -1) {
    context.close(child);
    const message = `open throttle: the group has ${GROUP_MEMBERS_MAX} nodes, the most that it can have`;
    throw new BlockError("ERR_NODE_OPTION", message, { node: "throttle" });
  }
  const state: ThrottleState = { group, member };
  return decoratedHandle("throttle", child, state);
}

/**
 * Changes the limits for all threads, and for all nodes of its group. What was charged before is forgotten, so that a higher limit helps at once.
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
  setGroupLimits((handle.state as ThrottleState).group, asGroupLimits(limits));
}

function asGroupLimits(limits: ThrottleLimits): GroupLimit[] {
  const { bytesPerSecond = 0, requestsPerSecond = 0, burstBytes, burstRequests } = limits;
  return [
    { unit: "bytes", of: "all", perSecond: bytesPerSecond, ...(burstBytes === undefined ? {} : { burst: burstBytes }) },
    {
      unit: "requests",
      of: "all",
      perSecond: requestsPerSecond,
      ...(burstRequests === undefined ? {} : { burst: burstRequests }),
    },
  ];
}

class ThrottleNode extends DecoratedNode {
  // What asked for admission may go on at once.
  readonly readNow: BlockNode["readNow"];
  readonly writeZeroesFast: BlockNode["writeZeroesFast"];
  readonly zeroesFrom: BlockNode["zeroesFrom"];
  readonly #member: GroupMember;

  constructor(child: BlockNode, { group, member }: ThrottleState) {
    super(child);
    this.#member = new GroupMember(group, member);
    this.readNow = child.readNow?.bind(child);
    this.writeZeroesFast = child.writeZeroesFast?.bind(child);
    this.zeroesFrom = child.zeroesFrom?.bind(child);
  }

  /** Flushes and status are free. */
  override admit(kind: RequestKind, length: number): number {
    if (kind === "flush" || kind === "status") return this.child.admit(kind, length);
    const reads = kind === "read";
    const wait = this.#member.wait(reads, length) || this.child.admit(kind, length);
    if (wait === 0) this.#member.charge(reads, length);
    return wait;
  }
}
