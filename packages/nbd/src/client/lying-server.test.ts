/** Transmission against servers that break the protocol, on real sockets; and what the client does with those that keep it. */
import { NbdClient } from "@heirloom/nbd";
import { describe, expect, onTestFinished, test } from "vitest";
import {
  lyingServer,
  type LyingServer,
  type LyingServerOptions,
  rawServer,
  type Request,
} from "./lying-server.fixture.ts";
import { bytes, chunk, extendedChunk, greeting, simpleReply, u16, u32, u64 } from "./wire.fixture.ts";

const READ = 0;
const STATUS = 7;
const DATA = 1;
const HOLE = 2;
const STATUS_CHUNK = 5;
const STATUS_EXT = 6;
const ERROR = 0x8001;
const ERROR_OFFSET = 0x8002;

async function connect(server: LyingServer, options: Parameters<typeof NbdClient.connect>[1] = {}): Promise<NbdClient> {
  const client = await NbdClient.connect(server.uri, options);
  onTestFinished(() => client.destroy());
  return client;
}

async function serve(
  options: LyingServerOptions,
  more: Parameters<typeof connect>[1] = {},
): Promise<{ client: NbdClient; server: LyingServer }> {
  const server = await lyingServer(options);
  return { server, client: await connect(server, more) };
}

/** Answers the first request with these bytes, and no other. */
async function answerOnce(form: LyingServerOptions["form"], answer: (request: Request) => Buffer): Promise<NbdClient> {
  let answered = false;
  const { client } = await serve({
    ...(form === undefined ? {} : { form }),
    onRequest: (request, socket) => {
      if (!answered) socket.write(answer(request));
      answered = true;
    },
  });
  return client;
}

const data = (offset: number, content: Uint8Array | string): Buffer => bytes(u64(offset), content);
const hole = (offset: number, length: number): Buffer => bytes(u64(offset), u32(length));

