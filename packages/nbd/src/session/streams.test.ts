/** Requests as they come over a stream: in pieces, in floods, with an end in the middle, from clients that do not read. */
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { bytesOf, cmd, code, flag, type RawNbd, requestBytes } from "../../testing/raw-client.ts";
import { difference, expectSame, KiB, MiB, pattern, seeded, Served } from "./served.fixture.ts";

const forms = ["simple", "structured", "extended"] as const;

test.for(forms)("%s replies: a request may be cut at every byte", { timeout: 60_000 }, async (form) => {
  const served = await Served.open({ threadsMax: 1 });
  const image = pattern(MiB, 1);
  const disk = await served.disk("a", image);
  const name = served.show(disk);
  const client = await served.client(name, form, form === "simple" ? [] : ["base:allocation"]);
  // One thread serves both: when it has answered this one, it has taken what came on the other before.
  const clock = await served.client(name);
  const payload = pattern(40, 7);
  const makeAll = (): { bytes: Buffer; answer: Promise<unknown> }[] => [
    client.prepare(cmd.write, { offset: 1000, payload }),
    client.prepare(cmd.read, { offset: 1000, length: 40 }),
    client.prepare(cmd.flush),
    client.prepare(cmd.write, { offset: MiB, payload }),
    client.prepare(cmd.zeroes, { offset: 5000, length: 10 }),
    ...(form === "simple" ? [] : [client.prepare(cmd.status, { offset: 0, length: 4096 })]),
  ];
  const expected = [
    { error: 0 },
    { error: 0 },
    { error: 0 },
    { error: code.noSpace },
    { error: 0 },
    ...(form === "simple" ? [] : [{ error: 0 }]),
  ];
  const { length } = Buffer.concat(makeAll().map(({ bytes }) => bytes));
  for (let cut = 1; cut < length; cut++) {
    const all = makeAll();
    const bytes = Buffer.concat(all.map((one) => one.bytes));
    client.raw(bytes.subarray(0, cut));
    await clock.read(0, 1);
    client.raw(bytes.subarray(cut));
    expect(await Promise.all(all.map(({ answer }) => answer)), `cut at ${cut}`).toMatchObject(expected);
  }
  const all = makeAll();
  for (const byte of Buffer.concat(all.map(({ bytes }) => bytes))) {
    client.raw(Buffer.of(byte));
    await clock.read(0, 1);
  }
  expect(await Promise.all(all.map(({ answer }) => answer))).toMatchObject(expected);
  payload.copy(image, 1000);
  image.fill(0, 5000, 5010);
  expectSame(served.bytes(disk), image, "the image");
});

test("long writes that arrive in pieces of any size", async () => {
  const served = await Served.open({ threadsMax: 1 });
  const image = pattern(4 * MiB, 2);
  const disk = await served.disk("a", image);
  const slow = await served.disk("b", image, [{ kind: "write", armed: false, action: { error: "EIO" } }]);
  for (const [which, target] of [disk, slow].entries()) {
    const name = served.show(target);
    const client = await served.client(name);
    const clock = await served.client(name);
    const model = Buffer.from(image);
    const random = seeded(11 + which);
    for (let round = 0; round < 20; round++) {
      const data = pattern(256 * KiB + Math.floor(random() * MiB), round);
      const offset = Math.floor(random() * (4 * MiB - data.length));
      const flags = random() < 0.3 ? flag.fua : 0;
      const { bytes, answer } = client.prepare(cmd.write, { offset, payload: data, flags });
      const after = client.prepare(cmd.flush);
      const stream = Buffer.concat([bytes, after.bytes]);
      for (let at = 0; at < stream.length;) {
        const piece = 1 + Math.floor(random() ** 3 * 300 * KiB);
        client.raw(stream.subarray(at, at + piece));
        at += piece;
        if (random() < 0.5) await clock.read(0, 1);
      }
      expect(await answer).toMatchObject({ error: 0 });
      expect(await after.answer).toMatchObject({ error: 0 });
      data.copy(model, offset);
    }
    expectSame(served.bytes(target), model, `image of ${name} (seed ${11 + which})`);
  }
});

