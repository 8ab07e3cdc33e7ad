import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { closeFile, O_CREAT, O_RDWR, openFile } from "@heirloom/block";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { isBlock, emptyBlocks } from "./block.ts";
import type { Directory } from "./directory.ts";
import {
  blockBytes,
  directoryAt,
  directorySlotBytes,
  marksAt,
  marksMax,
  marksSlotBytes,
  superblockCopyAt,
} from "./layout.ts";
import { encodeMarks } from "./mark-record.ts";
import { judge, readSidecar } from "./recover.ts";
import { Space } from "./space.ts";
import { createSidecar, writeDirectory } from "./steps.ts";
import { encodeDirectory } from "./directory.ts";
import { FileStorage } from "./storage.ts";
import { tagOf } from "./superblock.ts";

const superblock = { uuid: Uint8Array.from({ length: 16 }, (_, index) => index + 1), createdAt: 1_700_000_000_000 };
const tag = tagOf(superblock);
const directory: Directory = {
  generation: 3,
  inUse: true,
  bootId: "0123456789abcdef0123456789abcdef",
  openedAt: 1,
  closedAt: 2,
  image: { kind: "file", name: "inode 12 born 34", length: 2 ** 40, modified: 5n, changed: 6n },
  nextLength: 2 ** 41,
  regionBytes: 2 ** 26,
  bound: 2 ** 32,
  nextLayer: 9,
  bitmaps: [
    {
      name: "täglich",
      granularity: 65536,
      recording: true,
      unsettled: true,
      inconsistent: null,
      layers: [
        { id: 7, role: "bits", length: 2 ** 40, offset: 147456 },
        { id: 8, role: "successor", length: 2 ** 40, offset: 147456 + 2_240_512 },
      ],
      pending: { group: "ff".repeat(16), sidecar: "/images/other.journal" },
      job: {
        id: "tägliche",
        options: "{}",
        target: "file inode 5 born 6 from 0",
        targetName: "/backups/monday.raw",
        spill: "/images/vm.img.heirloom.0badcafe.spill",
        tag: -559038737,
        clusterSize: 4096,
        all: false,
        synced: true,
        unit: 65536,
        frozenAt: 1234,
        waitingSince: 0,
        set: { id: 10, role: "bits", length: 2 ** 40, offset: 2 ** 24 },
        copied: { id: 11, role: "bits", length: 2 ** 40, offset: 2 ** 25 },
        flushed: { id: 12, role: "bits", length: 2 ** 40, offset: 2 ** 26 },
      },
    },
    {
      name: "old",
      granularity: 512,
      recording: false,
      unsettled: false,
      inconsistent: "a reason",
      layers: [],
      pending: null,
      job: null,
    },
  ],
  decisions: ["ab".repeat(16)],
  recoveries: [{ at: 77, kind: "power-loss", regions: 3 }],
};

