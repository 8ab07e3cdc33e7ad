/**
 * Streams that no client should send: valid ones changed, cut, spliced, and noise. Whatever comes, the server lives, other
 * clients are served, nothing grows, and the disk holds what valid writes said and nothing else.
 *
 * HEIRLOOM_NBD_FUZZ_SECONDS and HEIRLOOM_NBD_FUZZ_SEED have it run for longer, or with another seed.
 */
import { readdirSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { bytesOf, cmd, type Form, requestBytes } from "../../testing/raw-client.ts";
import { difference, KiB, MiB, pattern, seeded, Served } from "./served.fixture.ts";

const seconds = Number(process.env.HEIRLOOM_NBD_FUZZ_SECONDS ?? 4);
const seed = Number(process.env.HEIRLOOM_NBD_FUZZ_SEED ?? 7);
const length = 2 * MiB;
const forms: readonly Form[] = ["simple", "structured", "extended"];

function residentMiB(): number {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync("/proc/self/status", "utf8"))?.[1]) / 1024;
}
function descriptors(): number {
  return readdirSync("/proc/self/fd").length;
}

/** A stream as a client of the export could send it; reads of anything, but changes only where they are told. */
function stream(form: Form, random: () => number): Buffer {
  const parts: Buffer[] = [];
  const count = 1 + Math.floor(random() * 8);
  for (let index = 0; index < count; index++) {
    const cookie = BigInt(Math.floor(random() * 2 ** 40));
    const offset = Math.floor(random() * length);
    const size = Math.floor(random() ** 4 * Math.min(400 * KiB, length - offset));
    const type = Math.floor(random() * 9);
    const flags = random() < 0.2 ? Math.floor(random() * 64) : 0;
    const payload =
      type === cmd.write || random() < 0.05 ? Buffer.alloc(size, 1 + Math.floor(random() * 255)) : undefined;
    parts.push(
      requestBytes(form, type, cookie, { flags, offset, ...(payload === undefined ? { length: size } : { payload }) }),
    );
  }
  return Buffer.concat(parts);
}

function mutate(bytes: Buffer, other: Buffer, random: () => number): Buffer {
  const at = Math.floor(random() * bytes.length);
  switch (Math.floor(random() * 7)) {
    case 0: {
      const changed = Buffer.from(bytes);
      for (let bit = 0; bit < 1 + random() * 4; bit++)
        changed[Math.floor(random() * changed.length)] ^= 1 << Math.floor(random() * 8);
      return changed;
    }
    case 1: {
      // In a header, where it hurts.
      const changed = Buffer.from(bytes);
      const field = Math.floor(random() * Math.min(32, changed.length));
      changed[field] = [0, 1, 0x7f, 0x80, 0xff][Math.floor(random() * 5)];
      return changed;
    }
    case 2:
      return bytes.subarray(0, at);
    case 3:
      return Buffer.concat([bytes.subarray(0, at), other.subarray(Math.floor(random() * other.length))]);
    case 4:
      return Buffer.concat([
        bytes.subarray(0, at),
        Buffer.alloc(1 + Math.floor(random() * 40), Math.floor(random() * 256)),
        bytes.subarray(at),
      ]);
    case 5:
      return Buffer.from(Array.from({ length: 1 + Math.floor(random() * 500) }, () => Math.floor(random() * 256)));
    default:
      return bytes;
  }
}

