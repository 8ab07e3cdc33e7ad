/** Points in time whose old data goes to a target while they are read: what readers get, and what guests wait for. */
import { describe, expect, it } from "vitest";
import {
  connectNode,
  disarmFault,
  EACCES,
  EIO,
  ENOSPC,
  type Errno,
  type FaultRule,
  faultReached,
  type NodeHandle,
  type NodeSpec,
  openNode,
  releaseHang,
} from "@heirloom/block";
import { type EngineView, operationWrite, ViewReader } from "@heirloom/engine";
import { drain, type DrainResult } from "../dist/drainer.js";
import { preserveDone, preserveRange } from "../dist/preserve.js";
import { contentOf, difference, jobOf, Lab, type LabDisk, MiB, nodeWith, pattern } from "./lab.fixture.ts";

const timedOut: Errno = 110;
const piece = 4096;

interface Fleecing extends LabDisk {
  readonly view: EngineView;
  readonly reader: ViewReader;
  readonly target: NodeHandle;
  /** A guest on a thread of its own. */
  readonly write: (data: Uint8Array, offset: number) => Promise<Errno>;
}

/** A disk with a pattern, a view of it, and a target that takes what guests overwrite. */
async function fleece(
  lab: Lab,
  length: number,
  options: Parameters<Lab["view"]>[1] = {},
  target: NodeSpec = { driver: "memory", size: length },
  source: NodeSpec = { driver: "memory", size: length },
): Promise<Fleecing> {
  const disk = await lab.disk(source);
  expect(disk.node.write(pattern(length, 1), 0)).toBe(0);
  const handle = await openNode(target);
  const view = await lab.view(disk.layer, { readers: true, target: handle, ...options });
  void view.startMovers(
    {
      target: { node: handle },
      targetIsZero: false,
      threads: 1,
      runBytesMax: MiB,
      detectZeroes: false,
      discardSource: false,
      copies: false,
      scan: undefined,
      yieldMs: 0,
      onSourceError: "ignore",
      onTargetError: "ignore",
      speed: 0,
    },
    () => {},
  );
  const io = lab.engine.io(disk.layer);
  return {
    ...disk,
    view,
    target: handle,
    reader: new ViewReader(view.memory.view, disk.node, connectNode(handle)),
    write: (data, offset) => io.request(operationWrite, disk.layer.id, offset, data.length, data),
  };
}

const synchronous = { synchronous: true, breakGuestWrite: true, guestDelayMaxMs: Infinity } as const;

function faulty(length: number, ...rules: FaultRule[]): NodeSpec {
  return { driver: "fault", file: { driver: "memory", size: length }, rules };
}