describe("a sidecar", () => {
  let place: string;
  let fd: number;
  let storage: FileStorage;
  beforeEach(() => {
    place = mkdtempSync(join(tmpdir(), "journal-"));
    fd = openFile(join(place, "sidecar"), O_RDWR | O_CREAT);
    storage = new FileStorage(fd);
    expect(createSidecar(storage, superblock, directory)).toBe(0);
  });
  afterEach(() => {
    closeFile(fd);
    rmSync(place, { recursive: true });
  });

  const put = (offset: number, bytes: Uint8Array): void => expect(storage.write(bytes, offset)).toBe(0);

  it("reads back what was written", () => {
    const read = readSidecar(storage, "sidecar");
    expect(read.directory).toEqual(directory);
    expect(read.superblock).toEqual(superblock);
    expect(read.marks).toEqual([]);
  });

  it("is found by the copy of its superblock", () => {
    put(0, new Uint8Array(512).fill(0xff));
    expect(readSidecar(storage, "sidecar").directory).toEqual(directory);
    put(superblockCopyAt, new Uint8Array(512).fill(0xff));
    expect(() => readSidecar(storage, "sidecar")).toThrow(/expected a sidecar of Heirloom's/);
  });

  it("of a newer version is refused in a sentence", () => {
    const bytes = new Uint8Array(4096);
    storage.read(bytes, 0);
    const view = new DataView(bytes.buffer);
    view.setUint32(24, 2, true);
    // The checksum over bytes 8 to 56, computed by another implementation: the reversed polynomial, bit by bit.
    let crc = 0xffffffff;
    for (const byte of bytes.subarray(8, view.getUint32(8, true))) {
      crc ^= byte;
      for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
    }
    view.setUint32(4, ~crc, true);
    put(0, bytes);
    expect(() => readSidecar(storage, "sidecar")).toThrow(/expected a format of version 1, found version 2/);
  });

  it("survives a directory torn at each byte: the one before it counts", () => {
    const next = encodeDirectory({ ...directory, generation: 4 }, tag, 2);
    const length = new DataView(next.buffer).getUint32(8, true);
    const slot = new Uint8Array(directorySlotBytes);
    for (let cut = 0; cut < length; cut++) {
      slot.fill(0xaa);
      slot.set(next.subarray(0, cut));
      put(directoryAt, slot);
      expect(readSidecar(storage, "sidecar").directory.generation).toBe(3);
    }
    expect(writeDirectory(storage, next, 2)).toBe(0);
    expect(readSidecar(storage, "sidecar").directory.generation).toBe(4);
  });

  it("survives marks torn at each sector, in whichever slot", () => {
    const regions = Array.from({ length: marksMax }, (_, index) => index * 3);
    for (const sequence of [2, 3, 4]) {
      const before = readSidecar(storage, "sidecar").marks;
      const slot = new Uint8Array(marksSlotBytes);
      encodeMarks(slot, regions.slice(0, marksMax - sequence), tag, sequence);
      const at = marksAt + (sequence % 2) * marksSlotBytes;
      for (let sectors = 1; sectors < 8; sectors++) {
        put(at, slot.subarray(0, sectors * 512));
        if (sequence < 4) expect(readSidecar(storage, "sidecar").marks).toEqual(before);
      }
      put(at, slot);
      expect(readSidecar(storage, "sidecar").marks).toEqual(regions.slice(0, marksMax - sequence));
    }
  });

  it("does not take another sidecar's records for its own", () => {
    const foreign = encodeDirectory({ ...directory, generation: 99 }, tag + 1, 50);
    put(directoryAt, foreign);
    expect(readSidecar(storage, "sidecar").directory.generation).toBe(3);
  });

  it("is judged by what the image is", () => {
    const sidecar = readSidecar(storage, "sidecar");
    const { image, bootId } = sidecar.directory;
    expect(judge(sidecar, image, bootId)).toEqual({ kind: "killed", distrust: undefined, rebooted: false });
    expect(judge(sidecar, image, "00".repeat(16))).toEqual({ kind: "power-loss", distrust: undefined, rebooted: true });
    expect(judge(sidecar, { ...image, modified: 99n }, bootId).distrust).toBeUndefined(); // the guest wrote until the end
    expect(judge(sidecar, { ...image, length: 2 ** 41 }, bootId).distrust).toBeUndefined(); // a resize was under way
    expect(judge(sidecar, { ...image, length: 5 }, bootId).distrust).toMatch(/has 5 bytes and had 1099511627776/);
    expect(judge(sidecar, { ...image, name: "inode 13" }, bootId).distrust).toMatch(/belongs to another image/);
    const stopped = { ...sidecar, directory: { ...sidecar.directory, inUse: false } };
    expect(judge(stopped, image, bootId)).toEqual({ kind: "clean", distrust: undefined, rebooted: false });
    expect(judge(stopped, { ...image, modified: 99n }, bootId).distrust).toMatch(/changed behind Heirloom's back/);
    const torn = { ...sidecar, marks: undefined };
    expect(judge(torn, image, "00".repeat(16)).distrust).toMatch(/neither record of the regions/);
    expect(judge(torn, image, bootId).distrust).toBeUndefined();
  });
});

describe("a block", () => {
  it("with any bit flipped, of another layer, another place or another sidecar is none", () => {
    const blocks = emptyBlocks(tag, 7, 3, 2);
    const block = blocks.subarray(blockBytes);
    expect(isBlock(block, tag, 7, 4)).toBe(true);
    expect(isBlock(block, tag, 7, 3)).toBe(false);
    expect(isBlock(block, tag, 8, 4)).toBe(false);
    expect(isBlock(block, tag + 1, 7, 4)).toBe(false);
    for (let bit = 0; bit < blockBytes * 8; bit++) {
      block[bit >>> 3] ^= 1 << (bit & 7);
      expect(isBlock(block, tag, 7, 4), `bit ${bit}`).toBe(false);
      block[bit >>> 3] ^= 1 << (bit & 7);
    }
  });
});

describe("room in the file", () => {
  it("is taken first fit, and used again", () => {
    const space = new Space();
    const [one, two] = [space.allocate(4096), space.allocate(8192)];
    space.free(one);
    expect(space.allocate(8192)).toBe(two + 8192);
    expect(space.allocate(4096)).toBe(one);
    expect(() => space.take(two + 4096, 4096)).toThrow(/overlap/);
  });
});
