import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Arenas, type Region } from "../dist/arena.js";

describe("arenas", () => {
  it("hand out power-of-two classes from 512 bytes on, aligned to a cache line's multiple", () => {
    const arenas = new Arenas(() => {});
    for (const [asked, given] of [
      [1, 512],
      [512, 512],
      [513, 1024],
      [4096, 4096],
      [4097, 8192],
      [3 * 2 ** 20, 2 ** 22],
    ]) {
      const region = arenas.allocate(asked);
      expect(region.byteLength).toBe(given);
      expect(region.byteOffset % 512).toBe(0);
    }
  });

  it("announce an arena before a region of it is handed out", () => {
    const announced: number[] = [];
    const arenas = new Arenas((arena, buffer) => {
      expect(buffer.byteLength).toBeGreaterThan(0);
      announced.push(arena);
    });
    for (const size of [4096, 9 * 2 ** 20, 4096, 20 * 2 ** 20])
      expect(announced).toContain(arenas.allocate(size).arena);
    expect(announced).toEqual([...announced.keys()]);
    expect(arenas.buffers.length).toBe(announced.length);
  });

  it("give a large region an arena of its own, of its class and no larger", () => {
    const arenas = new Arenas(() => {});
    const region = arenas.allocate(9 * 2 ** 20);
    expect(region.byteOffset).toBe(0);
    expect(arenas.buffer(region.arena).byteLength).toBe(16 * 2 ** 20);
  });

  it("use what was given back again, by class and kind", () => {
    const arenas = new Arenas(() => {});
    const zeroed = arenas.allocate(2000);
    const raw = arenas.allocate(2000, "raw");
    arenas.free(zeroed);
    arenas.free(raw);
    expect(arenas.allocate(1000)).not.toBe(zeroed); // another class
    expect(arenas.allocate(1025, "raw")).toBe(raw);
    expect(arenas.allocate(2048)).toBe(zeroed);
  });

  it("refuse a region given back twice, or a length of nothing", () => {
    const arenas = new Arenas(() => {});
    const region = arenas.allocate(512);
    arenas.free(region);
    expect(() => arenas.free(region)).toThrow(/twice/);
    expect(() => arenas.allocate(0)).toThrow();
    expect(() => arenas.allocate(Number.NaN)).toThrow();
  });

  it("count what is in use and never hand out bytes that somebody has (property)", () => {
    fc.assert(
      fc.property(
        fc.array(fc.record({ size: fc.integer({ min: 1, max: 40_000 }), raw: fc.boolean(), free: fc.nat(20) }), {
          maxLength: 120,
        }),
        (steps) => {
          const arenas = new Arenas(() => {});
          const live: Region[] = [];
          for (const { size, raw, free } of steps) {
            const region = arenas.allocate(size, raw ? "raw" : "zeroed");
            for (const other of live) {
              const apart =
                other.arena !== region.arena ||
                other.byteOffset + other.byteLength <= region.byteOffset ||
                region.byteOffset + region.byteLength <= other.byteOffset;
              expect(apart).toBe(true);
            }
            live.push(region);
            if (free < live.length) arenas.free(live.splice(free, 1)[0]);
            expect(arenas.bytesInUse).toBe(live.reduce((sum, one) => sum + one.byteLength, 0));
          }
        },
      ),
      { numRuns: 30 },
    );
  });
});
