/** Limits of throttle groups, as nodes are opened with them. */
import { type Disk } from "@heirloom/runtime";
import { type GroupLimit, makeThrottleGroup, setGroupLimits } from "@heirloom/block";
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

interface Group {
  limits: FullLimits;
  /** What its nodes share, over all threads. */
  readonly memory: SharedArrayBuffer;
  readonly members: Set<Disk>;
}

export class ThrottleGroups {
  readonly #groups = new Map<string, Group>();

  /** @throws QmpError */
  add(id: string, limits: ThrottleLimits): void {
    const full = checkLimits({ ...noLimits, ...limits });
    this.#groups.set(id, { limits: full, memory: makeThrottleGroup(), members: new Set() });
    this.change(id, {});
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
    setGroupLimits(group.memory, groupLimits(group.limits), group.limits["iops-size"]);
  }

  /** For a node that is about to be opened. @throws QmpError where there is no such group */
  memory(id: string): SharedArrayBuffer {
    return this.#group(id).memory;
  }

  isUsed(id: string): boolean {
    return (this.#groups.get(id)?.members.size ?? 0) > 0;
  }

  join(id: string, disk: Disk): void {
    this.#group(id).members.add(disk);
  }
  leave(id: string, disk: Disk): void {
    this.#groups.get(id)?.members.delete(disk);
  }

  #group(id: string): Group {
    const group = this.#groups.get(id);
    if (group === undefined) throw new QmpError(`Throttle group '${id}' does not exist`);
    return group;
  }
}

const ways = { total: "all", read: "read", write: "write" } as const;

/** A burst may last for some seconds at its own rate; where that is one second it is only how much passes at once. */
function groupLimits(limits: FullLimits): GroupLimit[] {
  return kinds.flatMap((kind) =>
    (["total", "read", "write"] as const).map((way): GroupLimit => {
      const most = limits[`${kind}-${way}-max`];
      const seconds = limits[`${kind}-${way}-max-length`];
      return {
        unit: kind === "bps" ? "bytes" : "requests",
        of: ways[way],
        perSecond: limits[`${kind}-${way}`],
        ...(most === 0 ? {} : { burst: Math.min(most * seconds, Number.MAX_SAFE_INTEGER) }),
        peak: seconds > 1 ? most : 0,
      };
    }),
  );
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
