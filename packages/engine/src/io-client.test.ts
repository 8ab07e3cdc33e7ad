import { describe, expect, it } from "vitest";
import { EFAULT, faultReached, releaseHang } from "@heirloom/block";
import {
  operationDiscard,
  operationFlush,
  operationRead,
  operationReadView,
  operationWrite,
  operationWriteZeroes,
  requestBytesMax,
  ThreadDied,
} from "@heirloom/engine";
import { contentOf, difference, KiB, Lab, MiB, pattern } from "./lab.fixture.ts";

describe("the main thread's requests", () => {
  it("are answered each with its own, many more at once than the ring has entries", async () => {
    await using lab = new Lab();
    const { layer } = await lab.memory(4 * MiB);
    const io = lab.engine.io(layer);
    const blocks = 1024;
    const writes = Array.from({ length: blocks }, (_, at) =>
      io.request(operationWrite, layer.id, at * 4096, 512, pattern(512, at)),
    );
    expect((await Promise.all(writes)).every((errno) => errno === 0)).toBe(true);
    const read = Array.from({ length: blocks }, () => new Uint8Array(512));
    const reads = read.map((buffer, at) => io.request(operationRead, layer.id, at * 4096, 512, buffer));
    expect((await Promise.all(reads)).every((errno) => errno === 0)).toBe(true);
    for (let at = 0; at < blocks; at++) expect(difference(read[at], pattern(512, at))).toBe(-1);
  });

  it("carry 1 MiB each, with more data at once than the ring of bytes holds, at sizes that do not divide it", async () => {
    await using lab = new Lab();
    const { layer, node } = await lab.memory(24 * MiB);
    const io = lab.engine.io(layer);
    const sizes = Array.from({ length: 40 }, (_, at) => (at % 3 === 0 ? requestBytesMax : at % 3 === 1 ? 700_001 : 3));
    let offset = 0;
    const all: { offset: number; data: Uint8Array }[] = [];
    for (const [at, size] of sizes.entries()) {
      all.push({ offset, data: pattern(size, at) });
      offset += size;
    }
    await Promise.all(all.map((one) => io.request(operationWrite, layer.id, one.offset, one.data.length, one.data)));
    for (const one of all) expect(difference(contentOf(node, one.offset, one.data.length), one.data)).toBe(-1);
    const buffers = all.map((one) => new Uint8Array(one.data.length));
    await Promise.all(
      all.map((one, at) => io.request(operationRead, layer.id, one.offset, one.data.length, buffers[at])),
    );
    for (const [at, one] of all.entries()) expect(difference(buffers[at], one.data)).toBe(-1);
  });

  it("begin anew at the front of the ring of bytes where they do not fit behind one that is still under way", async () => {
    await using lab = new Lab({ ioThreadsMax: 1 });
    const rules = [{ kind: "write", once: true, action: { hang: true } }];
    const hung = await lab.disk({ driver: "fault", file: { driver: "memory", size: MiB }, rules });
    const { layer, node } = await lab.memory(MiB);
    const io = lab.engine.io(layer);
    lab.engine.io(hung.layer);
    const before = Array.from({ length: 7 }, () => io.request(operationWrite, layer.id, 0, MiB, pattern(MiB, 1)));
    const atTheEnd = io.request(operationWrite, hung.layer.id, 0, MiB - 1000, pattern(MiB - 1000, 2));
    await Promise.all(before);
    await faultReached(hung.handle, 0);
    const behind = io.request(operationWrite, layer.id, 0, 3000, pattern(3000, 3));
    await Promise.resolve();
    releaseHang(hung.handle);
    expect(await Promise.all([atTheEnd, behind])).toEqual([0, 0]);
    expect(difference(contentOf(hung.node, 0, MiB - 1000), pattern(MiB - 1000, 2))).toBe(-1);
    expect(difference(contentOf(node, 0, 3000), pattern(3000, 3))).toBe(-1);
  });

  it("keep their order on one disk", async () => {
    await using lab = new Lab();
    const { layer, node } = await lab.memory(MiB);
    const io = lab.engine.io(layer);
    await Promise.all([
      io.request(operationWrite, layer.id, 0, 4096, pattern(4096, 1)),
      io.request(operationDiscard, layer.id, 0, 2048),
      io.request(operationWrite, layer.id, 512, 512, pattern(512, 2)),
      io.request(operationWriteZeroes, layer.id, 600, 100, undefined, 1),
      io.request(operationFlush, layer.id, 0, 0),
    ]);
    const expected = pattern(4096, 1);
    expected.fill(0, 0, 2048);
    expected.set(pattern(512, 2), 512);
    expected.fill(0, 600, 700);
    expect(difference(contentOf(node, 0, 4096), expected)).toBe(-1);
  });

  it("are answered although a later one of the same batch hangs", async () => {
    await using lab = new Lab({ ioThreadsMax: 1 });
    const rules = [{ kind: "write", always: true, action: { hang: true } }];
    const hung = await lab.disk({ driver: "fault", file: { driver: "memory", size: MiB }, rules });
    const { layer } = await lab.memory(MiB);
    const [io, same] = [lab.engine.io(layer), lab.engine.io(hung.layer)];
    expect(same).toBe(io);
    const first = io.request(operationWrite, layer.id, 0, 512, pattern(512, 1));
    const second = io.request(operationWrite, hung.layer.id, 0, 512, pattern(512, 1));
    expect(await first).toBe(0);
    await faultReached(hung.handle, 0);
    releaseHang(hung.handle);
    expect(await second).toBe(0);
  });

  it("are rejected when the server's thread dies, and the next one starts another that knows the disks", async () => {
    await using lab = new Lab();
    const rules = [{ kind: "write", once: true, offset: 512 * KiB, length: 4096, action: { exit: true } }];
    const dying = await lab.disk({ driver: "fault", file: { driver: "memory", size: MiB }, rules });
    const view = await lab.view(dying.layer);
    const { layer } = dying;
    const io = lab.engine.io(layer);
    expect(await io.request(operationWrite, layer.id, 0, 512, pattern(512, 1))).toBe(0);
    const lost = [1, 2, 3].map((count) =>
      io.request(operationWrite, layer.id, count === 1 ? 512 * KiB : 0, 512, pattern(512, count)),
    );
    for (const one of await Promise.allSettled(lost)) {
      expect(one.status).toBe("rejected");
      if (one.status === "rejected") expect(one.reason).toBeInstanceOf(ThreadDied);
    }
    expect(view.broken?.reason).toBe("thread-died");
    expect(await io.request(operationWrite, layer.id, 4096, 512, pattern(512, 9))).toBe(0);
    expect(difference(contentOf(dying.node, 4096, 512), pattern(512, 9))).toBe(-1);
    expect((await lab.change(layer, { views: [] }, () => view.stop())).tries).toBeLessThanOrEqual(2); // nobody is left inside
    await view.release();
  });

  it("read a point in time by its number, until the server has let go of it", async () => {
    await using lab = new Lab();
    const { layer, node } = await lab.memory(MiB);
    node.write(pattern(MiB, 1), 0);
    const view = await lab.view(layer, { readers: true });
    const number = lab.engine.adoptView(view);
    const io = lab.engine.io(layer);
    await io.request(operationWrite, layer.id, 1000, 5000, pattern(5000, 2));
    const buffer = new Uint8Array(MiB);
    expect(await io.request(operationReadView, number, 0, MiB, buffer)).toBe(0);
    expect(difference(buffer, pattern(MiB, 1))).toBe(-1);
    await io.forget(number);
    expect(await io.request(operationReadView, number, 0, MiB, buffer)).not.toBe(0);
    await lab.end(view);
    lab.expectFreeIsZero();
  });

  it("whose memory is transferred away are answered EFAULT, and those beside them are served", async () => {
    await using lab = new Lab();
    const { layer, node } = await lab.memory(MiB);
    node.write(pattern(MiB, 1), 0);
    const io = lab.engine.io(layer);
    const take = ({ buffer }: Uint8Array): void => void structuredClone(buffer, { transfer: [buffer as ArrayBuffer] });
    const read = (into: Uint8Array, offset: number): Promise<number> =>
      io.request(operationRead, layer.id, offset, into.length, into);
    const [early, beside, late] = [0, 1, 2].map(() => new Uint8Array(4096));
    const gone = pattern(4096, 2);
    const answers = [read(early, 0), read(beside, 4096), io.request(operationWrite, layer.id, 8192, 4096, gone)];
    take(early); // before the batch is sent
    take(gone);
    answers.push(read(late, 0));
    await Promise.resolve();
    take(late); // after it was
    expect(await Promise.all(answers)).toEqual([EFAULT, 0, EFAULT, EFAULT]);
    expect(difference(beside, pattern(MiB, 1).subarray(4096, 8192))).toBe(-1);
    expect(difference(contentOf(node, 0, MiB), pattern(MiB, 1))).toBe(-1);
    expect(await read(beside, 0)).toBe(0);
  });

  it("of a disk whose memory lies in an arena that is newer than their thread are served", async () => {
    await using lab = new Lab({ ioThreadsMax: 1 });
    let { layer } = await lab.memory(MiB);
    expect(await lab.engine.io(layer).request(operationFlush, layer.id, 0, 0)).toBe(0);
    const { buffers } = lab.engine.arenas;
    const before = buffers.length;
    while (buffers.length === before) ({ layer } = await lab.disk({ driver: "null-co", size: MiB }));
    expect(await lab.engine.io(layer).request(operationFlush, layer.id, 0, 0)).toBe(0);
  });

  it("of a disk that is gone are answered with an error", async () => {
    await using lab = new Lab();
    const { layer } = await lab.memory(MiB);
    const io = lab.engine.io(layer);
    await io.request(operationFlush, layer.id, 0, 0);
    await lab.engine.removeLayer(layer);
    expect(await io.request(operationFlush, layer.id, 0, 0)).not.toBe(0);
    lab.expectFreeIsZero();
  });
});
