import fc from "fast-check";
import { expect, test } from "vitest";
import { requestBytesMax, Workload } from "./workload.ts";

const areas = [
  { offset: 4096, length: 8192 },
  { offset: 1_000_001, length: 700 },
  { offset: 3 * 1024 * 1024, length: 64 * 1024 * 1024 },
];

test("a guest never writes outside the areas that it was given", () => {
  fc.assert(
    fc.property(fc.nat(), fc.nat({ max: 5 }), (seed, guest) => {
      const workload = new Workload(seed, guest, areas);
      for (let step = 0; step < 200; step++) {
        const { offset, length } = workload.next(step * 100);
        const area = areas.find((one) => offset >= one.offset && offset + length <= one.offset + one.length);
        expect(area, `offset ${offset}, length ${length}`).toBeDefined();
      }
    }),
  );
});

test("requests are of 512 bytes to 1 MiB, aligned and not, of every kind, and cross the borders of clusters", () => {
  const workload = new Workload(1, 0, areas.slice(2));
  const requests = Array.from({ length: 20_000 }, (_, step) => ({ ...workload.next(step) }));
  const lengths = requests.map(({ length }) => length);
  expect(Math.min(...lengths)).toBe(512);
  expect(Math.max(...lengths)).toBe(requestBytesMax);
  const share = (holds: (request: (typeof requests)[number]) => boolean): number =>
    requests.filter(holds).length / requests.length;
  expect(share(({ offset }) => offset % 4096 === 0)).toBeGreaterThan(0.4);
  expect(share(({ offset }) => offset % 4096 !== 0 && offset % 512 === 0)).toBeGreaterThan(0.2);
  expect(share(({ offset }) => offset % 512 !== 0)).toBeGreaterThan(0.1);
  expect(
    share(({ offset, length }) => Math.floor(offset / 65_536) !== Math.floor((offset + length - 1) / 65_536)),
  ).toBeGreaterThan(0.1);
  for (const kind of [0, 1, 2]) expect(share((request) => request.kind === kind)).toBeGreaterThan(0.02);
});

test("two guests of a pair meet in one window, and what changes in a second is a part of the disk", () => {
  const [one, other, stranger] = [0, 1, 2].map((guest) => new Workload(5, guest, areas.slice(2)));
  const places = (workload: Workload): number[] => Array.from({ length: 500 }, (_, ms) => workload.next(ms * 2).offset);
  const [first, second, third] = [places(one), places(other), places(stranger)];
  const clusters = (offsets: number[]): Set<number> => new Set(offsets.map((offset) => Math.floor(offset / 65_536)));
  const shared = [...clusters(first)].filter((cluster) => clusters(second).has(cluster)).length;
  expect(shared).toBeGreaterThan(clusters(first).size / 3);
  expect(clusters(first).size).toBeLessThan((4 * 2 * 1024 * 1024) / 65_536);
  expect(third).not.toEqual(first);
});
