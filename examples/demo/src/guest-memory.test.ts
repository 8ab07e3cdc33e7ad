import fc from "fast-check";
import { expect, test } from "vitest";
import { duringBackup, GuestMemory, idle } from "./guest-memory.ts";

test("figures are those of all guests in that phase, percentiles at most 5 % too large", () => {
  const latency = fc.double({ min: 1e-5, max: 1e5, noNaN: true });
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat({ max: 2 }), latency), { minLength: 1, maxLength: 300 }), (requests) => {
      const memory = new GuestMemory(3);
      for (const [guest, milliseconds] of requests)
        new GuestMemory(3, memory.buffer).count(guest, idle, 0, milliseconds, 10);
      memory.count(0, duringBackup, 0, 1e6, 1);
      const sorted = requests.map(([, milliseconds]) => milliseconds).sort((a, b) => a - b);
      const exact = (share: number): number => sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)];
      const { p50, p99, max, bytes, requests: counted } = memory.figures([idle]);
      expect({ counted, bytes, max }).toEqual({
        counted: requests.length,
        bytes: requests.length * 10,
        max: sorted.at(-1),
      });
      for (const [found, share] of [
        [p50, 0.5],
        [p99, 0.99],
      ] as const) {
        expect(found).toBeGreaterThanOrEqual(exact(share) * 0.999999);
        expect(found).toBeLessThanOrEqual(exact(share) * 1.05);
      }
    }),
  );
});

test("only what a request shares with shadow copies is taken out of its latency", () => {
  const memory = new GuestMemory(1);
  memory.observed(100, 200);
  memory.observed(300, 310);
  const cases: [begin: number, end: number, shared: number][] = [
    [0, 50, 0],
    [0, 150, 50],
    [120, 130, 10],
    [150, 305, 55],
    [0, 400, 110],
    [200, 300, 0],
    [311, 400, 0],
  ];
  for (const [begin, end, shared] of cases)
    expect(memory.observedWithin(begin, end), `${begin} to ${end}`).toBe(shared);
});
