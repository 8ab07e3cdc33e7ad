import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { copiedRanges } from "@heirloom/engine";
import { Arenas } from "../dist/arena.js";
import { gateBytes } from "../dist/gate-layout.js";
import { foldUncopied } from "../dist/folding.js";
import { cursorWord, jobWords } from "../dist/job-layout.js";
import { maskOf } from "../dist/masks.js";
import { Recorder } from "../dist/recorder.js";
import { passAgain, takeRun } from "../dist/runs.js";
import type { View } from "../dist/view.js";
import { ViewMemory, viewRefusal } from "../dist/view-memory.js";
import { nextInSet, nextMissing, nextNeeded } from "../dist/view-scan.js";

const claimBytesMax = 256 * 1024;

interface Given {
  readonly length: number;
  readonly clusterSize: number;
  /** 0: the view is of all clusters. */
  readonly granularity: number;
  readonly dirty: ReadonlyArray<readonly [number, number]>;
  readonly preserved: readonly number[];
  readonly copying: readonly number[];
  readonly copied: readonly number[];
  readonly retired: readonly number[];
}

const places = fc.array(fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }), { maxLength: 40 });
const given: fc.Arbitrary<Given> = fc
  .record({
    length: fc.oneof(
      fc.integer({ min: 1, max: 3 * 2 ** 20 }),
      fc.constantFrom(4096, 2 ** 20, 2 ** 20 + 1, 2 ** 21 - 512),
    ),
    clusterSize: fc.constantFrom(4096, 16384, 65536, 262144, 2 ** 21),
    granularity: fc.constantFrom(0, 512, 4096, 65536, 131072, 2 ** 22, 2 ** 31),
    dirty: fc.array(
      fc.tuple(fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }), fc.integer({ min: 1, max: 300_000 })),
      { maxLength: 6 },
    ),
    preserved: places,
    copying: places,
    copied: places,
    retired: places,
  })
  .map(({ length, dirty, preserved, copying, copied, retired, ...rest }) => {
    const at = (list: number[]): number[] => list.map((place) => Math.floor(place * Math.ceil(length / 4096)));
    return {
      ...rest,
      length,
      dirty: dirty.map(([place, size]) => [Math.floor(place * length), size] as const),
      preserved: at(preserved),
      copying: at(copying),
      copied: at(copied),
      retired: at(retired),
    };
  });

function optionsOf(
  arenas: Arenas,
  one: Pick<Given, "length" | "clusterSize">,
): ConstructorParameters<typeof ViewMemory>[1] {
  return {
    length: one.length,
    gate: arenas.allocate(gateBytes),
    clusterSize: one.clusterSize,
    alignment: 1,
    guestDelayMaxMs: 1,
    breakGuestWrite: false,
    spillMemory: 4096,
    spillFile: 0,
  };
}

function build(one: Given): {
  view: View;
  inSet: boolean[];
  has: Record<"preserved" | "copying" | "copied" | "retired", boolean[]>;
} {
  const arenas = new Arenas(() => {});
  const set = one.granularity === 0 ? undefined : Recorder.create(arenas, one.length, one.granularity);
  for (const [offset, size] of one.dirty) set?.bitmap.set(offset, Math.min(size, one.length - offset));
  const { view } = new ViewMemory(arenas, optionsOf(arenas, one), set);
  // The model: byte by byte of a granule, cluster by cluster of a unit.
  const inSet = Array.from({ length: view.clusters }, (_, cluster) => {
    if (set === undefined) return true;
    const unit = Math.floor((cluster * view.clusterSize) / one.clusterSize) * one.clusterSize;
    for (let offset = unit; offset < Math.min(unit + one.clusterSize, one.length); offset += 512)
      if (set.bitmap.test(offset)) return true;
    return false;
  });
  const has = {
    preserved: [] as boolean[],
    copying: [] as boolean[],
    copied: [] as boolean[],
    retired: [] as boolean[],
  };
  for (const name of ["preserved", "copying", "copied", "retired"] as const) {
    has[name] = Array.from({ length: view.clusters }, () => false);
    for (const cluster of one[name]) {
      if (cluster >= view.clusters) continue;
      has[name][cluster] = true;
      Atomics.or(view[name], cluster >>> 5, 1 << (cluster & 31));
    }
  }
  return { view, inSet, has };
}