describe("a lying answer to a read of 8 bytes at 4096 ends the connection, and no byte outside of them moves", () => {
  type Answer = (request: Request) => Buffer;
  const structured: readonly (readonly [string, Answer])[] = [
    ["a wrong magic number", () => bytes(u32(0x12345678), Buffer.alloc(16))],
    ["a simple reply with data", ({ cookie }) => simpleReply(cookie, 0, "abcdefgh")],
    ["a simple reply with an error", ({ cookie }) => simpleReply(cookie, 5)],
    ["an unknown cookie", ({ cookie }) => chunk(cookie + 1n, DATA, data(4096, "abcdefgh"))],
    ["a cookie past 2^53", () => chunk(2n ** 60n, DATA, data(4096, "abcdefgh"))],
    ["data before the range", ({ cookie }) => chunk(cookie, DATA, data(4095, "abcdefgh"))],
    ["data after the range", ({ cookie }) => chunk(cookie, DATA, data(4104, "a"))],
    ["data over the end", ({ cookie }) => chunk(cookie, DATA, data(4097, "abcdefgh"))],
    ["data at 2^64-1", ({ cookie }) => chunk(cookie, DATA, bytes(u64(2n ** 64n - 1n), "abcdefgh"))],
    ["more data than was asked for", ({ cookie }) => chunk(cookie, DATA, data(4096, "abcdefghi"))],
    [
      "data of 4 GiB",
      ({ cookie }) => bytes(u32(0x668e33ef), u16(1), u16(DATA), u64(cookie), u32(0xffffffff), u64(4096)),
    ],
    ["data of no bytes", ({ cookie }) => chunk(cookie, DATA, data(4096, ""))],
    ["data without an offset", ({ cookie }) => chunk(cookie, DATA, "abc")],
    ["a hole before the range", ({ cookie }) => chunk(cookie, HOLE, hole(4095, 8))],
    ["a hole over the end", ({ cookie }) => chunk(cookie, HOLE, hole(4097, 8))],
    ["a hole of 4 GiB", ({ cookie }) => chunk(cookie, HOLE, hole(4096, 0xffffffff))],
    [
      "a hole of 0 bytes",
      ({ cookie }) => bytes(chunk(cookie, HOLE, hole(4096, 0), 0), chunk(cookie, DATA, data(4096, "abcdefgh"))),
    ],
    ["a hole of a wrong size", ({ cookie }) => chunk(cookie, HOLE, bytes(hole(4096, 8), "x"))],
    [
      "the same bytes twice",
      ({ cookie }) => bytes(chunk(cookie, DATA, data(4096, "abcd"), 0), chunk(cookie, DATA, data(4098, "cdef"))),
    ],
    [
      "a hole over data",
      ({ cookie }) => bytes(chunk(cookie, DATA, data(4098, "abcdef"), 0), chunk(cookie, HOLE, hole(4096, 8))),
    ],
    ["too little data", ({ cookie }) => chunk(cookie, DATA, data(4096, "abcdefg"))],
    [
      "a gap",
      ({ cookie }) => bytes(chunk(cookie, DATA, data(4096, "abc"), 0), chunk(cookie, DATA, data(4100, "efgh"))),
    ],
    ["an end without data", ({ cookie }) => chunk(cookie, 0)],
    ["an end that is not the end", ({ cookie }) => chunk(cookie, 0, "", 0)],
    ["an end with a payload", ({ cookie }) => chunk(cookie, 0, "x")],
    ["block status", ({ cookie }) => chunk(cookie, STATUS_CHUNK, bytes(u32(0), u32(8), u32(0)))],
    ["a chunk of an unknown type", ({ cookie }) => chunk(cookie, 99, "x")],
    ["an error that is too short", ({ cookie }) => chunk(cookie, ERROR, u32(5))],
    ["an error whose text is longer than itself", ({ cookie }) => chunk(cookie, ERROR, bytes(u32(5), u16(9), "short"))],
    ["an error without end", ({ cookie }) => chunk(cookie, ERROR, bytes(u32(5), u16(0), Buffer.alloc(100_000)))],
    [
      "an error with an offset that is missing",
      ({ cookie }) => chunk(cookie, ERROR_OFFSET, bytes(u32(5), u16(1), "x")),
    ],
    ["an extended chunk", ({ cookie }) => extendedChunk(cookie, 4096, DATA, data(4096, "abcdefgh"))],
  ];
  const simple: readonly (readonly [string, Answer])[] = [
    ["a structured reply where simple ones were agreed", ({ cookie }) => chunk(cookie, DATA, data(4096, "abcdefgh"))],
    ["a simple reply of an unknown cookie", ({ cookie }) => simpleReply(cookie ^ 1n, 0, "abcdefgh")],
  ];
  const extended: readonly (readonly [string, Answer])[] = [
    [
      "a structured chunk where extended ones were agreed",
      ({ cookie }) => bytes(chunk(cookie, DATA, data(4096, "abcdefgh")), Buffer.alloc(32)),
    ],
    ["a simple reply where extended ones were agreed", ({ cookie }) => bytes(simpleReply(cookie), Buffer.alloc(32))],
    ["a chunk that repeats another offset", ({ cookie }) => extendedChunk(cookie, 0, DATA, data(4096, "abcdefgh"))],
    [
      "a chunk of 2^63 bytes",
      ({ cookie }) => bytes(u32(0x6e8a278c), u16(1), u16(DATA), u64(cookie), u64(4096), u64(2n ** 63n)),
    ],
  ];
  const all = [
    ...structured.map(([name, answer]) => [name, "structured", answer] as const),
    ...simple.map(([name, answer]) => [name, "simple", answer] as const),
    ...extended.map(([name, answer]) => [name, "extended", answer] as const),
  ];
  test.each(all)("%s (%s)", async (_what, form, answer) => {
    const client = await answerOnce(form, answer);
    const around = new Uint8Array(64).fill(0xee);
    await expect(client.read(around.subarray(8, 16), 4096)).rejects.toMatchObject({ code: "ERR_NBD_PROTOCOL" });
    expect([...around.subarray(0, 8), ...around.subarray(16)].every((byte) => byte === 0xee)).toBe(true);
    expect(client.connections).toBe(0);
  });

  test("a second answer to one request ends the connection", async () => {
    const client = await answerOnce("structured", ({ cookie }) => {
      const whole = chunk(cookie, DATA, data(4096, "abcdefgh"));
      return bytes(whole, whole);
    });
    await client.read(new Uint8Array(8), 4096);
    expect(client.connections).toBe(0);
  });
});

