/** Limits of throttle groups, as nodes are opened with them. */
import { type Disk } from "@heirloom/runtime";
import { setThrottle, type ThrottleLimits as NodeLimits } from "@heirloom/block";
import type { ThrottleLimits } from "../generated/qmp-types.ts";
import { QmpError } from "../qmp-error.ts";

const limitMax = 1e15;
const kinds = ["iops", "bps"] as const;

/** Every limit, as queries show it. */
export type FullLimits = { readonly [Name in keyof ThrottleLimits]-?: number };

const names = kinds.flatMap((kind) =>
  ["total", "read", "write"].flatMap((way) => [`${kind}-${way}`, `${kind}-${way}-max`, `${kind}-${way}-max-length`]),
);

export const noLimits: FullLimits = {
  ...Object.fromEntries(names.map((name) => [name, name.endsWith("-length") ? 1 : 0])),
  "iops-size": 0,
} as FullLimits;

export class ThrottleGroups {
  readonly #groups = new Map<string, { limits: FullLimits; readonly members: Set<Disk> }>();

  /** @throws QmpError */
  add(id: string, limits: ThrottleLimits): void {
    this.#groups.set(id, { limits: checkLimits({ ...noLimits, ...limits }), members: new Set() });
  }

  remove(id: string): void {
    this.#groups.delete(id);
  }

  get(id: string): FullLimits | undefined {
    return this.#groups.get(id)?.limits;
  }

  /** Changes what is given; nodes that are open follow. @throws QmpError */
  change(id: string, limits: ThrottleLimits): void {
    const group = this.#group(id);
    group.limits = checkLimits({ ...group.limits, ...limits });
    for (const disk of group.members) setThrottle(disk.node, nodeLimits(group.limits, group.members.size));
  }

  /** For a node that is about to be opened. @throws QmpError where there is no such group */
  limits(id: string): NodeLimits {
    return nodeLimits(this.#group(id).limits, 1);
  }

  isUsed(id: string): boolean {
    return (this.#groups.get(id)?.members.size ?? 0) > 0;
  }

  join(id: string, disk: Disk): void {
    this.#group(id).members.add(disk);
    this.change(id, {});
  }
  leave(id: string, disk: Disk): void {
    const group = this.#groups.get(id);
    if (group?.members.delete(disk) === true) this.change(id, {});
  }

  #group(id: string): { limits: FullLimits; readonly members: Set<Disk> } {
    const group = this.#groups.get(id);
    if (group === undefined) throw new QmpError(`Throttle group '${id}' does not exist`);
    return group;
  }
}

/**
 * A node has limits over all of its requests, and shares none with another: each member of a group has its part of the
 * group's limit, and the narrower of what reads and writes may is what both may. It is never more than was asked for.
 */
function nodeLimits(limits: FullLimits, members: number): NodeLimits {
  const part = (kind: "iops" | "bps", suffix: "" | "-max"): number => {
    const given = (["total", "read", "write"] as const)
      .map((way) => limits[`${kind}-${way}${suffix}`])
      .filter((value) => value > 0);
    return given.length === 0 ? 0 : Math.max(1, Math.floor(Math.min(...given) / members));
  };
  const bytes = part("bps", "");
  const requests = part("iops", "");
  const burstBytes = part("bps", "-max");
  const burstRequests = part("iops", "-max");
  return {
    bytesPerSecond: bytes,
    requestsPerSecond: requests,
    ...(burstBytes === 0 ? {} : { burstBytes }),
    ...(burstRequests === 0 ? {} : { burstRequests }),
  };
}

function checkLimits(limits: FullLimits): FullLimits {
  for (const kind of kinds) {
    for (const suffix of ["", "-max"] as const) {
      const [total, read, write] = (["total", "read", "write"] as const).map(
        (way) => limits[`${kind}-${way}${suffix}`],
      );
      if (total !== 0 && (read !== 0 || write !== 0)) {
        throw new QmpError(`bps/iops/max total values and read/write values cannot be used at the same time`);
      }
    }
  }
  for (const [name, value] of Object.entries(limits)) {
    if (name.endsWith("-length")) continue;
    if (value < 0 || value > limitMax) {
      throw new QmpError(`bps/iops/max values must be within [0, ${limitMax.toFixed(0)}]`);
    }
  }
  return limits;
}