test(
  `streams of any kind (seed ${seed}, ${seconds} s)`,
  async () => {
    const served = await Served.open({ connectionsMax: 64 });
    const image = pattern(length, 3);
    // One that changes come to, one that is read-only, one behind helpers: the latter two must stay as they are.
    const target = await served.disk("target", image);
    const fixed = await served.disk("fixed", image);
    const parked = await served.disk("parked", image, [{ kind: "any", armed: false, action: { error: "EIO" } }]);
    served.show(target);
    served.show(fixed, { writable: false });
    served.show(parked, { writable: false });
    const witness = await served.client(served.show(await served.disk("witness", image)));
    const random = seeded(seed);
    const deadline = performance.now() + seconds * 1000;
    let warm: { memory: number; descriptors: number } | undefined;
    let rounds = 0;
    for (; performance.now() < deadline; rounds++) {
      const round = Array.from({ length: 6 }, async (_, index) => {
        const form = forms[Math.floor(random() * 3)];
        const name = ["target", "fixed", "parked"][index % 3];
        const bytes = mutate(stream(form, random), stream(form, random), random);
        const contexts = form === "simple" || random() < 0.5 ? [] : ["base:allocation"];
        const reads = random() < 0.7;
        const end = random();
        const client = await served.client(name, form, contexts, new Uint8Array(0));
        // Its replies are nobody's: whatever it asked for, in whatever form.
        client.socket.removeAllListeners("data");
        if (reads) client.socket.resume();
        else client.socket.pause();
        for (let at = 0; at < bytes.length;) {
          const piece = 1 + Math.floor(random() ** 2 * 70_000);
          client.raw(bytes.subarray(at, at + piece));
          at += piece;
        }
        if (end < 0.4) client.socket.end();
        else if (end < 0.7) client.socket.destroy();
        else if (reads) await new Promise<void>((resolve) => client.socket.write("", () => resolve()));
        else await new Promise((resolve) => setImmediate(resolve)); // who does not read may never be rid of its bytes
        client.socket.destroy();
        await client.closed;
      });
      await Promise.all(round);
      const deaths = served.events.filter((event) => event.type === "disconnected" && event.requests === undefined);
      expect(deaths, `session threads died, round ${rounds} of seed ${seed}`).toEqual([]);
      if (served.events.length > 1000) served.events.splice(0);
      const at = Math.floor(random() * (length - 4096));
      const seen = await witness.read(at, 4096);
      expect(difference(bytesOf(seen), image.subarray(at, at + 4096)), `round ${rounds} of seed ${seed}`).toBe(-1);
      if (rounds === 40) {
        await served.until(() => served.server.connections === 1);
        warm = { memory: residentMiB(), descriptors: descriptors() };
      }
    }
    await served.until(() => served.server.connections === 1);
    for (const disk of [fixed, parked])
      expect(difference(served.bytes(disk), image), `${disk.name}, seed ${seed}`).toBe(-1);
    if (warm === undefined) return; // too few rounds for figures
    expect(descriptors(), `after ${rounds} rounds of seed ${seed}`).toBeLessThanOrEqual(warm.descriptors + 4);
    expect(residentMiB() - warm.memory, `MiB more after ${rounds} rounds`).toBeLessThan(120);
  },
  seconds * 1000 + 60_000,
);

test(`changed streams change what valid writes in them say, and nothing else (seed ${seed})`, async () => {
  const served = await Served.open({ threadsMax: 1 });
  const image = pattern(length, 5);
  const disk = await served.disk("a", image);
  const name = served.show(disk);
  const random = seeded(seed + 1);
  const clock = await served.client(name);
  for (let round = 0; round < 150; round++) {
    const form = forms[round % 3];
    const client = await served.client(name, form);
    // Two writes and what was broken in the stream between them.
    const one = { offset: Math.floor(random() * MiB), payload: pattern(1 + Math.floor(random() * 8192), round) };
    const two = {
      offset: MiB + Math.floor(random() * (MiB - 9000)),
      payload: pattern(1 + Math.floor(random() * 8192), -round),
    };
    const [first, second] = [client.prepare(cmd.write, one), client.prepare(cmd.write, two)];
    const header = second.bytes.subarray(0, second.bytes.length - two.payload.length);
    const kind = round % 5;
    let broken: Buffer = Buffer.from(second.bytes);
    if (kind === 0) broken = broken.subarray(0, Math.floor(random() * broken.length));
    else if (kind === 1) broken[Math.floor(random() * 4)] ^= 1 + Math.floor(random() * 255);
    else if (kind === 2)
      broken.writeBigUInt64BE(BigInt(length) - BigInt(Math.floor(random() * two.payload.length)), 16);
    else if (kind === 3) broken.writeUInt16BE(broken.readUInt16BE(4) | 0x4000, 4);
    else broken = Buffer.concat([Buffer.alloc(1 + Math.floor(random() * header.length)), broken]);
    client.raw(first.bytes, broken);
    expect(await first.answer).toMatchObject({ error: 0 });
    await clock.read(0, 1);
    client.socket.destroy();
    one.payload.copy(image, one.offset);
    if (round % 10 === 9) expect(difference(served.bytes(disk), image), `round ${round} of seed ${seed + 1}`).toBe(-1);
  }
  expect(difference(served.bytes(disk), image)).toBe(-1);
});