describe("honest answers in unusual shapes", () => {
  const honest: readonly (readonly [string, (request: Request) => Buffer, string])[] = [
    ["one chunk", ({ cookie }) => chunk(cookie, DATA, data(4096, "abcdefgh")), "abcdefgh"],
    [
      "data, then the end",
      ({ cookie }) => bytes(chunk(cookie, DATA, data(4096, "abcdefgh"), 0), chunk(cookie, 0)),
      "abcdefgh",
    ],
    [
      "fragments in any order, with a hole",
      ({ cookie }) =>
        bytes(
          chunk(cookie, DATA, data(4102, "gh"), 0),
          chunk(cookie, DATA, data(4096, "a"), 0),
          chunk(cookie, HOLE, hole(4099, 3), 0),
          chunk(cookie, DATA, data(4097, "bc")),
        ),
      "abc\0\0\0gh",
    ],
    ["flags that are not known", ({ cookie }) => chunk(cookie, DATA, data(4096, "abcdefgh"), 0xffff), "abcdefgh"],
  ];
  test.each(honest)("%s", async (_what, answer, expected) => {
    const client = await answerOnce("structured", answer);
    const buffer = Buffer.alloc(8, 0xee);
    await client.read(buffer, 4096);
    expect(buffer.toString("latin1")).toBe(expected);
  });

  test("each of them, cut at every byte, and then the connection ends: an error, never half an answer", async () => {
    for (const [, answer] of honest) {
      const whole = answer({ cookie: 1n } as Request);
      for (let length = 0; length < whole.length; length++) {
        const { client } = await serve({
          onRequest: (request, socket) => socket.end(answer(request).subarray(0, length)),
        });
        await expect(client.read(new Uint8Array(8), 4096)).rejects.toMatchObject({ code: "ERR_NBD_DISCONNECTED" });
      }
    }
  }, 60_000);

  test("extended chunks bring data, holes and 64-bit block status", async () => {
    const { client, server } = await serve({
      form: "extended",
      length: 2 ** 40,
      onRequest: ({ cookie, type, offset }, socket) => {
        if (type === READ) {
          socket.write(extendedChunk(cookie, offset, DATA, data(offset, "abcd"), 0));
          socket.write(extendedChunk(cookie, offset, HOLE, hole(offset + 4, 4)));
        } else if (type === STATUS) {
          const descriptors = bytes(u64(2 ** 39), u64(3), u64(2n ** 63n), u64(0));
          socket.write(extendedChunk(cookie, offset, STATUS_EXT, bytes(u32(0), u32(2), descriptors)));
        } else {
          socket.write(extendedChunk(cookie, offset, 0));
        }
      },
    });
    const buffer = Buffer.alloc(8, 0xee);
    await client.read(buffer, 2 ** 39);
    expect(buffer.toString("latin1")).toBe("abcd\0\0\0\0");
    const extents = [];
    for await (const extent of client.blockStatus("base:allocation")) extents.push(extent);
    expect(extents).toEqual([
      { offset: 0, length: 2 ** 39, flags: 3 },
      { offset: 2 ** 39, length: 2 ** 39, flags: 0 },
    ]);
    await client.write(Buffer.from("xyz"), 5, { fua: true });
    await client.trim(0, 2 ** 30);
    expect(server.requests.at(-2)).toMatchObject({
      type: 1,
      flags: 1 | 32,
      offset: 5,
      length: 3,
      payload: Buffer.from("xyz"),
    });
  });

  test.each<[string, number, number | string]>([
    ["EPERM", 1, 1],
    ["EIO", 5, 5],
    ["ENOSPC", 28, 28],
    ["ENOTSUP", 95, 95],
    ["a number that the protocol does not know", 13, 22],
    ["no number at all", 0, 22],
  ])("%s is that errno, with the server's words", async (_what, number, errno) => {
    const client = await answerOnce("structured", ({ cookie }) =>
      chunk(cookie, ERROR, bytes(u32(number), u16(7), "because")),
    );
    await expect(client.read(new Uint8Array(8), 4096)).rejects.toMatchObject({
      code: "ERR_NBD_IO",
      errno,
      offset: 4096,
      message: expect.stringContaining('"because"'),
    });
  });

  test("data and an error with an offset: the read failed, whatever came", async () => {
    const client = await answerOnce("structured", ({ cookie }) =>
      bytes(
        chunk(cookie, DATA, data(4096, "abcdefgh"), 0),
        chunk(cookie, ERROR_OFFSET, bytes(u32(5), u16(0), u64(4100))),
      ),
    );
    await expect(client.read(new Uint8Array(8), 4096)).rejects.toMatchObject({ code: "ERR_NBD_IO", errno: 5 });
  });

  test("replies in another order than the requests", async () => {
    const waiting: Request[] = [];
    const { client } = await serve({
      form: "simple",
      onRequest: (request, socket) => {
        waiting.push(request);
        if (waiting.length < 4) return;
        for (const { cookie, offset } of waiting.reverse()) socket.write(simpleReply(cookie, 0, String(offset / 512)));
      },
    });
    const buffers = await Promise.all(
      [0, 1, 2, 3].map(async (index) => {
        const buffer = Buffer.alloc(1);
        await client.read(buffer, index * 512);
        return String(buffer);
      }),
    );
    expect(buffers).toEqual(["0", "1", "2", "3"]);
  });
});

