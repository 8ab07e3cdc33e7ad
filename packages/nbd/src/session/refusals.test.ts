/** Requests that are refused: the error that the protocol's text wants, nothing changed, and the connection goes on. */
import { expect, test } from "vitest";
import { bytesOf, cmd, code, flag, type Form, type Wish } from "../../testing/raw-client.ts";
import { expectSame, KiB, MiB, pattern, Served } from "./served.fixture.ts";

const size = MiB + 512;
const far = 2n ** 63n;
const farthest = 2n ** 64n - 1n;
const bytes = (length: number): Buffer => pattern(length, 99);

interface Row {
  readonly what: string;
  readonly type: number;
  readonly wish: Wish;
  readonly error: number;
  readonly text: RegExp;
}
const past = /operation past EOF; From: \d+, Len: \d+, Size: 1049088/;
const rows: readonly Row[] = [
  { what: "an unknown command", type: 8, wish: {}, error: code.inval, text: /invalid request type \(8\) received/ },
  { what: "another", type: 65535, wish: { flags: 0x8000 }, error: code.inval, text: /invalid request type \(65535\)/ },
  { what: "a read past the end", type: cmd.read, wish: { offset: size - 1, length: 2 }, error: code.inval, text: past },
  { what: "a read far past it", type: cmd.read, wish: { offset: far, length: 1 }, error: code.inval, text: past },
  {
    what: "a read at the last byte of all",
    type: cmd.read,
    wish: { offset: farthest, length: 1 },
    error: code.inval,
    text: past,
  },
  {
    what: "a write past the end",
    type: cmd.write,
    wish: { offset: size - 1, payload: bytes(2) },
    error: code.noSpace,
    text: past,
  },
  {
    what: "a long write past it",
    type: cmd.write,
    wish: { offset: 4096, payload: bytes(MiB) },
    error: code.noSpace,
    text: past,
  },
  {
    what: "a write far past it",
    type: cmd.write,
    wish: { offset: far, payload: bytes(512) },
    error: code.noSpace,
    text: past,
  },
  {
    what: "a long write far past it",
    type: cmd.write,
    wish: { offset: far + 1n, payload: bytes(300 * KiB + 1) },
    error: code.noSpace,
    text: past,
  },
  {
    what: "a write at the last byte of all",
    type: cmd.write,
    wish: { offset: farthest, payload: bytes(1025) },
    error: code.noSpace,
    text: past,
  },
  { what: "zeroes past the end", type: cmd.zeroes, wish: { offset: size, length: 1 }, error: code.noSpace, text: past },
  { what: "zeroes far past it", type: cmd.zeroes, wish: { offset: far, length: 1 }, error: code.noSpace, text: past },
  { what: "a discard past the end", type: cmd.trim, wish: { offset: size, length: 1 }, error: code.inval, text: past },
  { what: "caching past the end", type: cmd.cache, wish: { offset: size, length: 1 }, error: code.inval, text: past },
  { what: "status past the end", type: cmd.status, wish: { offset: 1, length: size }, error: code.inval, text: past },
  {
    what: "status of nothing",
    type: cmd.status,
    wish: { offset: 1, length: 0 },
    error: code.inval,
    text: /non-zero length/,
  },
  {
    what: "a read with a strange flag",
    type: cmd.read,
    wish: { length: 1, flags: flag.noHole },
    error: code.inval,
    text: /unsupported flags for command read \(got 0x2\)/,
  },
  {
    what: "a write with one",
    type: cmd.write,
    wish: { payload: bytes(512), flags: flag.reqOne },
    error: code.inval,
    text: /unsupported flags for command write/,
  },
  {
    what: "a long write with one",
    type: cmd.write,
    wish: { payload: bytes(300 * KiB), flags: 0x100 },
    error: code.inval,
    text: /unsupported flags for command write/,
  },
  {
    what: "a flush with one",
    type: cmd.flush,
    wish: { flags: flag.df },
    error: code.inval,
    text: /unsupported flags for command flush/,
  },
  {
    what: "a discard with one",
    type: cmd.trim,
    wish: { length: 1, flags: flag.noHole },
    error: code.inval,
    text: /unsupported flags for command trim/,
  },
  {
    what: "caching with one",
    type: cmd.cache,
    wish: { length: 1, flags: flag.reqOne },
    error: code.inval,
    text: /unsupported flags for command cache/,
  },
  {
    what: "zeroes with one",
    type: cmd.zeroes,
    wish: { length: 1, flags: flag.df },
    error: code.inval,
    text: /unsupported flags for command write zeroes/,
  },
  {
    what: "status with one",
    type: cmd.status,
    wish: { length: 1, flags: flag.fastZero },
    error: code.inval,
    text: /unsupported flags for command block status/,
  },
];
const changes: readonly Row[] = [
  { what: "a write", type: cmd.write, wish: { payload: bytes(512) }, error: code.perm, text: /Export is read-only/ },
  {
    what: "a long write",
    type: cmd.write,
    wish: { payload: bytes(300 * KiB) },
    error: code.perm,
    text: /Export is read-only/,
  },
  {
    what: "a write past the end",
    type: cmd.write,
    wish: { offset: size, payload: bytes(512) },
    error: code.perm,
    text: /Export is read-only/,
  },
  { what: "a discard", type: cmd.trim, wish: { length: 512 }, error: code.perm, text: /Export is read-only/ },
  {
    what: "zeroes",
    type: cmd.zeroes,
    wish: { length: 512, flags: flag.fastZero },
    error: code.perm,
    text: /Export is read-only/,
  },
];

