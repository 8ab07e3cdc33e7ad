import { closeSync, openSync, unlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { noSlot, Spill } from "../dist/spill.js";
import * as layout from "../dist/spill-layout.js";
import { pattern } from "./lab.fixture.ts";

const clusterSize = 4096;

interface Sizes {
  readonly memory: number;
  readonly file: number;
  readonly zero: number;
  readonly readers?: boolean;
}

function wordsFor({ memory, file, zero, readers = false }: Sizes): Int32Array {
  const indexSize = readers ? layout.indexSizeFor(memory + file + zero) : 0;
  const words = new Int32Array(new SharedArrayBuffer(layout.spillWords(memory, file, zero, indexSize) * 4));
  words[layout.memorySlotsWord] = memory;
  words[layout.fileSlotsMaxWord] = file;
  words[layout.zeroSlotsWord] = zero;
  words[layout.indexSizeWord] = indexSize;
  words[layout.freeMemoryWord] = memory;
  words[layout.freeZeroWord] = zero;
  words[layout.fileDescriptorWord] = -1;
  return words;
}

function makeSpill(sizes: Sizes): Spill {
  return new Spill(wordsFor(sizes), new Uint8Array(new SharedArrayBuffer(sizes.memory * clusterSize)), clusterSize);
}

/** What the keeper does when a helper has made room. */
function grow(spill: Spill, fd: number, to: number): void {
  const before = spill.words[layout.fileSlotsWord];
  spill.words[layout.fileDescriptorWord] = fd;
  spill.words[layout.fileSlotsWord] = to;
  Atomics.add(spill.words, layout.freeFileWord, to - before);
}

function scratchFile(): number {
  const path = join(tmpdir(), `heirloom-spill-${process.pid}-${Math.random()}`);
  const fd = openSync(path, "w+");
  unlinkSync(path);
  return fd;
}

const never = (): boolean => false;

describe("the spill", () => {
  it("hands out memory first, then the file, then nothing", () => {
    const fd = scratchFile();
    const spill = makeSpill({ memory: 3, file: 2, zero: 1 });
    expect([spill.take(), spill.take(), spill.take()].sort((a, b) => a - b)).toEqual([0, 1, 2]);
    expect(spill.take()).toBe(noSlot);
    grow(spill, fd, 1);
    expect(spill.take()).toBe(3);
    expect(spill.take()).toBe(noSlot);
    grow(spill, fd, 2);
    expect(spill.take()).toBe(4);
    expect([spill.memory(4), spill.isZeroSlot(4), spill.isZeroSlot(5)]).toEqual([undefined, false, true]);
    expect([spill.takeZero(), spill.takeZero()]).toEqual([5, noSlot]);
    closeSync(fd);
  });

  it("keeps what is stored in a slot of each kind, a part of it included", () => {
    const fd = scratchFile();
    const spill = makeSpill({ memory: 1, file: 2, zero: 1 });
    grow(spill, fd, 2);
    const [inMemory, first, second] = [spill.take(), spill.take(), spill.take()];
    spill.memory(inMemory)?.set(pattern(clusterSize, 1));
    expect(spill.store(second, pattern(clusterSize, 3), 3)).toBe(0);
    expect(spill.store(first, pattern(100, 2), 2)).toBe(0); // the disk's last cluster
    const part = new Uint8Array(1000);
    for (const [slot, seed] of [
      [inMemory, 1],
      [second, 3],
    ]) {
      expect(spill.load(slot, part, 3000)).toBe(0);
      expect(part).toEqual(pattern(clusterSize, seed).subarray(3000, 4000));
    }
    const last = new Uint8Array(100);
    expect(spill.load(first, last)).toBe(0);
    expect(last).toEqual(pattern(100, 2));
    expect(spill.load(spill.takeZero(), part, 7)).toBe(0);
    expect(part.every((byte) => byte === 0)).toBe(true);
    closeSync(fd);
  });

  it("asks for a file once memory is half full, once at a time, and no more when it has all", () => {
    const spill = makeSpill({ memory: 4, file: 8, zero: 1 });
    const wanted = (): number => Atomics.load(spill.words, layout.fileWantedWord);
    spill.take();
    spill.take();
    expect(wanted()).toBe(0);
    spill.take();
    expect(wanted()).toBe(1);
    spill.take();
    spill.take();
    expect(wanted()).toBe(1); // the request is under way
    grow(spill, -1, 4);
    Atomics.add(spill.words, layout.fileWantedWord, 1);
    spill.take();
    spill.take();
    expect(wanted()).toBe(2); // half of the file is free
    spill.take();
    expect(wanted()).toBe(3);
    grow(spill, -1, 8);
    Atomics.add(spill.words, layout.fileWantedWord, 1);
    for (let count = 0; count < 8; count++) spill.take();
    expect(wanted()).toBe(4); // there is no more to be had
  });

  it("finds a free slot at the cost of a look, however many were given back before", () => {
    const spill = makeSpill({ memory: 4096, file: 0, zero: 1 });
    const slots = Array.from({ length: 4095 }, () => spill.take());
    for (let count = 0; count < 2000; count++) spill.giveBack(spill.take()); // zero clusters: taken, looked at, given back
    for (const slot of slots) spill.giveBack(slot);
    expect(spill.words[layout.freeMemoryWord]).toBe(4096);
    const loads = looksOf(() => spill.take());
    expect(loads).toBeLessThan(20);
  });

  it("lets a reader pin what is full, and frees no slot while it is pinned", () => {
    const spill = makeSpill({ memory: 2, file: 0, zero: 1, readers: true });
    const slot = spill.take();
    expect(spill.pin(9)).toBe(noSlot);
    spill.publish(slot, 9);
    expect(spill.pin(9)).toBe(slot);
    expect(spill.pin(8)).toBe(noSlot);
    expect(spill.takeFull()).toBe(slot);
    expect(spill.pin(9)).toBe(slot); // being drained, which may take for ever
    let looks = 0;
    spill.freeDrained(slot, () => {
      expect(spill.pin(9)).toBe(noSlot); // about to be free
      if (++looks >= 3) spill.unpin(slot);
      return false;
    });
    expect(looks).toBe(4);
    expect(spill.words[layout.freeMemoryWord]).toBe(2);
    expect(spill.pin(9)).toBe(noSlot);
  });

  it("finds each cluster by its index, however many slots were drained and filled anew", () => {
    const spill = makeSpill({ memory: 8, file: 0, zero: 1, readers: true });
    const inSpill = new Map<number, number>();
    for (let cluster = 0; cluster < 5000; cluster++) {
      const slot = spill.take();
      spill.publish(slot, cluster);
      inSpill.set(cluster, slot);
      if (inSpill.size < 8) continue;
      for (const [held, at] of inSpill) {
        expect(spill.pin(held)).toBe(at);
        spill.unpin(at);
      }
      expect(spill.pin(cluster + 1)).toBe(noSlot);
      const drained = spill.takeFull();
      inSpill.delete(spill.cluster(drained));
      spill.freeDrained(drained, () => false);
    }
  });

  it("gives up a drained slot whose reader died once the view is over", () => {
    const spill = makeSpill({ memory: 1, file: 0, zero: 1, readers: true });
    const slot = spill.take();
    spill.publish(slot, 0);
    spill.pin(0);
    spill.takeFull();
    spill.freeDrained(slot, () => true);
    expect(spill.take()).toBe(noSlot); // still somebody's
  });

  it("does what a plain model does (property)", () => {
    const step = fc.record({
      verb: fc.constantFrom("take", "takeZero", "giveBack", "publish", "takeFull", "putBack", "free", "grow", "pin"),
      which: fc.nat(1000),
    });
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 5 }),
        fc.nat(4),
        fc.integer({ min: 1, max: 3 }),
        fc.array(step, { maxLength: 150, size: "max" }),
        (memory, file, zero, steps) => {
          const spill = makeSpill({ memory, file, zero, readers: true });
          const filling: number[] = [];
          const full = new Map<number, number>();
          const draining = new Map<number, number>();
          let nextCluster = 0;
          let fileSlots = 0;
          const kindOf = (slot: number): number => (slot < memory ? 0 : slot < memory + file ? 1 : 2);
          const held = (kind: number): number =>
            [...filling, ...full.keys(), ...draining.keys()].filter((slot) => kindOf(slot) === kind).length;
          for (const { verb, which } of steps) {
            if (verb === "take") {
              const slot = spill.take();
              const room = held(0) < memory ? 0 : held(1) < fileSlots ? 1 : noSlot;
              expect(slot === noSlot ? noSlot : kindOf(slot)).toBe(room);
              if (slot !== noSlot) {
                expect(filling.includes(slot) || full.has(slot) || draining.has(slot)).toBe(false);
                filling.push(slot);
              }
            } else if (verb === "takeZero") {
              const slot = spill.takeZero();
              expect(slot === noSlot).toBe(held(2) === zero);
              if (slot !== noSlot) filling.push(slot);
            } else if (verb === "giveBack" && filling.length > 0)
              spill.giveBack(filling.splice(which % filling.length, 1)[0]);
            else if (verb === "publish" && filling.length > 0 && nextCluster < 8) {
              const [slot] = filling.splice(which % filling.length, 1);
              spill.publish(slot, nextCluster);
              full.set(slot, nextCluster++);
            } else if (verb === "takeFull") {
              const slot = spill.takeFull();
              expect(slot === noSlot).toBe(full.size === 0);
              if (slot === noSlot) continue;
              expect(spill.cluster(slot)).toBe(full.get(slot));
              draining.set(slot, full.get(slot) ?? -1);
              full.delete(slot);
            } else if (verb === "putBack" && draining.size > 0) {
              const slot = [...draining.keys()][which % draining.size];
              spill.putBack(slot);
              full.set(slot, draining.get(slot) ?? -1);
              draining.delete(slot);
            } else if (verb === "free" && draining.size > 0) {
              const slot = [...draining.keys()][which % draining.size];
              spill.freeDrained(slot, never);
              draining.delete(slot);
            } else if (verb === "grow" && fileSlots < file) grow(spill, -1, ++fileSlots);
            else if (verb === "pin") {
              const slot = spill.pin(which % 8);
              // What is being drained can be read until it is free.
              const readable = [...full, ...draining].find(([, cluster]) => cluster === which % 8);
              expect(slot).toBe(readable?.[0] ?? noSlot);
              if (slot !== noSlot) spill.unpin(slot);
            }
            expect(spill.full).toBe(full.size);
            expect(spill.words[layout.freeMemoryWord]).toBe(memory - held(0));
            expect(spill.words[layout.freeFileWord]).toBe(fileSlots - held(1));
            expect(spill.words[layout.freeZeroWord]).toBe(zero - held(2));
          }
        },
      ),
      { numRuns: 200 },
    );
  });

  it("gives each slot to one thread at a time, and loses none", async () => {
    const sizes = { memory: 7, file: 3, zero: 2 };
    const words = wordsFor(sizes);
    words[layout.fileSlotsWord] = 3;
    words[layout.freeFileWord] = 3;
    const owners = new Int32Array(new SharedArrayBuffer(12 * 4));
    const source = `
      import { workerData, parentPort } from "node:worker_threads";
      const { Spill, noSlot } = await import(workerData.module);
      const spill = new Spill(workerData.words, new Uint8Array(new SharedArrayBuffer(7 * 64)), 64);
      let wrong = 0, taken = 0;
      const own = (slot) => { if (Atomics.add(workerData.owners, slot, 1) !== 0) wrong++; };
      const disown = (slot) => { if (Atomics.sub(workerData.owners, slot, 1) !== 1) wrong++; };
      for (let step = 0; step < 20000; step++) {
        const slot = step % 5 === 0 ? spill.takeZero() : spill.take();
        if (slot !== noSlot) {
          own(slot); taken++;
          disown(slot);
          if (step % 3 === 0) spill.giveBack(slot); else spill.publish(slot, step);
        }
        const full = spill.takeFull();
        if (full !== noSlot) {
          own(full);
          disown(full);
          if (step % 7 === 0) spill.putBack(full); else spill.freeDrained(full, () => false);
        }
      }
      parentPort.postMessage({ wrong, taken });
    `;
    const module = new URL("../dist/spill.js", import.meta.url).href;
    const answers = await Promise.all(
      [1, 2, 3].map(
        () =>
          new Promise<{ wrong: number; taken: number }>((resolve, reject) => {
            const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(source)}`), {
              workerData: { words, owners, module },
            });
            worker.once("message", resolve);
            worker.once("error", reject);
          }),
      ),
    );
    expect(answers.map(({ wrong }) => wrong)).toEqual([0, 0, 0]);
    expect(Math.min(...answers.map(({ taken }) => taken))).toBeGreaterThan(1000);
    const spill = new Spill(words, new Uint8Array(7 * 64), 64);
    for (let slot = spill.takeFull(); slot !== noSlot; slot = spill.takeFull()) spill.freeDrained(slot, never);
    expect([spill.full, words[layout.freeMemoryWord], words[layout.freeFileWord], words[layout.freeZeroWord]]).toEqual([
      0, 7, 3, 2,
    ]);
  });
});

/** How many times `run` loads or exchanges a word. */
function looksOf(run: () => void): number {
  const { load, compareExchange } = Atomics;
  let count = 0;
  Atomics.load = ((...parameters: Parameters<typeof load>) => (count++, load(...parameters))) as typeof load;
  Atomics.compareExchange = ((...parameters: Parameters<typeof compareExchange>) => (
    count++,
    compareExchange(...parameters)
  )) as typeof compareExchange;
  try {
    run();
  } finally {
    Atomics.load = load;
    Atomics.compareExchange = compareExchange;
  }
  return count;
}
