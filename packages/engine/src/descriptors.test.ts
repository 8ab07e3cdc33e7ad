import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { SharedBitmap } from "@heirloom/bitmap";
import { Arenas } from "../dist/arena.js";
import { getBitmap, putBitmap } from "../dist/descriptors.js";
import { NumberReader, NumberWriter } from "../dist/numbers.js";
import { Recorder } from "../dist/recorder.js";
import { gateBytes } from "../dist/gate-layout.js";
import { decodeTable, encodeTable, storeTable, tableArenaCount } from "../dist/table.js";
import { ViewMemory } from "../dist/view-memory.js";

describe("rows of numbers", () => {
  it("keep every safe integer, 2^32 and 2^53 - 1 included (property)", () => {
    fc.assert(
      fc.property(fc.array(fc.maxSafeInteger()), (values) => {
        const row = new NumberWriter();
        row.put(...values);
        const reader = new NumberReader(Float64Array.from(row.values));
        expect(values.map(() => reader.get())).toEqual(values);
        expect(() => reader.get()).toThrow(/within its length/);
      }),
    );
  });

  it("take nothing else", () => {
    for (const bad of [0.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53])
      expect(() => new NumberWriter().put(bad)).toThrow(/integers/);
  });
});

describe("a bitmap written down", () => {
  it("is the same bits where it is read, over all its regions", () => {
    const arenas = new Arenas(() => {});
    // 2^31 granules: two regions, each in an arena of its own
    const recorder = Recorder.create(arenas, 2 ** 40, 512);
    expect(recorder.descriptor.regions.length).toBe(2);
    recorder.bitmap.set(2 ** 39 + 12345, 1);
    recorder.bitmap.set(7, 1);
    const row = new NumberWriter();
    putBitmap(row, recorder.descriptor);
    const read = getBitmap(new NumberReader(Float64Array.from(row.values)), arenas);
    expect([...read.extents()]).toEqual([...recorder.bitmap.extents()]);
    read.set(2 ** 40 - 1, 1);
    expect(recorder.bitmap.test(2 ** 40 - 1)).toBe(true);
  });
});

describe("a table", () => {
  it("names the same layers, bitmaps and views to whoever reads it, over many arenas (property)", () => {
    const layer = fc.record({
      base: fc.nat(2 ** 45),
      length: fc.integer({ min: 1, max: 2 ** 26 }),
      granularities: fc.array(fc.constantFrom(512, 4096, 65536, 2 ** 31), { maxLength: 5 }),
      views: fc.nat(3),
    });
    fc.assert(
      fc.property(fc.array(layer, { maxLength: 4 }), fc.nat(3), (layers, padding) => {
        const arenas = new Arenas(() => {});
        const gate = arenas.allocate(gateBytes);
        const made = layers.map(({ base, length, granularities, views }, index) => {
          for (let count = 0; count < padding; count++) arenas.allocate(10 * 2 ** 20); // an arena each
          const recorders = granularities.map((granularity) => Recorder.create(arenas, length, granularity));
          const options = {
            length,
            gate,
            clusterSize: 65536,
            alignment: 1,
            guestDelayMaxMs: 20,
            breakGuestWrite: false,
            spillMemory: 65536,
            spillFile: 0,
          };
          const memories = Array.from(
            { length: views },
            (_, view) => new ViewMemory(arenas, options, view === 0 ? recorders[0] : undefined),
          );
          return { layer: index + 1, base, length, recorders, memories };
        });
        // The last layer has one: what is written for its module comes back as it was, and moves nothing else.
        const guards = made.map((_, index) => (index === made.length - 1 ? [7, 2 ** 40, 3] : []));
        const table = encodeTable(
          arenas.buffers.length,
          made.map(({ layer, base, length, recorders, memories }) => ({
            layer,
            base,
            length,
            recorders: recorders.map((one) => one.descriptor),
            views: memories.map((one) => one.region),
            guard: guards[layer - 1],
          })),
        );
        const region = arenas.allocate(table.length * 8);
        storeTable(region, table);
        const stored = new Float64Array(region.buffer, region.byteOffset, table.length);
        expect(tableArenaCount(stored)).toBeLessThanOrEqual(arenas.buffers.length);
        const rows: (readonly number[])[] = [];
        const guard = { ready: () => true, prepare: () => 0 };
        const read = decodeTable(stored, arenas, (row) => {
          rows.push(row);
          return guard;
        });
        expect(rows).toEqual(made.length === 0 ? [] : [[7, 2 ** 40, 3]]);
        expect(read.map((layer) => layer.guard)).toEqual(guards.map((row) => (row.length === 0 ? undefined : guard)));
        expect(read.map(({ layer, base, length }) => ({ layer, base, length }))).toEqual(
          made.map(({ layer, base, length }) => ({ layer, base, length })),
        );
        for (const [index, { recorders, memories, length }] of made.entries()) {
          expect(read[index].recorders.map((one: SharedBitmap) => one.granularity)).toEqual(
            recorders.map((one) => one.bitmap.granularity),
          );
          for (const [at, recorder] of recorders.entries()) {
            read[index].recorders[at].set(length - 1, 1);
            expect(recorder.bitmap.count()).toBe(recorder.bitmap.granularity);
          }
          for (const [at, memory] of memories.entries()) {
            const view = read[index].views[at];
            expect([view.length, view.clusterSize, view.clusters, view.setUnit]).toEqual([
              length,
              memory.clusterSize,
              memory.clusters,
              65536,
            ]);
            expect(view.set === undefined).toBe(memory.set === undefined);
            view.break(1);
            expect(memory.view.broken()).toBe(1);
          }
        }
      }),
      { numRuns: 25 },
    );
  });
});
