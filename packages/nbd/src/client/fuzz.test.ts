/**
 * A seeded fuzzer over what a server sends, in the handshake and in transmission: mutated honest bytes and plain noise. The
 * client must end each with an answer or a typed error in bounded time, touch no byte outside of its buffer, and keep no
 * memory. A failure prints its seed; FUZZ_SEED and FUZZ_RUNS repeat and extend.
 */
import type { Socket } from "node:net";
import { ClientHandshake, NbdClient, NbdError } from "@heirloom/nbd";
import { describe, expect, onTestFinished, test } from "vitest";
import { lyingServer, rawServer, type Request } from "./lying-server.fixture.ts";
import {
  ACK,
  bytes,
  chunk,
  context,
  extendedChunk,
  greeting,
  infoBlockSize,
  infoExport,
  listed,
  reply,
  simpleReply,
  u16,
  u32,
  u64,
  UNSUP,
} from "./wire.fixture.ts";

const seedGiven = Number(process.env.FUZZ_SEED ?? Date.now() % 2 ** 31);
const runs = Number(process.env.FUZZ_RUNS ?? 1);

/** mulberry32 */
function randomOf(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}

const INTERESTING = [0, 1, 2, 7, 8, 0x7f, 0x80, 0xff];

/** A few of: flip, overwrite with an interesting byte, cut, double, insert, and swap of two parts. */
function mutate(source: Buffer, random: (below: number) => number): Buffer {
  let result = Buffer.from(source);
  for (let times = random(4); times >= 0; times--) {
    if (result.length === 0) return result;
    const at = random(result.length);
    switch (random(6)) {
      case 0:
        result[at] ^= 1 << random(8);
        break;
      case 1:
        result[at] = INTERESTING[random(INTERESTING.length)];
        break;
      case 2:
        result = result.subarray(0, at);
        break;
      case 3:
        result = Buffer.concat([result.subarray(0, at), result]);
        break;
      case 4:
        result = Buffer.concat([result.subarray(0, at), Buffer.alloc(random(64), random(256)), result.subarray(at)]);
        break;
      default:
        result = Buffer.concat([result.subarray(at), result.subarray(0, at)]);
    }
  }
  return result;
}

const everything = [
  bytes(
    greeting(),
    reply(11, ACK),
    reply(10, 4, context(1, "base:allocation")),
    reply(10, ACK),
    reply(7, 3, bytes(u16(1), "name")),
    reply(7, 3, bytes(u16(2), "text")),
    reply(7, 3, infoBlockSize(1, 4096, 1 << 25)),
    reply(7, 3, infoExport(1 << 20, 0x1ded)),
    reply(7, ACK),
  ),
  bytes(greeting(0), u64(512), u16(1), Buffer.alloc(124)),
  bytes(greeting(), reply(11, UNSUP), reply(8, ACK), reply(10, UNSUP), reply(7, UNSUP), u64(512), u16(1)),
  bytes("NBDMAGIC", Buffer.from("0000420281861253", "hex"), u64(512), u32(1), Buffer.alloc(124)),
];
const listing = bytes(
  greeting(),
  reply(11, UNSUP),
  reply(8, ACK),
  reply(3, 2, listed("a", "first")),
  reply(3, 2, listed("b")),
  reply(3, ACK),
  reply(6, 3, infoExport(512)),
  reply(6, ACK),
  reply(9, 4, context(0, "base:allocation")),
  reply(9, ACK),
  reply(6, 0x80000006, "gone"),
);