describe("a point in time with a target", () => {
  it("reads as it was while guests overwrite far more than the spill holds", async () => {
    await using lab = new Lab();
    const length = 4 * MiB + 512;
    const old = pattern(length, 1);
    const { view, reader, write, target } = await fleece(lab, length, {
      spillMemory: 16 * piece,
      guestDelayMaxMs: 20_000,
    });
    for (let round = 0; round < 200; round++) {
      const offset = (round * 94_567) % (length - 30_000);
      const written = write(pattern(1 + ((round * 7919) % 30_000), round + 2), offset);
      const part = new Uint8Array(40_000);
      const at = Math.min(Math.max(0, offset - 5000), length - part.length);
      expect(reader.read(part, at)).toBe(0); // it may be anywhere: on the device, in the spill, on its way, on the target
      expect(difference(part, old.subarray(at, at + part.length))).toBe(-1);
      expect(await written).toBe(0);
    }
    const all = new Uint8Array(length);
    expect(reader.read(all, 0)).toBe(0);
    expect(difference(all, old)).toBe(-1);
    expect(view.copiedClusters).toBeGreaterThan(32);
    expect(contentOf(connectNode(target)).some((byte) => byte !== 0)).toBe(true);
    await lab.end(view);
  });

  it("is read from the spill while the target hangs", async () => {
    await using lab = new Lab();
    const length = MiB;
    const hanging = faulty(length, { kind: "write", action: { hang: true } });
    const { view, reader, write, target } = await fleece(lab, length, {}, hanging);
    expect(await write(pattern(piece, 2), 0)).toBe(0);
    await faultReached(target, 0);
    const part = new Uint8Array(piece);
    expect(reader.read(part, 0)).toBe(0);
    expect(difference(part, pattern(length, 1).subarray(0, piece))).toBe(-1);
    releaseHang(target);
    await lab.end(view);
  });

  it("gives up what readers discard: refused from then on, not preserved, and gone from the target", async () => {
    await using lab = new Lab();
    const length = MiB;
    const { view, reader, write, target } = await fleece(lab, length, { ...synchronous });
    expect(await write(pattern(8 * piece, 2), 0)).toBe(0);
    expect(difference(contentOf(connectNode(target), 0, 8 * piece), pattern(length, 1).subarray(0, 8 * piece))).toBe(
      -1,
    );
    expect(reader.discard(piece + 1, 6 * piece)).toBe(0); // inwards: clusters 2 to 6
    const read = (cluster: number): Errno => reader.read(new Uint8Array(piece), cluster * piece);
    expect([1, 2, 6, 7].map(read)).toEqual([0, EACCES, EACCES, 0]);
    await expect
      .poll(() => contentOf(connectNode(target), 2 * piece, 5 * piece).every((byte) => byte === 0), { timeout: 20_000 })
      .toBe(true);
    expect(contentOf(connectNode(target), piece, piece).every((byte) => byte !== 0)).toBe(true);
    expect(reader.discard(length - 3 * piece, 3 * piece)).toBe(0);
    const copied = view.copiedClusters;
    expect(await write(pattern(3 * piece, 3), length - 3 * piece)).toBe(0);
    expect(view.copiedClusters).toBe(copied);
    await lab.end(view);
  });
});

describe("a guest that waits for the target", () => {
  it("is answered when all that it overwrites is there", async () => {
    await using lab = new Lab();
    const length = 2 * MiB;
    const old = pattern(length, 1);
    const { view, write, target } = await fleece(lab, length, { ...synchronous, spillMemory: 8 * piece });
    const there = connectNode(target);
    for (let round = 0; round < 60; round++) {
      const offset = (round * 94_567) % (length - 50_000);
      const size = 1 + ((round * 7919) % 50_000);
      expect(await write(pattern(size, round + 2), offset)).toBe(0);
      expect(difference(contentOf(there, offset, size), old.subarray(offset, offset + size))).toBe(-1);
    }
    await lab.end(view);
  });

  it("fails with the target's error, nothing is written or marked, and the point in time stands", async () => {
    await using lab = new Lab();
    const length = MiB;
    const old = pattern(length, 1);
    const full = faulty(length, { kind: "write", offset: 0, length: 65536, action: { error: "ENOSPC" } });
    const { view, reader, write, target, layer, node } = await fleece(lab, length, { ...synchronous }, full);
    const { bitmap } = await lab.record(layer, piece);
    expect(await write(pattern(piece, 2), 100)).toBe(ENOSPC);
    expect(await write(pattern(piece, 2), 100)).toBe(ENOSPC); // asked for anew, and tried anew
    expect(difference(contentOf(node), old)).toBe(-1);
    expect(bitmap.isEmpty()).toBe(true);
    expect(await write(pattern(piece, 2), 65536)).toBe(0); // another part of the target
    expect(view.broken).toBe(undefined);
    disarmFault(target, 0);
    expect(await write(pattern(piece, 2), 100)).toBe(0);
    const all = new Uint8Array(length);
    expect(reader.read(all, 0)).toBe(0);
    expect(difference(all, old)).toBe(-1);
    await lab.end(view);
  });

  it("fails with the target's error also where the spill is full of what that does not take, until it does", async () => {
    await using lab = new Lab();
    const length = MiB;
    const full = faulty(length, { kind: "write", action: { error: "ENOSPC" } });
    const { view, write, target } = await fleece(lab, length, { ...synchronous, spillMemory: 4 * piece }, full);
    for (let cluster = 0; cluster < 12; cluster++) {
      expect(await write(pattern(piece, 2), cluster * piece)).toBe(ENOSPC);
    }
    disarmFault(target, 0);
    await expect.poll(() => write(pattern(piece, 2), 20 * piece), { timeout: 20_000 }).toBe(0);
    await lab.end(view);
  });

  it("waits no longer than its limit, and the copy goes on without it", async () => {
    await using lab = new Lab();
    const length = MiB;
    const hanging = faulty(length, { kind: "write", nth: 1, action: { hang: true } });
    const { view, write, target, node } = await fleece(lab, length, { ...synchronous, guestDelayMaxMs: 50 }, hanging);
    expect(await write(pattern(piece, 2), 0)).toBe(timedOut);
    expect(difference(contentOf(node), pattern(length, 1))).toBe(-1);
    expect(view.broken).toBe(undefined);
    releaseHang(target);
    await expect.poll(() => view.copiedClusters, { timeout: 20_000 }).toBe(1);
    expect(await write(pattern(piece, 2), 0)).toBe(0);
    await lab.end(view);
  });

  it("fails where the old data cannot be read, and may try again", async () => {
    await using lab = new Lab();
    const length = MiB;
    const bad = faulty(length, { kind: "read", offset: 8192, length: 1, action: { error: "EIO" } });
    const { view, write, handle } = await fleece(lab, length, { ...synchronous }, undefined, bad);
    expect(await write(pattern(piece, 2), 8192)).toBe(EIO);
    expect(await write(pattern(4 * piece, 2), 4096)).toBe(EIO);
    expect(await write(pattern(piece, 2), 65536)).toBe(0);
    expect(view.broken).toBe(undefined);
    disarmFault(handle, 0);
    expect(await write(pattern(4 * piece, 2), 4096)).toBe(0);
    await lab.end(view);
  });

  it("goes on when the view ends", async () => {
    await using lab = new Lab();
    const length = MiB;
    const hanging = faulty(length, { kind: "write", action: { hang: true } });
    const { view, write, target, node } = await fleece(lab, length, { ...synchronous }, hanging);
    const written = write(pattern(piece, 2), 0);
    await faultReached(target, 0);
    const ended = lab.end(view);
    expect(await written).toBe(0);
    expect(difference(contentOf(node, 0, piece), pattern(piece, 2))).toBe(-1);
    releaseHang(target);
    await ended;
  });
});

