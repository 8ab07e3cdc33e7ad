/** Guests of a throttle group on a clock of the test's own: what each of them gets is exact. */
import { GroupMember, type GroupLimit, joinGroup, makeThrottleGroup, setGroupLimits } from "@heirloom/block";
import { expect, test } from "vitest";

const NS_PER_MS = 1_000_000n;

interface Guest {
  /** Requests under way at once. */
  readonly depth: number;
  readonly reads?: boolean;
  readonly bytes?: number;
  /** Milliseconds between an answer and the next request. */
  readonly thinks?: number;
  readonly from?: number;
  readonly to?: number;
}

/** A request that is sent, or asks again, at `at`. */
interface Request {
  at: number;
  readonly guest: number;
}

/** @returns requests of each guest in [from, to) milliseconds. Who asks at the same time does so in another order each time. */
function simulate(
  limits: readonly GroupLimit[],
  guests: readonly Guest[],
  { from, to }: { readonly from: number; readonly to: number },
  bytesPerRequest = 0,
): number[] {
  let nowMs = 0;
  const now = (): bigint => 10n ** 15n + BigInt(Math.round(nowMs * 1000)) * (NS_PER_MS / 1000n);
  const memory = makeThrottleGroup(8);
  setGroupLimits(memory, limits, bytesPerRequest);
  const members = guests.map(() => new GroupMember(memory, joinGroup(memory), now));
  const queue: Request[] = guests.flatMap(({ depth, from: begins = 0 }, guest) =>
    Array.from({ length: depth }, () => ({ at: begins, guest })),
  );
  const counts = guests.map(() => 0);
  for (let step = 0; ; step++) {
    let request = queue[step % queue.length];
    for (const other of queue) if (other.at < request.at) request = other;
    nowMs = Math.max(nowMs, request.at);
    if (nowMs >= to) return counts;
    const { reads = false, bytes = 512, thinks = 0.01, to: leaves = Infinity } = guests[request.guest];
    const wait = members[request.guest].wait(reads, bytes);
    if (wait > 0) request.at = nowMs + wait;
    else {
      members[request.guest].charge(reads, bytes);
      if (nowMs >= from) counts[request.guest]++;
      request.at = nowMs + thinks;
    }
    if (nowMs >= leaves) request.at = Infinity;
  }
}

const requests = (perSecond: number): GroupLimit[] => [{ unit: "requests", of: "all", perSecond }];
const later = { from: 1000, to: 11_000 };

function near(rates: readonly number[], expected: readonly number[]): void {
  rates.forEach((rate, index) => {
    expect(rate, `of ${rates.join(", ")}`).toBeGreaterThan(expected[index] * 0.95 - 2);
    expect(rate, `of ${rates.join(", ")}`).toBeLessThan(expected[index] * 1.05 + 2);
  });
}

test("a guest alone has all of the budget, and one that asks for less leaves the rest", () => {
  near(simulate(requests(200), [{ depth: 4 }, { depth: 0 }], later), [2000, 0]);
  // 20 a second of its own accord; the others share what is left.
  near(simulate(requests(200), [{ depth: 1, thinks: 50 }, { depth: 4 }, { depth: 1 }], later), [190, 905, 905]);
});

test.for([20, 200, 5000, 20_000])("guests that wait go on in turns at %d requests a second", (perSecond) => {
  const to = 1000 + Math.min(10_000, 5e6 / perSecond);
  const all = (perSecond * (to - 1000)) / 1000;
  const found = simulate(requests(perSecond), [{ depth: 16 }, { depth: 16 }, { depth: 16 }], { from: 1000, to });
  near(found, [all / 3, all / 3, all / 3]);
  const [few, many] = simulate(requests(perSecond), [{ depth: 4 }, { depth: 32 }], { from: 1000, to });
  expect(many / few).toBeLessThan(1.6);
  near([few + many], [all]);
});

test("one at a time against many: a request waits for one of each other guest", () => {
  near(simulate(requests(200), [{ depth: 1 }, { depth: 12 }, { depth: 3 }], later), [667, 667, 667]);
});

test("a turn is a request, however large", () => {
  const limit: GroupLimit = { unit: "bytes", of: "all", perSecond: 2 ** 20 };
  const each = (10 * 2 ** 20) / (4096 + 65536);
  near(
    simulate(
      [limit],
      [
        { depth: 4, bytes: 4096 },
        { depth: 4, bytes: 65536 },
      ],
      later,
    ),
    [each, each],
  );
});

test("who comes back has no more than its turn: it has saved nothing up", () => {
  const guests = [{ depth: 4, from: 10_000 }, { depth: 4 }];
  near(simulate(requests(200), guests, { from: 10_000, to: 20_000 }), [1000, 1000]);
});

test("who leaves while it waits holds nobody up", () => {
  near(simulate(requests(200), [{ depth: 8, to: 500 }, { depth: 4 }], later), [0, 2000]);
});

test("reads and writes have limits and turns of their own", () => {
  const limits: GroupLimit[] = [
    { unit: "requests", of: "read", perSecond: 80 },
    { unit: "requests", of: "write", perSecond: 160 },
  ];
  const guests = [{ depth: 2, reads: true }, { depth: 2 }, { depth: 8 }];
  near(simulate(limits, guests, later), [800, 800, 800]);
});

test("a request of more than a given length counts for several", () => {
  near(simulate(requests(200), [{ depth: 4, bytes: 16384 }], later, 4096), [500]);
});

test("a burst passes at once, or at its own rate where that is limited", () => {
  const [limit] = requests(100);
  const first = { from: 0, to: 1000 };
  near(simulate([{ ...limit, burst: 1000 }], [{ depth: 4 }], first), [1100]);
  // 300 a second for as long as there is burst left: 1000 / (300 - 100) = 5 s.
  const limited = [{ ...limit, burst: 1000, peak: 300 }];
  near(simulate(limited, [{ depth: 4 }], { from: 1000, to: 4000 }), [900]);
  near(simulate(limited, [{ depth: 4 }], { from: 6000, to: 9000 }), [300]);
});