describe(`from seed ${seedGiven}`, () => {
  test("the handshake's machine ends or waits, for any bytes in any pieces", () => {
    for (let run = 0; run < 20_000 * runs; run++) {
      const seed = seedGiven + run;
      const random = randomOf(seed);
      const list = random(4) === 0;
      const script = mutate(list ? listing : everything[random(everything.length)], random);
      const handshake = new ClientHandshake({
        tls: random(8) === 0,
        goal: list
          ? { kind: "list" }
          : { kind: "transmission", exportName: random(2) === 0 ? "" : "x", contexts: ["base:allocation"] },
      });
      try {
        let ended = false;
        for (let at = 0; at < script.length && !ended;) {
          const size = 1 + random(script.length);
          for (const action of handshake.receive(script.subarray(at, at + size))) {
            if (action.kind === "failed") expect(action.error).toBeInstanceOf(NbdError);
            if (action.kind === "start-tls") handshake.secured();
            ended ||= action.kind === "done" || action.kind === "failed";
          }
          at += size;
        }
        const actions = handshake.ended();
        if (!ended) expect(actions.at(-1)?.kind).toBe("failed");
      } catch (cause) {
        throw new Error(`FUZZ_SEED=${seed}`, { cause });
      }
    }
  });

  const answers: ((request: Request, form: string, random: (below: number) => number) => Buffer)[] = [
    ({ cookie, offset, length }, form) =>
      form === "simple"
        ? simpleReply(cookie, 0, Buffer.alloc(length, 0x55))
        : form === "extended"
          ? extendedChunk(cookie, offset, 1, bytes(u64(offset), Buffer.alloc(length, 0x55)))
          : bytes(
              chunk(cookie, 1, bytes(u64(offset), Buffer.alloc(length / 2, 0x55)), 0),
              chunk(cookie, 2, bytes(u64(offset + length / 2), u32(length / 2))),
            ),
    ({ cookie, offset }, form) =>
      form === "extended"
        ? extendedChunk(cookie, offset, 6, bytes(u32(0), u32(2), u64(512), u64(3), u64(512), u64(0)))
        : chunk(cookie, 5, bytes(u32(0), u32(512), u32(3), u32(512), u32(0))),
    ({ cookie, offset }, form) =>
      form === "extended"
        ? extendedChunk(cookie, offset, 0x8001, bytes(u32(5), u16(4), "text"))
        : form === "structured"
          ? chunk(cookie, 0x8002, bytes(u32(28), u16(4), "text", u64(offset)))
          : simpleReply(cookie, 5),
  ];

  test(
    "transmission: each request of the client ends, nothing else is written, and the process does not grow",
    async () => {
      const forms = ["simple", "structured", "extended"] as const;
      let random = randomOf(seedGiven);
      let form: (typeof forms)[number] = "simple";
      const respond = (request: Request, socket: Socket): void => {
        const kind = request.type === 7 ? 1 : 0;
        const honest = answers[random(8) === 0 ? random(3) : kind](request, form, random);
        const sent = random(6) === 0 ? honest : mutate(honest, random);
        // Whatever is missing never comes: the end of the connection stands for the time that the client would wait.
        if (random(4) === 0) socket.write(sent);
        else socket.end(sent);
        if (!socket.writableEnded) socket.end();
      };
      const servers = new Map(
        await Promise.all(
          forms.map(async (name) => [name, await lyingServer({ form: name, onRequest: respond })] as const),
        ),
      );
      const around = new Uint8Array(4096);
      let before = 0;
      const rounds = 1500 * runs;
      for (let run = 0; run < rounds; run++) {
        const seed = seedGiven + run;
        random = randomOf(seed);
        form = forms[random(3)];
        // What the tests' own servers remember is not the client's.
        servers.get(form)!.requests.length = 0;
        try {
          const client = await NbdClient.connect(servers.get(form)!.uri, { requestTimeoutMs: 5000 });
          around.fill(0xee);
          const reading = client
            .read(around.subarray(1024, 2048), random(1024) * 1024)
            .catch((error: unknown) => error);
          const status = form === "simple" ? undefined : client.statusOf(0, 65536).catch((error: unknown) => error);
          for (const outcome of await Promise.all([reading, status])) {
            if (outcome instanceof Error) expect(outcome).toBeInstanceOf(NbdError);
          }
          for (const index of [0, 1023, 2048, 4095]) expect(around[index]).toBe(0xee);
          expect(around.subarray(0, 1024).every((byte) => byte === 0xee)).toBe(true);
          expect(around.subarray(2048).every((byte) => byte === 0xee)).toBe(true);
          client.destroy();
        } catch (cause) {
          throw new Error(`FUZZ_SEED=${seed} (${form})`, { cause });
        }
        if (run === Math.floor(rounds / 3)) before = process.memoryUsage().heapUsed;
      }
      // Two thirds of the runs later: a leak of a buffer a run would be 100 MiB.
      expect(process.memoryUsage().heapUsed - before).toBeLessThan(60 * 1024 * 1024);
    },
    120_000 * runs,
  );

  test("noise from the first byte on, over a socket", async () => {
    const random = randomOf(seedGiven);
    const server = await rawServer((socket) => {
      const noise = Buffer.from(Array.from({ length: random(200) }, () => random(256)));
      socket.end(random(2) === 0 ? noise : bytes("NBDMAGIC", noise));
    });
    for (let run = 0; run < 100 * runs; run++) {
      await expect(NbdClient.connect(server.uri, { connectTimeoutMs: 10_000 })).rejects.toBeInstanceOf(NbdError);
    }
  });
});

test("what the fuzzer calls honest is taken", async () => {
  for (const form of ["structured", "extended"] as const) {
    const server = await lyingServer({
      form,
      onRequest: ({ cookie, offset, length, type }, socket) => {
        const content = Buffer.alloc(length, 0x55);
        if (type !== 0) socket.write(form === "extended" ? extendedChunk(cookie, offset, 0) : chunk(cookie, 0));
        else if (form === "extended") socket.write(extendedChunk(cookie, offset, 1, bytes(u64(offset), content)));
        else socket.write(chunk(cookie, 1, bytes(u64(offset), content)));
      },
    });
    const client = await NbdClient.connect(server.uri);
    onTestFinished(() => client.destroy());
    const buffer = new Uint8Array(1024);
    await client.read(buffer, 4096);
    expect(buffer.every((byte) => byte === 0x55)).toBe(true);
  }
});