describe("a drainer of a view that is read", () => {
  /** What the target is asked to write, and what is left in the spill, after one guest's write of 16 clusters. */
  async function drained(lab: Lab, fails: (offset: number, length: number) => boolean): Promise<[string[], number]> {
    const length = MiB;
    const { layer, node } = await lab.memory(length);
    node.write(pattern(length, 1), 0);
    const { view } = (await lab.view(layer, { readers: true, synchronous: true, breakGuestWrite: true })).memory;
    expect(preserveRange(view, node, 0, 3 * piece, 16 * piece)).toBe(preserveDone);
    const target = connectNode(await openNode({ driver: "memory", size: length }));
    const asked: string[] = [];
    const picky = nodeWith(target, {
      write: (buffer, offset) => {
        asked.push(`${offset / piece}+${buffer.length / piece}`);
        return fails(offset, buffer.length) ? ENOSPC : target.write(buffer, offset);
      },
    });
    const result: DrainResult = { drained: 0, errno: 0, offset: 0 };
    drain(jobOf(view, node, picky), 64, new Uint8Array(64 * 1024), result);
    const there = contentOf(target, 3 * piece, 16 * piece);
    const old = pattern(length, 1).subarray(3 * piece, 19 * piece);
    for (let at = 0; at < 16; at++) {
      const same =
        difference(there.subarray(at * piece, (at + 1) * piece), old.subarray(at * piece, (at + 1) * piece)) === -1;
      expect(same).toBe(view.isCopied(3 + at));
    }
    return [asked, view.spill.full];
  }

  it("carries neighbours in one request", async () => {
    await using lab = new Lab();
    expect(await drained(lab, () => false)).toEqual([["3+16"], 0]);
  });

  it("tries each alone where one of them fails, and leaves that one", async () => {
    await using lab = new Lab();
    const holds = (offset: number, length: number): boolean => offset <= 5 * piece && 5 * piece < offset + length;
    const [asked, left] = await drained(lab, holds);
    expect(asked).toEqual(["3+16", ...Array.from({ length: 16 }, (_, at) => `${3 + at}+1`)]);
    expect(left).toBe(1);
  });
});