test("a thousand requests at once are all answered, each with its own", async () => {
  const served = await Served.open();
  const image = pattern(4 * MiB, 3);
  const model = Buffer.from(image);
  const disk = await served.disk("a", image);
  const slow = await served.disk("b", image, [{ kind: "flush", armed: false, action: { error: "EIO" } }]);
  for (const target of [disk, slow]) {
    const client = await served.client(served.show(target));
    const asked = [];
    for (let index = 0; index < 1000; index++) {
      const offset = index * 4096;
      const kind = index % 5;
      if (kind === 0) asked.push(client.prepare(cmd.write, { offset, payload: pattern(4096, index) }));
      else if (kind === 1) asked.push(client.prepare(cmd.flush));
      else if (kind === 2) asked.push(client.prepare(cmd.zeroes, { offset, length: 4096 }));
      else asked.push(client.prepare(cmd.read, { offset, length: 4096 }));
    }
    client.raw(...asked.map(({ bytes }) => bytes));
    const answers = await Promise.all(asked.map(({ answer }) => answer));
    for (const [index, answer] of answers.entries()) {
      expect(answer.error, `request ${index}`).toBe(0);
      const range = image.subarray(index * 4096, index * 4096 + 4096);
      if (index % 5 > 2) expect(difference(bytesOf(answer), range), `read ${index}`).toBe(-1);
      else if (index % 5 === 0) pattern(4096, index).copy(model, index * 4096);
      else if (index % 5 === 2) model.fill(0, index * 4096, index * 4096 + 4096);
    }
    expectSame(served.bytes(target), model, "the image");
  }
}, 60_000);

test("requests that came right behind the handshake are served, however many", async () => {
  const served = await Served.open();
  const image = pattern(MiB, 4);
  const name = served.show(await served.disk("a", image));
  for (const length of [0, 100 * KiB, 700 * KiB]) {
    const cookie = 0x77n;
    const early = Buffer.concat([
      requestBytes("structured", cmd.write, cookie, { offset: 0, payload: image.subarray(0, length) }),
      requestBytes("structured", cmd.read, cookie + 1n, { offset: 512, length: 512 }),
    ]);
    const client = await served.client(name, "structured", [], early);
    const written = client.adopt(cookie, cmd.write, 0, length);
    const read = client.adopt(cookie + 1n, cmd.read, 512, 512);
    client.go();
    expectSame(bytesOf(await read), image.subarray(512, 1024), `after ${length} bytes`);
    expect(await written).toMatchObject({ error: 0 });
  }
});

test("after the last request the client may end its side: all replies come", async () => {
  const served = await Served.open();
  const image = pattern(2 * MiB, 5);
  const rules = [{ kind: "read", action: { delayMs: 2 } }] as const;
  for (const disk of [await served.disk("a", image), await served.disk("b", image, rules)]) {
    const name = served.show(disk);
    for (const form of forms) {
      const client = await served.client(name, form);
      const asked = [];
      for (let index = 0; index < 40; index++)
        asked.push(client.prepare(cmd.read, { offset: index * 512, length: 512 }));
      asked.push(client.prepare(cmd.read, { offset: 1, length: 2 * MiB - 1 }), client.prepare(cmd.flush));
      client.raw(...asked.map(({ bytes }) => bytes));
      client.socket.end();
      for (const { answer } of asked) expect(await answer).toMatchObject({ error: 0 });
      await client.closed;
      expect(client.failure).toBeUndefined();
    }
  }
});

test("goodbye: what came before it is done and answered, what comes behind is not looked at", async () => {
  const served = await Served.open();
  const image = pattern(MiB, 6);
  const rules = [{ kind: "write", action: { delayMs: 2 } }] as const;
  for (const disk of [await served.disk("a", image), await served.disk("b", image, rules)]) {
    const client = await served.client(served.show(disk));
    const asked = [];
    for (let index = 0; index < 40; index++)
      asked.push(client.prepare(cmd.write, { offset: index * 512, payload: Buffer.alloc(512, 1) }));
    const bye = client.prepare(cmd.disc);
    const late = client.prepare(cmd.write, { offset: MiB / 2, payload: Buffer.alloc(512, 2) });
    client.raw(...asked.map(({ bytes }) => bytes), bye.bytes, late.bytes);
    for (const { answer } of asked) expect(await answer).toMatchObject({ error: 0 });
    await client.closed;
    await expect(late.answer).rejects.toThrow("closed before the reply");
    const model = Buffer.from(image).fill(1, 0, 40 * 512);
    expectSame(served.bytes(disk), model, "the image");
  }
});

