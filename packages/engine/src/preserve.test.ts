import { describe, expect, it } from "vitest";
import { EIO } from "@heirloom/block";
import { preserveDone, preserveFull, preserveRange } from "../dist/preserve.js";
import { noSlot } from "../dist/spill.js";
import { freeMemoryWord, freeZeroWord } from "../dist/spill-layout.js";
import type { View } from "../dist/view.js";
import { brokenUnreadable } from "../dist/view-layout.js";
import { KiB, Lab, MiB, memoryNode, nodeWith, pattern } from "./lab.fixture.ts";

const piece = 4096;

/** What the spill holds for a cluster. */
function spilled(view: View, cluster: number): Uint8Array | undefined {
  const slot = view.spill.pin(cluster);
  if (slot === noSlot) return undefined;
  const data = new Uint8Array(view.bytesOf(cluster));
  expect(view.spill.load(slot, data)).toBe(0);
  view.spill.unpin(slot);
  return data;
}

describe("a guest that is about to overwrite", () => {
  it("keeps the old data of every piece that it touches, and of no other", async () => {
    await using lab = new Lab();
    const old = pattern(MiB, 1);
    const { layer } = await lab.memory(MiB);
    const node = await memoryNode(MiB, old);
    const { view } = (await lab.view(layer, { readers: true })).memory;
    expect(preserveRange(view, node, 0, 3 * piece + 100, 2 * piece)).toBe(preserveDone); // touches three
    for (let cluster = 0; cluster < 10; cluster++) {
      const kept = cluster >= 3 && cluster <= 5;
      expect(view.isPreserved(cluster)).toBe(kept);
      expect(spilled(view, cluster)).toEqual(kept ? old.subarray(cluster * piece, (cluster + 1) * piece) : undefined);
    }
    expect(view.busy.every((word) => word === 0)).toBe(true); // no claim is left
    expect(view.spill.words[freeMemoryWord]).toBe((4 * MiB) / piece - 3);
  });

  it("reads neighbours at once, never more than one claim may read", async () => {
    await using lab = new Lab();
    const { layer } = await lab.memory(2 * MiB);
    const reads: number[] = [];
    const plain = await memoryNode(2 * MiB, pattern(2 * MiB, 1));
    const node = nodeWith(plain, {
      read: (buffer, offset) => {
        reads.push(buffer.length);
        return plain.read(buffer, offset);
      },
    });
    const { view } = (await lab.view(layer)).memory;
    expect(preserveRange(view, node, 0, 0, MiB)).toBe(preserveDone);
    expect(reads.reduce((sum, length) => sum + length, 0)).toBe(MiB);
    expect(Math.max(...reads)).toBeLessThanOrEqual(256 * KiB);
    expect(reads.length).toBeLessThanOrEqual(MiB / (128 * KiB));
  });

  it("keeps a last piece that the end of the disk cuts off", async () => {
    await using lab = new Lab();
    for (const length of [piece * 5 + 1, piece * 5 + 513, piece * 5 - 1, 100]) {
      const old = pattern(length, 3);
      const { layer } = await lab.memory(length);
      const node = await memoryNode(length, old);
      const { view } = (await lab.view(layer, { readers: true })).memory;
      expect(preserveRange(view, node, 0, Math.max(0, length - 2 * piece), Math.min(length, 2 * piece))).toBe(
        preserveDone,
      );
      expect(spilled(view, view.clusters - 1)).toEqual(old.subarray((view.clusters - 1) * piece));
    }
  });

  it("keeps zeroes without room, as long as there are slots for them", async () => {
    await using lab = new Lab();
    const { layer } = await lab.memory(MiB);
    const { view } = (await lab.view(layer, { readers: true })).memory;
    expect(preserveRange(view, await memoryNode(MiB), 0, 0, 16 * piece)).toBe(preserveDone);
    expect(view.spill.words[freeMemoryWord]).toBe((4 * MiB) / piece);
    expect(view.spill.words[freeZeroWord]).toBe(4096 - 16);
    expect(spilled(view, 7)).toEqual(new Uint8Array(piece));
  });

  it("keeps zeroes as data when the slots for zeroes are gone", async () => {
    await using lab = new Lab();
    const { layer } = await lab.memory(MiB);
    const { view } = (await lab.view(layer, { readers: true })).memory;
    view.spill.words[freeZeroWord] = 1;
    expect(preserveRange(view, await memoryNode(MiB), 0, 0, 3 * piece)).toBe(preserveDone);
    expect(view.spill.words[freeMemoryWord]).toBe((4 * MiB) / piece - 2);
    expect(spilled(view, 2)).toEqual(new Uint8Array(piece));
  });

  it("goes on from where it was when a full spill has room again", async () => {
    await using lab = new Lab();
    const old = pattern(MiB, 5);
    const { layer } = await lab.memory(MiB);
    const node = await memoryNode(MiB, old);
    const { view } = (await lab.view(layer, { spillMemory: 5 * piece, readers: true })).memory;
    expect(preserveRange(view, node, 0, 0, 8 * piece)).toBe(preserveFull);
    expect([...Array(8).keys()].map((cluster) => view.isPreserved(cluster))).toEqual([
      true,
      true,
      true,
      true,
      true,
      false,
      false,
      false,
    ]);
    expect(view.busy.every((word) => word === 0)).toBe(true); // a claim is never held while waiting
    expect(preserveRange(view, node, 0, 0, 5 * piece)).toBe(preserveDone); // needs nothing more
    const slot = view.spill.takeFull();
    view.spill.freeDrained(slot, () => false);
    expect(preserveRange(view, node, 0, 5 * piece, piece)).toBe(preserveDone);
    expect(preserveRange(view, node, 0, 5 * piece, 2 * piece)).toBe(preserveFull);
    expect(view.broken()).toBe(0);
  });

  it("breaks the view, with the errno, where the old data cannot be read; and goes on", async () => {
    await using lab = new Lab();
    const { layer } = await lab.memory(MiB);
    const plain = await memoryNode(MiB, pattern(MiB, 1));
    for (const pieces of [1, 4]) {
      const view = await lab.view(layer, {});
      const room = view.memory.spillWords[freeMemoryWord];
      const node = nodeWith(plain, { read: () => EIO });
      expect(preserveRange(view.memory.view, node, 0, 0, pieces * piece)).toBe(preserveDone);
      expect(view.memory.view.broken()).toBe(brokenUnreadable);
      expect(view.broken).toEqual({ reason: "source-unreadable", errno: EIO });
      expect(view.memory.view.isPreserved(0)).toBe(false);
      expect(view.memory.spillWords[freeMemoryWord]).toBe(room);
      expect(view.memory.view.busy.every((word) => word === 0)).toBe(true);
      await lab.end(view);
    }
  });

  it("does not count what it read while the view was broken", async () => {
    await using lab = new Lab();
    const { layer } = await lab.memory(MiB);
    const plain = await memoryNode(MiB, pattern(MiB, 1));
    for (const pieces of [1, 4]) {
      const { view } = (await lab.view(layer, {})).memory;
      const room = view.spill.words[freeMemoryWord];
      const node = nodeWith(plain, {
        read: (buffer, offset) => {
          view.break(3);
          return plain.read(buffer, offset);
        },
      });
      expect(preserveRange(view, node, 0, 0, pieces * piece)).toBe(preserveDone);
      expect(view.isPreserved(0)).toBe(false);
      expect([view.spill.full, view.spill.words[freeMemoryWord]]).toEqual([0, room]);
    }
  });

  it("reads nothing that the view does not need: outside of its set, preserved, behind its end, over", async () => {
    await using lab = new Lab();
    const { layer } = await lab.memory(MiB);
    const set = lab.engine.recorder(MiB, 65536);
    set.bitmap.set(65536, 1);
    const node = nodeWith(await memoryNode(MiB), { read: () => EIO });
    const { view } = (await lab.view(layer, {}, set)).memory;
    view.setPreserved(0, 1 << 16);
    expect(preserveRange(view, node, 0, 0, 65536 + piece)).toBe(preserveDone);
    expect(preserveRange(view, node, 0, MiB, piece)).toBe(preserveDone);
    expect(view.broken()).toBe(0);
    view.break(1);
    expect(preserveRange(view, node, 0, 65536, 65536)).toBe(preserveDone);
    expect(view.broken()).toBe(1);
  });

  it("writes into the file when memory is full, whole and cut-off pieces alike", async () => {
    await using lab = new Lab();
    const length = 8 * piece + 700;
    const old = pattern(length, 9);
    const { layer } = await lab.memory(length);
    const node = await memoryNode(length, old);
    const { openSync, closeSync } = await import("node:fs");
    const fd = openSync(`${lab.directory}/spill`, "w+");
    const { view } = (await lab.view(layer, { spillMemory: 2 * piece, spillFile: 100 * piece, readers: true })).memory;
    expect(preserveRange(view, node, 0, 0, length)).toBe(preserveFull);
    view.spill.words[17] = fd;
    Atomics.add(view.spill.words, 16, 8);
    Atomics.add(view.spill.words, 49, 8);
    expect(preserveRange(view, node, 0, 0, length)).toBe(preserveDone);
    for (let cluster = 0; cluster < 9; cluster++)
      expect(spilled(view, cluster)).toEqual(old.subarray(cluster * piece, Math.min(length, (cluster + 1) * piece)));
    closeSync(fd);
  });
});