describe("block status that lies", () => {
  const two = { contexts: ["base:allocation", "qemu:dirty-bitmap:b"] };
  const status = (id: number, ...words: number[]): Buffer => bytes(u32(id), ...words.map(u32));
  test.each<[string, (request: Request) => Buffer]>([
    ["of a context that was not selected", ({ cookie }) => chunk(cookie, STATUS_CHUNK, status(7, 512, 0))],
    [
      "of one context twice",
      ({ cookie }) =>
        bytes(chunk(cookie, STATUS_CHUNK, status(0, 512, 0), 0), chunk(cookie, STATUS_CHUNK, status(0, 512, 0))),
    ],
    ["of one context of two", ({ cookie }) => chunk(cookie, STATUS_CHUNK, status(0, 512, 0))],
    ["with an extent of 0 bytes", ({ cookie }) => chunk(cookie, STATUS_CHUNK, status(0, 0, 0, 512, 0))],
    ["past the end", ({ cookie }) => chunk(cookie, STATUS_CHUNK, status(0, 4096, 0, 512, 1))],
    ["without an extent", ({ cookie }) => chunk(cookie, STATUS_CHUNK, status(0))],
    ["with half an extent", ({ cookie }) => chunk(cookie, STATUS_CHUNK, status(0, 512))],
    ["of 4 GiB", ({ cookie }) => bytes(u32(0x668e33ef), u16(1), u16(STATUS_CHUNK), u64(cookie), u32(0xfffffffc))],
    [
      "in 64 bits where 32 were agreed",
      ({ cookie }) => chunk(cookie, STATUS_EXT, bytes(u32(0), u32(1), u64(512), u64(0))),
    ],
    ["that is a simple reply", ({ cookie }) => simpleReply(cookie)],
    ["that is data", ({ cookie }) => chunk(cookie, DATA, data(0, "x"))],
    ["that is nothing", ({ cookie }) => chunk(cookie, 0)],
  ])("%s", async (_what, answer) => {
    const { client } = await serve(
      { ...two, onRequest: (request, socket) => socket.write(answer(request)) },
      { contexts: two.contexts },
    );
    await expect(client.statusOf(0, 4096)).rejects.toMatchObject({ code: "ERR_NBD_PROTOCOL" });
  });

  test("an extent that says more than was asked is cut", async () => {
    const { client } = await serve({
      onRequest: ({ cookie }, socket) => socket.write(chunk(cookie, STATUS_CHUNK, status(0, 512, 3, 0xffffffff, 0))),
    });
    expect(await client.statusOf(1024, 4096)).toEqual(
      new Map([
        [
          "base:allocation",
          [
            { offset: 1024, length: 512, flags: 3 },
            { offset: 1536, length: 3584, flags: 0 },
          ],
        ],
      ]),
    );
  });

  test("a count of extents that is wrong (extended)", async () => {
    const { client } = await serve({
      form: "extended",
      onRequest: ({ cookie, offset }, socket) =>
        socket.write(extendedChunk(cookie, offset, STATUS_EXT, bytes(u32(0), u32(2), u64(512), u64(0)))),
    });
    await expect(client.statusOf(0, 4096)).rejects.toMatchObject({ code: "ERR_NBD_PROTOCOL" });
  });
});