test("a connection that breaks in the middle of a payload tears no write of up to 256 KiB", async () => {
  const served = await Served.open({ threadsMax: 1 });
  const image = pattern(2 * MiB, 8);
  const disk = await served.disk("a", image);
  const bitmap = await served.record(disk, 4096);
  const name = served.show(disk);
  const clock = await served.client(name);
  for (const length of [512, 4096, 256 * KiB]) {
    for (const sent of [1, 27, 28, 29, 28 + Math.floor(length / 2), 28 + length - 1]) {
      const client = await served.client(name);
      client.raw(client.prepare(cmd.write, { offset: 512, payload: Buffer.alloc(length, 9) }).bytes.subarray(0, sent));
      await clock.read(0, 1);
      client.socket.destroy();
    }
  }
  await served.until(() => served.server.clientsOf(name) === 1);
  expectSame(served.bytes(disk), image, "the image");
  expect(bitmap.bitmap.isEmpty()).toBe(true);
  // A longer one is written as it comes, in whole pages.
  const client = await served.client(name);
  const { bytes } = client.prepare(cmd.write, { offset: 100, payload: Buffer.alloc(MiB, 9) });
  client.raw(bytes.subarray(0, 700 * KiB));
  client.socket.end();
  await client.closed;
  await served.until(() => served.server.clientsOf(name) === 1);
  const now = served.bytes(disk);
  const written = now.subarray(100).findIndex((byte) => byte !== 9);
  expect((100 + written) % 4096).toBe(0);
  image.fill(9, 100, 100 + written);
  expectSame(now, image, "the image");
});

test("half a request, then silence, costs others nothing, and ends with the server", async () => {
  const served = await Served.open({ connectionsMax: 200 });
  const name = served.show(await served.disk("a", pattern(MiB, 1)));
  const silent = [];
  for (let index = 0; index < 60; index++) {
    const client = await served.client(name);
    client.raw(client.prepare(cmd.write, { payload: Buffer.alloc(300 * KiB) }).bytes.subarray(0, 1 + index * 2000));
    silent.push(client);
  }
  const client = await served.client(name);
  for (let index = 0; index < 100; index++) expect((await client.read(index, 100)).error).toBe(0);
  await served.server.remove(name);
  await Promise.all(silent.map(({ closed }) => closed));
});

/** Kilobytes of this process that are in memory. */
function residentKiB(): number {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync("/proc/self/status", "utf8"))?.[1]);
}

async function latencies(client: RawNbd, count: number): Promise<number[]> {
  const times = [];
  for (let index = 0; index < count; index++) {
    const from = performance.now();
    expect((await client.read(index * 4096, 4096)).error).toBe(0);
    times.push(performance.now() - from);
  }
  return times.sort((one, other) => one - other);
}

test("clients that never read their replies take bounded memory, and nobody else waits for them", async () => {
  const served = await Served.open();
  const image = pattern(2 * MiB, 1);
  const rules = [{ kind: "read", armed: false, action: { error: "EIO" } }] as const;
  const hot = served.show(await served.disk("hot", image));
  const parked = served.show(await served.disk("parked", image, rules));
  const [hotClient, parkedClient] = [await served.client(hot), await served.client(parked)];
  await latencies(hotClient, 20);
  const before = residentKiB();
  const deaf: RawNbd[] = [];
  for (let index = 0; index < 12; index++) {
    const client = await served.client(index % 2 === 0 ? hot : parked);
    client.socket.pause();
    for (let request = 0; request < 200; request++) void client.read(0, 256 * KiB, flag.df);
    deaf.push(client);
  }
  const [hotTimes, parkedTimes] = [await latencies(hotClient, 200), await latencies(parkedClient, 200)];
  expect(hotTimes[100], "median of reads of the same disk, ms").toBeLessThan(20);
  expect(parkedTimes[100], "and of one that helpers read").toBeLessThan(50);
  expect((residentKiB() - before) / 1024, "MiB more").toBeLessThan(160);
  for (const client of deaf) client.socket.resume();
  await served.until(() => deaf.every((client) => client.unanswered === 0));
  for (const client of deaf) expect(client.failure).toBeUndefined();
}, 60_000);

test("nor do long replies that nobody reads keep the memory from others", async () => {
  const served = await Served.open();
  const image = pattern(32 * MiB, 1);
  const rules = [{ kind: "read", armed: false, action: { error: "EIO" } }] as const;
  const long = served.show(await served.disk("long", image));
  const other = served.show(await served.disk("other", image.subarray(0, 4 * MiB), rules));
  const client = await served.client(other);
  // Whatever is left of the memory, one of them takes it.
  const deaf: RawNbd[] = [];
  for (const length of [32, 16, 8, 4, 2, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.25]) {
    const one = await served.client(long, "simple");
    deaf.push(one);
    one.socket.pause();
    for (let request = 0; request < 16; request++) void one.read(0, length * MiB);
  }
  expect((await latencies(client, 50))[25]).toBeLessThan(50);
});