for (const form of ["simple", "structured", "extended"] as const satisfies readonly Form[]) {
  test(`${form} replies: what is refused changes nothing, and the connection goes on`, async () => {
    const served = await Served.open();
    const image = pattern(size, 4);
    const disk = await served.disk("a", image);
    const bitmap = await served.record(disk, 512);
    const contexts = form === "simple" ? [] : ["base:allocation"];
    for (const writable of [true, false]) {
      const name = served.show(disk, { name: writable ? "w" : "r", writable });
      const client = await served.client(name, form, contexts);
      for (const { what, type, wish, error, text } of writable ? rows : [...changes, ...rows.slice(0, 5)]) {
        const answer = await client.call(type, wish);
        const told =
          form === "simple"
            ? { error, text: "", chunks: "s" }
            : { error, text: expect.stringMatching(text), chunks: "e" };
        if (form === "simple" && type === cmd.status) expect(answer.error, what).toBe(code.inval);
        else expect(answer, what).toMatchObject(told);
        expect(bytesOf(await client.read(8, 1)), `a read after ${what}`).toEqual(image.subarray(8, 9));
      }
      expect(client.failure).toBeUndefined();
    }
    expectSame(served.bytes(disk), image, "the image");
    expect(bitmap.bitmap.isEmpty()).toBe(true);
  });
}

test("a read that is not to be fragmented is refused where replies cannot be", async () => {
  const served = await Served.open();
  const client = await served.client(served.show(await served.disk("a", MiB)), "simple");
  expect(await client.read(0, 1, flag.df)).toMatchObject({ error: code.inval });
});

test("a payload where none is taken is thrown away, and refused", async () => {
  const served = await Served.open();
  const disk = await served.disk("a", size);
  const client = await served.client(served.show(disk), "extended", ["base:allocation"]);
  for (const type of [cmd.read, cmd.flush, cmd.trim, cmd.cache, cmd.zeroes, 9]) {
    for (const length of [0, 1, 4096, 300 * KiB]) {
      const answer = await client.call(type, { offset: 0, payload: bytes(length) });
      expect(answer, `command ${type} with ${length} bytes`).toMatchObject({ error: code.inval });
    }
  }
  for (const length of [1, 8, 9, 14, 5000]) {
    expect(await client.call(cmd.status, { payload: bytes(length) }), `${length} bytes`).toMatchObject({
      error: code.inval,
    });
  }
  expect(await client.read(0, 512)).toMatchObject({ error: 0 });
  const endless = client.call(cmd.flush, { length: 2n ** 40n, flags: flag.payloadLen });
  expect(await endless).toMatchObject({ error: code.inval });
  await client.closed;
});

