/** Every command with every flag, in all three forms of replies, against what the protocol's text says. */
import { writeFileSync } from "node:fs";
import { expect, test } from "vitest";
import { bytesOf, cmd, code, flag, type Form, u64 } from "../../testing/raw-client.ts";
import { expectSame, KiB, MiB, pattern, Served } from "./served.fixture.ts";
import { u32 } from "../server/option-wire.fixture.ts";

const forms: readonly Form[] = ["simple", "structured", "extended"];

/** The letter of a success without data: structured replies may be simple there, extended ones never. */
const done = (form: Form): string => (form === "extended" ? "n" : "s");

/** Lengths around every limit of a session, with offsets that are aligned to nothing. */
const lengths = [
  1,
  511,
  4096,
  32 * KiB - 20,
  32 * KiB,
  64 * KiB - 1,
  64 * KiB,
  256 * KiB - 28,
  256 * KiB,
  256 * KiB + 1,
  260 * KiB,
  260 * KiB + 1,
  512 * KiB + 4095,
  MiB,
  MiB + 1,
];

test.for(forms)("%s replies: what is written is read back, whatever its length", async (form) => {
  const served = await Served.open();
  const model = pattern(4 * MiB, 1);
  const disk = await served.disk("a", model);
  const client = await served.client(served.show(disk), form);
  expect(client.size).toBe(4 * MiB);
  let offset = 3;
  for (const length of lengths) {
    const data = pattern(length, length);
    const flags = length % 2 === 0 ? flag.fua : 0;
    expect(await client.write(offset, data, flags), `write of ${length}`).toMatchObject({
      error: 0,
      chunks: done(form),
    });
    data.copy(model, offset);
    expectSame(bytesOf(await client.read(offset, length)), data, `read of ${length}`);
    if (form !== "simple") {
      const whole = await client.read(offset, length, flag.df);
      expect(whole.chunks, `read of ${length} that is not to be fragmented`).toBe("d");
      expectSame(bytesOf(whole), data, `read of ${length} in one chunk`);
    }
    offset = (offset + 12_345) % (2 * MiB);
  }
  expectSame(bytesOf(await client.read(0, 4 * MiB)), model, "all of it");
  expectSame(served.bytes(disk), model, "the image");
});

test.for(forms)("%s replies: 32 MiB at once, and a byte more is refused", async (form) => {
  const served = await Served.open();
  const disk = await served.disk("a", 33 * MiB);
  const client = await served.client(served.show(disk), form);
  const data = pattern(32 * MiB, 5);
  expect(await client.write(1, data)).toMatchObject({ error: 0 });
  expectSame(bytesOf(await client.read(1, 32 * MiB)), data, "what is read");
  expect(await client.read(0, 32 * MiB + 1)).toMatchObject({ error: code.inval });
  expect(await client.call(cmd.cache, { offset: 0, length: 32 * MiB })).toMatchObject({ error: 0 });
  expect(await client.call(cmd.cache, { offset: 0, length: 32 * MiB + 1 })).toMatchObject({ error: code.inval });
  // Its payload would have to be read: the connection ends, with a word.
  expect(
    await client.call(cmd.write, { length: 32 * MiB + 1, flags: form === "extended" ? flag.payloadLen : 0 }),
  ).toMatchObject({ error: code.inval });
  await client.closed;
  expect(client.failure).toBeUndefined();
});

test.for(["structured", "extended"] as const)(
  "%s replies: holes are told as such, and nothing else is",
  async (form) => {
    const served = await Served.open();
    const disk = await served.disk("a", 2 * MiB);
    const client = await served.client(served.show(disk), form);
    const model = Buffer.alloc(2 * MiB);
    const data = pattern(64 * KiB, 3);
    await client.write(512 * KiB, data);
    data.copy(model, 512 * KiB);
    const answer = await client.read(0, 2 * MiB);
    expect(
      answer.data.filter(({ bytes }) => bytes === undefined).reduce((sum, { length }) => sum + length, 0),
    ).toBeGreaterThan(MiB);
    expectSame(bytesOf(answer), model, "what is read");
    expect((await client.read(0, 2 * MiB, flag.df)).chunks).toBe("d");
  },
);