describe("clusters of a view", () => {
  it("are never larger than one claim, nor than the job's, and whole units of the set hold whole clusters (property)", () => {
    fc.assert(
      fc.property(given, (one) => {
        const { view } = build(one);
        expect(view.clusterSize).toBeLessThanOrEqual(Math.min(one.clusterSize, claimBytesMax));
        expect(view.setUnit % view.clusterSize).toBe(0);
        expect(view.clusters).toBe(Math.ceil(one.length / view.clusterSize));
        expect(view.bytesOf(view.clusters - 1)).toBe(one.length - (view.clusters - 1) * view.clusterSize);
      }),
      { numRuns: 60 },
    );
  });

  it("are in the set if any byte of their unit is dirty, at every granularity (property)", () => {
    fc.assert(
      fc.property(given, (one) => {
        const { view, inSet, has } = build(one);
        expect(Array.from({ length: view.clusters }, (_, cluster) => view.inSet(cluster))).toEqual(inSet);
        const needed = inSet.map((is, cluster) => is && !has.preserved[cluster] && !has.retired[cluster]);
        expect(Array.from({ length: view.clusters }, (_, cluster) => view.needed(cluster))).toEqual(needed);
        for (let word = 0; word * 32 < view.clusters; word++) {
          const mask = view.neededOf(word, maskOf(word * 32, Math.min(view.clusters, word * 32 + 32)));
          for (let bit = 0; bit < 32 && word * 32 + bit < view.clusters; bit++)
            expect((mask & (1 << bit)) !== 0).toBe(needed[word * 32 + bit]);
        }
      }),
      { numRuns: 60 },
    );
  });

  it("are found by scans as by looking at each (property)", () => {
    fc.assert(
      fc.property(given, fc.double({ min: 0, max: 1, noNaN: true }), (one, place) => {
        const { view, inSet, has } = build(one);
        const from = Math.floor(place * view.clusters);
        const first = (is: (cluster: number) => boolean): number =>
          inSet.findIndex((_, cluster) => cluster >= from && is(cluster));
        expect(nextInSet(view, from)).toBe(first((cluster) => inSet[cluster]));
        expect(nextNeeded(view, from)).toBe(
          first(
            (cluster) => inSet[cluster] && !has.preserved[cluster] && !has.copying[cluster] && !has.retired[cluster],
          ),
        );
        expect(nextMissing(view, from)).toBe(
          first((cluster) => inSet[cluster] && !has.copied[cluster] && !has.retired[cluster]),
        );
        expect(nextInSet(view, view.clusters)).toBe(-1);
      }),
      { numRuns: 60 },
    );
  });

  it("that are on the target are told as runs of bytes up to the end of the disk (property)", () => {
    fc.assert(
      fc.property(given, (one) => {
        const { view, inSet, has } = build(one);
        const bytes = new Set<number>();
        let last = -1;
        for (const { offset, length } of copiedRanges(view)) {
          expect(offset).toBeGreaterThan(last); // runs that touch are one run
          last = offset + length;
          expect(last).toBeLessThanOrEqual(one.length);
          for (let at = offset; at < last; at += view.clusterSize) bytes.add(at / view.clusterSize);
        }
        expect([...bytes]).toEqual(inSet.flatMap((is, cluster) => (is && has.copied[cluster] ? [cluster] : [])));
      }),
      { numRuns: 60 },
    );
  });

  it("that are not on the target are folded back, rounded out to the job's cluster (property)", () => {
    fc.assert(
      fc.property(given, (one) => {
        const { view, inSet, has } = build(one);
        const into = Recorder.create(new Arenas(() => {}), one.length, 512).bitmap;
        foldUncopied(into, view, view.copied.slice());
        const units = new Set(
          inSet.flatMap((is, cluster) =>
            is && !has.copied[cluster] && !has.retired[cluster]
              ? [Math.floor((cluster * view.clusterSize) / one.clusterSize)]
              : [],
          ),
        );
        for (let offset = 0; offset < one.length; offset += 512)
          expect(into.test(offset)).toBe(units.has(Math.floor(offset / one.clusterSize)));
      }),
      { numRuns: 25 },
    );
  });

  it("are looked at a word at a time where all of a large disk is asked for", () => {
    const length = 2 ** 42; // 64 million clusters, which took a quarter of a minute one by one
    const arenas = new Arenas(() => {});
    const { view } = new ViewMemory(arenas, optionsOf(arenas, { length, clusterSize: 65536 }), undefined);
    view.setCopied(1, 1 << 5);
    const into = Recorder.create(arenas, length, 65536).bitmap;
    const begun = performance.now();
    foldUncopied(into, view, view.copied.slice());
    expect([...into.extents()]).toEqual([
      { offset: 0, length: 37 * 65536 },
      { offset: 38 * 65536, length: length - 38 * 65536 },
    ]);
    expect([...copiedRanges(view)]).toEqual([{ offset: 37 * 65536, length: 65536 }]);
    expect(performance.now() - begun).toBeLessThan(5000);
  });

  it("are taken in runs, each needed one exactly once a pass, and none twice (property)", () => {
    fc.assert(
      fc.property(given, fc.integer({ min: 1, max: 70 }), (one, most) => {
        const { view, inSet, has } = build(one);
        const job = new Int32Array(new SharedArrayBuffer(jobWords * 4));
        const run = { first: 0, count: 0 };
        const taken: number[] = [];
        while (takeRun(view, job, most, run)) {
          expect(run.count).toBeGreaterThan(0);
          expect(run.count).toBeLessThanOrEqual(most);
          for (let cluster = run.first; cluster < run.first + run.count; cluster++) taken.push(cluster);
        }
        const wanted = inSet.flatMap((is, cluster) =>
          is && !has.preserved[cluster] && !has.retired[cluster] ? [cluster] : [],
        );
        // A run begins at one that nobody copies; those that are copied may lie inside: whoever copies looks again.
        expect(taken.filter((cluster) => !has.copying[cluster])).toEqual(
          wanted.filter((cluster) => !has.copying[cluster]),
        );
        expect(new Set(taken).size).toBe(taken.length);
        expect(Atomics.load(job, cursorWord)).toBe(view.clusters);
        passAgain(view, job);
        expect(Atomics.load(job, cursorWord)).toBe(0);
      }),
      { numRuns: 60 },
    );
  });
});

describe("a disk that is too large for a view", () => {
  it("is refused with the cluster size that fits, where one does", () => {
    expect(viewRefusal(2 ** 43, 4096, 1)).toMatch(/at least 8192/);
    expect(viewRefusal(2 ** 43 - 4096, 4096, 1)).toBe(undefined);
    expect(viewRefusal(2 ** 52, 2 ** 21, 1)).toMatch(/too large/);
    expect(viewRefusal(2 ** 44, 65536, 1)).toBe(undefined);
  });
});