test("a write that does not say that it has a payload is refused, and the connection ends", async () => {
  const served = await Served.open();
  const disk = await served.disk("a", size);
  const client = await served.client(served.show(disk), "extended");
  expect(await client.call(cmd.write, { length: 512 })).toMatchObject({ error: code.inval });
  await client.closed;
});

test("errors of a disk, as the wire has them", async () => {
  const known: Record<string, number> = {
    EPERM: 1,
    EROFS: 1,
    EIO: 5,
    ENOMEM: 12,
    ENOSPC: 28,
    EDQUOT: 28,
    EFBIG: 28,
    EOVERFLOW: 75,
    ENOTSUP: 95,
    EINVAL: 22,
    EACCES: 22,
    ETIMEDOUT: 22,
  };
  const names = Object.keys(known);
  const served = await Served.open();
  const rules = names.map(
    (error, index) => ({ kind: "any", offset: index * 65536, length: 65536, action: { error } }) as const,
  );
  const flush = { kind: "flush", action: { error: "EIO" } } as const;
  const disk = await served.disk("a", pattern(4 * MiB, 1), [...rules, flush]);
  const client = await served.client(served.show(disk), "structured", ["base:allocation"]);
  const plain = await served.client("a", "simple");
  for (const [index, name] of names.entries()) {
    const wish = { offset: index * 65536, length: 512 };
    const failed = { error: known[name], chunks: "e" };
    expect(await client.call(cmd.read, wish), name).toMatchObject({ ...failed, text: "reading from file failed" });
    expect(await client.call(cmd.write, { offset: wish.offset, payload: bytes(512) })).toMatchObject({
      ...failed,
      text: "writing to file failed",
    });
    expect(await client.call(cmd.trim, wish)).toMatchObject({ ...failed, text: "discard failed" });
    expect(await client.call(cmd.zeroes, wish)).toMatchObject({ ...failed, text: "writing to file failed" });
    expect(await client.call(cmd.cache, wish)).toMatchObject({ ...failed, text: "caching data failed" });
    expect(await client.call(cmd.status, wish)).toMatchObject({ ...failed, text: "can't get block status" });
    expect(await plain.call(cmd.read, wish)).toMatchObject({ error: known[name], chunks: "s" });
    // A read that begins well fails as a whole, whatever of it was sent.
    const long = await client.call(cmd.read, { offset: 2 * MiB, length: 512 });
    expect(long.error).toBe(0);
  }
  const halfway = await client.call(cmd.read, { offset: names.length * 65536 - 65536, length: 3 * MiB });
  expect(halfway).toMatchObject({ error: 22, text: "reading from file failed" });
  expect(await client.call(cmd.flush)).toMatchObject({ error: 5, text: "flush failed" });
  expect(await client.call(cmd.write, { offset: 2 * MiB, payload: bytes(512), flags: flag.fua })).toMatchObject({
    error: 5,
  });
});

test("a stream that is no request ends the connection, and what came before is answered", async () => {
  const served = await Served.open();
  const disk = await served.disk("a", pattern(size, 1));
  for (const form of ["simple", "structured", "extended"] as const) {
    const name = served.show(disk, { name: form });
    const client = await served.client(name, form);
    const { bytes: first, answer } = client.prepare(cmd.read, { length: 4096 });
    const flushed = client.prepare(cmd.flush);
    client.raw(first, flushed.bytes, Buffer.alloc(64, 0x41));
    expect(bytesOf(await answer)).toEqual(pattern(size, 1).subarray(0, 4096));
    expect(await flushed.answer).toMatchObject({ error: 0 });
    await client.closed;
    await served.until(() => served.events.some((event) => event.type === "disconnected" && event.export === name));
    expect(served.events.findLast(({ type }) => type === "disconnected")).toMatchObject({
      reason: "the client sent something that is not a request",
    });
  }
});