test.for(forms)("%s replies: flush, discard, zeroes and caching, with their flags", async (form) => {
  const served = await Served.open();
  const model = pattern(5 * MiB, 9);
  const disk = await served.disk("a", model);
  const client = await served.client(served.show(disk), form);
  const fine = { error: 0, chunks: done(form), data: [] };
  const { fua, noHole } = flag;
  expect(await client.call(cmd.flush)).toEqual({ ...fine, text: "", status: new Map() });
  expect(await client.call(cmd.flush, { flags: fua, offset: 2n ** 63n, length: 77 })).toMatchObject(fine);
  expect(await client.read(5, 3, fua)).toMatchObject({ error: 0 });
  expect(await client.call(cmd.cache, { offset: 7, length: MiB + 3 })).toMatchObject(fine);
  expect(await client.call(cmd.cache, { offset: 7, length: 0, flags: fua })).toMatchObject(fine);
  for (const [type, flags] of [
    [cmd.trim, 0],
    [cmd.trim, fua],
    [cmd.zeroes, 0],
    [cmd.zeroes, fua],
    [cmd.zeroes, noHole],
    [cmd.zeroes, noHole | fua],
  ]) {
    for (const length of [0, 1, 4097, MiB, 2 * MiB + 5]) {
      const offset = 1000 * flags + length + 1;
      expect(await client.call(type, { offset, length, flags }), `${type} ${flags} ${length}`).toMatchObject(fine);
      model.fill(0, offset, offset + length); // a discard of a file gives zeroes, the byte-exact way
      expectSame(bytesOf(await client.read(0, 5 * MiB)), model, `command ${type}, flags ${flags}, length ${length}`);
      const data = pattern(length, flags + length);
      await client.write(offset, data);
      data.copy(model, offset);
    }
  }
  for (const length of [0, 1]) expect(await client.write(5 * MiB - length, Buffer.alloc(length))).toMatchObject(fine);
  model[5 * MiB - 1] = 0;
  expect(await client.read(5 * MiB, 0)).toMatchObject({ error: 0, data: [], chunks: form === "simple" ? "s" : "n" });
  expectSame(served.bytes(disk), model, "the image");
});

test("fast zeroes: done where that is fast, else ENOTSUP and nothing happened", async () => {
  const served = await Served.open();
  const image = pattern(4 * MiB, 2);
  const disk = await served.disk("a", image);
  const client = await served.client(served.show(disk));
  // Holes can be punched everywhere; tmpfs does not know ZERO_RANGE, which is what zeroes without a hole are.
  expect(await client.call(cmd.zeroes, { offset: 1, length: MiB, flags: flag.fastZero })).toMatchObject({ error: 0 });
  image.fill(0, 1, 1 + MiB);
  const slow = await client.call(cmd.zeroes, { offset: 2 * MiB, length: MiB, flags: flag.fastZero | flag.noHole });
  expect(slow.error).toBe(code.notSup);
  expect(slow.chunks).toBe("e");
  expectSame(served.bytes(disk), image, "the image");
  const faulty = await served.disk("b", MiB, [{ kind: "read", armed: false, action: { error: "EIO" } }]);
  const other = await served.client(served.show(faulty));
  expect(await other.call(cmd.zeroes, { length: 512, flags: flag.fastZero })).toMatchObject({ error: code.notSup });
});

test("lengths of 64 bits: effects of 5 GiB, and extents of 8 GiB", async () => {
  const GiB = 2 ** 30;
  const served = await Served.open();
  const disk = await served.attach("a", { driver: "null-co", size: 9 * GiB, readZeroes: true });
  const bitmap = await served.record(disk, MiB);
  const name = served.show(disk, { bitmaps: [{ name: "b", bitmap: bitmap.bitmap.handle }] });
  const contexts = ["base:allocation", "qemu:dirty-bitmap:b"];
  const client = await served.client(name, "extended", contexts);
  const b = client.contexts.get("qemu:dirty-bitmap:b") ?? -1;
  expect(await client.call(cmd.trim, { offset: GiB, length: 5 * GiB })).toMatchObject({ error: 0 });
  const answer = await client.call(cmd.status, { offset: 0, length: 9 * GiB });
  expect(answer.status.get(b)).toEqual([
    [GiB, 0],
    [5 * GiB, 1],
    [3 * GiB, 0],
  ]);
  const total = [...(answer.status.get(client.contexts.get("base:allocation") ?? -1) ?? [])];
  expect(total.reduce((sum, [length]) => sum + length, 0)).toBe(9 * GiB);
  expect(await client.call(cmd.zeroes, { offset: 1, length: 9 * GiB })).toMatchObject({ error: code.noSpace });
  expect(await client.call(cmd.trim, { offset: 1, length: 2n ** 64n - 1n })).toMatchObject({ error: code.inval });
  const narrow = await served.client(name, "structured", contexts);
  const part = await narrow.call(cmd.status, { offset: GiB, length: 2 ** 32 - 1 });
  expect(part.status.get(narrow.contexts.get("qemu:dirty-bitmap:b") ?? -1)).toEqual([[2 ** 32 - 1, 1]]);
});