describe("connections", () => {
  test("a server that breaks the protocol is not asked again, whatever the delay", async () => {
    const { client, server } = await serve(
      { onRequest: (_request, socket) => socket.write("no reply at all, but long enough") },
      { reconnectDelayMs: 60_000 },
    );
    await expect(client.read(new Uint8Array(8), 0)).rejects.toMatchObject({ code: "ERR_NBD_PROTOCOL" });
    expect(server.connections()).toBe(1);
  });

  test("a connection that ends in the middle of each request is made anew, and each is answered once", async () => {
    const content = Buffer.from("0123456789abcdef".repeat(4096));
    const { client, server } = await serve(
      {
        form: "simple",
        length: content.length,
        onRequest: ({ cookie, offset, length }, socket, connection) => {
          const whole = simpleReply(cookie, 0, content.subarray(offset, offset + length));
          // Every other connection ends within a reply, each time at another byte.
          if (connection % 2 === 0) socket.end(whole.subarray(0, (connection * 7) % whole.length));
          else socket.end(whole);
        },
      },
      { reconnectDelayMs: 60_000 },
    );
    for (let offset = 0; offset < 64 * 20; offset += 64) {
      const buffer = Buffer.alloc(64);
      await client.read(buffer, offset);
      expect(buffer).toEqual(content.subarray(offset, offset + 64));
    }
    expect(server.connections()).toBeGreaterThan(20);
  });

  test("no more than the requests in flight are sent, on each of several connections", async () => {
    const held: (() => void)[] = [];
    let running = 0;
    let most = 0;
    const { client, server } = await serve(
      {
        form: "simple",
        onRequest: ({ cookie }, socket) => {
          most = Math.max(most, ++running);
          held.push(() => {
            running--;
            socket.write(simpleReply(cookie, 0, Buffer.alloc(8)));
          });
          if (held.length === 6) for (const answer of held.splice(0)) answer();
        },
      },
      { requestsInFlightMax: 2, connections: 3 },
    );
    await Promise.all(Array.from({ length: 60 }, (_, index) => client.read(new Uint8Array(8), index)));
    expect(most).toBe(6);
    expect(server.connections()).toBe(3);
  });

  test("one connection where the server does not say that several are one disk", async () => {
    const { client, server } = await serve(
      {
        form: "simple",
        flags: 0xced,
        onRequest: ({ cookie }, socket) => socket.write(simpleReply(cookie, 0, Buffer.alloc(8))),
      },
      { requestsInFlightMax: 1, connections: 3 },
    );
    await Promise.all(Array.from({ length: 20 }, (_, index) => client.read(new Uint8Array(8), index)));
    expect(server.connections()).toBe(1);
  });

  test("a flush goes over each connection that carried changes, and over no other", async () => {
    const flushed: number[] = [];
    const held: (() => void)[] = [];
    const { client } = await serve(
      {
        onRequest: ({ cookie, type }, socket, connection) => {
          if (type === 3) flushed.push(connection);
          if (type === 1) {
            // Both writes are held until each has its connection.
            held.push(() => socket.write(simpleReply(cookie)));
            if (held.length % 2 === 0) for (const answer of held.splice(0)) answer();
          } else socket.write(type === READ ? chunk(cookie, HOLE, hole(0, 8)) : simpleReply(cookie));
        },
      },
      { requestsInFlightMax: 1, connections: 2 },
    );
    await Promise.all([client.write(Buffer.from("a"), 0), client.write(Buffer.from("b"), 1)]);
    await client.flush();
    expect(flushed.toSorted((a, b) => a - b)).toEqual([0, 1]);
    await client.flush();
    expect(flushed.length).toBe(3);
  });

  test("the server hears a goodbye after the last answer, and nothing after it", async () => {
    let left: () => void = () => undefined;
    const leaving = new Promise<void>((resolve) => (left = resolve));
    const { client, server } = await serve({
      onRequest: ({ cookie, type }, socket) => {
        if (type === 2) socket.on("end", left);
        else socket.write(simpleReply(cookie));
      },
    });
    const writing = client.write(Buffer.from("x"), 0);
    await client.close();
    await writing;
    await leaving;
    expect(server.requests.map(({ type, offset, length }) => ({ type, offset, length }))).toEqual([
      { type: 1, offset: 0, length: 1 },
      { type: 2, offset: 0, length: 0 },
    ]);
  });

  test("who hears that the server shuts down leaves it, after what is on its way", async () => {
    let left: () => void = () => undefined;
    const leaving = new Promise<void>((resolve) => (left = resolve));
    const { client } = await serve({
      onRequest: ({ cookie, type }, socket) => {
        if (type === 2) left();
        else socket.write(simpleReply(cookie, 108));
      },
    });
    await expect(client.write(Buffer.from("x"), 0)).rejects.toMatchObject({ code: "ERR_NBD_IO", errno: 108 });
    await leaving;
  });

  test("a handshake that never goes on ends at its time, naming what was awaited", async () => {
    for (const [script, stage] of [
      ["", "greeting"],
      [greeting(), "EXTENDED_HEADERS"],
    ] as const) {
      const server = await rawServer((socket) => socket.write(script));
      await expect(NbdClient.connect(server.uri, { connectTimeoutMs: 100 })).rejects.toMatchObject({
        code: "ERR_NBD_TIMEOUT",
        message: expect.stringContaining(stage),
      });
    }
  });

  test("a signal ends a handshake that does not go on, and closes its socket", async () => {
    const closed = new Promise<void>((resolve) => {
      void rawServer((socket) => socket.on("close", () => resolve())).then(async (server) => {
        const controller = new AbortController();
        const connecting = NbdClient.connect(server.uri, { signal: controller.signal });
        setImmediate(() => controller.abort(new Error("enough")));
        await expect(connecting).rejects.toThrow("enough");
      });
    });
    await closed;
  });

  test("a write that was aborted while the socket still reads its buffer rejects when it has been read, or is gone", async () => {
    let arrived: (request: Request) => void = () => undefined;
    const arriving = new Promise<Request>((resolve) => (arrived = resolve));
    const { client } = await serve({ onRequest: (request) => arrived(request) });
    const controller = new AbortController();
    const buffer = Buffer.alloc(1 << 20, 7);
    const writing = client.write(buffer, 0, { signal: controller.signal });
    controller.abort(new Error("enough"));
    await expect(writing).rejects.toThrow("enough");
    buffer.fill(9);
    // What the server got is what was in the buffer at the call.
    expect((await arriving).payload.every((byte) => byte === 7)).toBe(true);
  });
});