test.for(["structured", "extended"] as const)("%s replies: block status of several contexts", async (form) => {
  const served = await Served.open();
  const disk = await served.disk("a", 4 * MiB);
  const one = await served.record(disk, 64 * KiB);
  const client0 = await served.client(served.show(disk));
  await client0.write(MiB + 1, pattern(64 * KiB, 1));
  const two = await served.record(disk, 4 * KiB);
  await client0.write(3 * MiB, pattern(1, 1));
  const bitmaps = [
    { name: "one", bitmap: one.bitmap.handle },
    { name: "two", bitmap: two.bitmap.handle },
  ];
  served.show(disk, { name: "b", bitmaps, allocationDepth: true, writable: false });
  const contexts = ["base:allocation", "qemu:allocation-depth", "qemu:dirty-bitmap:one", "qemu:dirty-bitmap:two"];
  const client = await served.client("b", form, contexts);
  const ids = contexts.map((name) => client.contexts.get(name) ?? -1);
  expect(new Set(ids).size).toBe(4);
  const answer = await client.call(cmd.status, { offset: 0, length: 4 * MiB });
  expect(answer.chunks).toBe("tttt");
  // tmpfs keeps pages of 4 KiB.
  const data = [MiB, 64 * KiB + 4 * KiB, 3 * MiB, 4 * KiB];
  const hole = [data[0], 2 * MiB - data[1], MiB - data[3]];
  const rows = (clean: number, dirty: number, lengths: readonly number[]): [number, number][] =>
    lengths.map((length, index) => [length, index % 2 === 0 ? clean : dirty]);
  expect(answer.status.get(ids[0])).toEqual(rows(3, 0, [hole[0], data[1], hole[1], data[3], hole[2]]));
  expect(answer.status.get(ids[1])).toEqual(rows(0, 1, [hole[0], data[1], hole[1], data[3], hole[2]]));
  expect(answer.status.get(ids[2])).toEqual(
    rows(0, 1, [MiB, 128 * KiB, 2 * MiB - 128 * KiB, 64 * KiB, MiB - 64 * KiB]),
  );
  expect(answer.status.get(ids[3])).toEqual(rows(0, 1, [3 * MiB, 4 * KiB, MiB - 4 * KiB]));

  const single = await client.call(cmd.status, { offset: MiB + 5, length: MiB, flags: flag.reqOne });
  expect(single.status.get(ids[0])).toEqual([[64 * KiB + 4 * KiB - 5, 0]]);
  expect(single.status.get(ids[2])).toEqual([[128 * KiB - 5, 1]]);
  expect(single.status.get(ids[3])).toEqual([[MiB, 0]]);
  expect(await client.call(cmd.status, { offset: 0, length: 0 })).toMatchObject({ error: code.inval });
  const without = await served.client("b", form);
  expect(await without.call(cmd.status, { offset: 0, length: 512 })).toMatchObject({ error: code.inval });
});

test("block status of some of the contexts, which a payload names", async () => {
  const served = await Served.open();
  const disk = await served.disk("a", MiB);
  const bitmap = await served.record(disk);
  const name = served.show(disk, { bitmaps: [{ name: "b", bitmap: bitmap.bitmap.handle }] });
  const client = await served.client(name, "extended", ["base:allocation", "qemu:dirty-bitmap:b"]);
  const [base, b] = [...client.contexts.values()];
  const ask = (length: number | bigint, ...ids: number[]): ReturnType<typeof client.call> =>
    client.call(cmd.status, { offset: 4096, payload: Buffer.concat([u64(length), ...ids.map(u32)]) });
  expect([...(await ask(8192, b)).status]).toEqual([[b, [[8192, 0]]]]);
  expect(new Set((await ask(8192, b, base)).status.keys())).toEqual(new Set([base, b]));
  for (const wrong of [ask(8192, 77), ask(8192, b, b), ask(0, b), ask(MiB, b), ask(2n ** 64n - 1n, b)]) {
    expect(await wrong).toMatchObject({ error: code.inval });
  }
  expect(await client.call(cmd.flush)).toMatchObject({ error: 0 });
});

test("many extents: as many as an answer holds, and the next question goes on from there", async () => {
  const served = await Served.open();
  const length = 16 * MiB;
  const disk = await served.attach("a", { driver: "memory", size: length });
  const bitmap = await served.record(disk, 512);
  const name = served.show(disk, { bitmaps: [{ name: "b", bitmap: bitmap.bitmap.handle }] });
  const client = await served.client(name, "structured", ["base:allocation", "qemu:dirty-bitmap:b"]);
  const b = client.contexts.get("qemu:dirty-bitmap:b") ?? -1;
  const calls = [];
  for (let granule = 0; granule < length / 512; granule += 2) calls.push(client.write(granule * 512, Buffer.of(1)));
  await Promise.all(calls);
  const seen: (readonly [number, number])[] = [];
  let at = 0;
  while (at < length) {
    const { status } = await client.call(cmd.status, { offset: at, length: length - at });
    const extents = status.get(b) ?? [];
    expect(extents.length).toBeGreaterThan(0);
    seen.push(...extents);
    for (const extent of extents) at += extent[0];
  }
  expect(seen).toEqual(Array.from({ length: length / 512 }, (_, granule) => [512, granule % 2 === 0 ? 1 : 0]));
});

test("writes, discards and zeroes mark exactly the granules that they touch", async () => {
  const served = await Served.open();
  const length = 8 * MiB;
  const disk = await served.disk("a", length);
  const bitmaps = [];
  for (const granularity of [512, 64 * KiB, MiB])
    bitmaps.push({ granularity, recorder: await served.record(disk, granularity), model: new Set<number>() });
  const client = await served.client(served.show(disk));
  const ranges: [number, number][] = [
    [0, 1],
    [511, 1],
    [512, 0],
    [1023, 2],
    [65535, 1],
    [65536 * 3 - 1, 2],
    [65536 * 5, 65536],
    [MiB - 1, MiB + 2],
    [length - 1, 1],
  ];
  for (const [index, [offset, size]] of ranges.entries()) {
    const type = [cmd.write, cmd.trim, cmd.zeroes][index % 3];
    const wish = type === cmd.write ? { offset, payload: pattern(size, 1) } : { offset, length: size };
    expect(await client.call(type, wish)).toMatchObject({ error: 0 });
    for (const { granularity, model } of bitmaps) {
      for (let granule = Math.floor(offset / granularity); granule * granularity < offset + size; granule++)
        model.add(granule);
    }
  }
  await client.read(0, length);
  await client.call(cmd.flush);
  await client.call(cmd.cache, { length });
  for (const { granularity, recorder, model } of bitmaps) {
    const dirty = new Set<number>();
    for (const extent of recorder.bitmap.extents()) {
      for (let at = extent.offset; at < extent.offset + extent.length; at += granularity) dirty.add(at / granularity);
    }
    expect(
      [...dirty].sort((x, y) => x - y),
      `granularity ${granularity}`,
    ).toEqual([...model].sort((x, y) => x - y));
  }
});

test("a node with blocks of its own size refuses what is not aligned to them", async () => {
  const served = await Served.open();
  const file = `${served.directory}/driver.mjs`;
  // Memory whose blocks are 4 KiB.
  const block = new URL(import.meta.resolve("@heirloom/block")).href;
  writeFileSync(
    file,
    `import { connectNode } from ${JSON.stringify(block)};
     export const driver = {
       open: (options, context) => {
         const child = context.open({ driver: "memory", size: 1048576 });
         return { driver: ${JSON.stringify(`file://${file}`)}, readOnly: false, alignment: 4096, clusterSize: 0, identity: "own", state: {}, children: [child] };
       },
       connect: (handle, context) => context.connect(handle.children[0]),
       close: (handle, context) => context.close(handle.children[0]),
     };`,
  );
  const disk = await served.attach("a", { driver: `file://${file}` });
  const client = await served.client(served.show(disk), "structured", ["base:allocation"]);
  expect(await client.write(4096, pattern(4096, 1))).toMatchObject({ error: 0 });
  expect(await client.write(4096, pattern(512, 1))).toMatchObject({ error: code.inval });
  expect(await client.write(1, pattern(4096, 1))).toMatchObject({ error: code.inval });
  for (const type of [cmd.read, cmd.trim, cmd.zeroes, cmd.cache, cmd.status]) {
    expect(await client.call(type, { offset: 4096, length: 4096 })).toMatchObject({ error: 0 });
    expect(await client.call(type, { offset: 512, length: 4096 })).toMatchObject({ error: code.inval });
    expect(await client.call(type, { offset: 4096, length: 1 })).toMatchObject({ error: code.inval });
  }
  await client.write(4096, pattern(4096, 2));
  expectSame(bytesOf(await client.read(4096, 4096)), pattern(4096, 2), "the block");
});
