/** Random requests over several connections against a plain model: a buffer, and a set of granules for each bitmap. */
import type { Recorder } from "@heirloom/engine";
import { expect, test } from "vitest";
import { bytesOf, cmd, flag, type Form, type RawNbd } from "../../testing/raw-client.ts";
import { difference, expectSame, KiB, MiB, pattern, seeded, Served, type ServedDisk } from "./served.fixture.ts";

const length = 3 * MiB + 1234;
const granularities = [512, 64 * KiB];
/** Each connection has a stripe of its own, so that what is in flight at once never overlaps. */
const stripes = 4;
const stripe = Math.floor(length / stripes);

/** Mostly small, now and then around the limits. */
function lengthOf(random: () => number, most: number): number {
  return Math.min(most, anyLength(random));
}
function anyLength(random: () => number): number {
  const kind = random();
  if (kind < 0.6) return Math.floor(random() * 9000);
  if (kind < 0.8) return Math.floor(random() * 300 * KiB);
  return Math.min(stripe, [32, 64, 256, 260][Math.floor(random() * 4)] * KiB + Math.floor(random() * 3) - 1);
}

async function play(
  client: RawNbd,
  model: Buffer,
  dirty: Set<number>[],
  index: number,
  seed: number,
  most: number,
): Promise<void> {
  const random = seeded(seed * 100 + index);
  for (let batch = 0; batch < 25; batch++) {
    // Pieces of the stripe that do not overlap, in flight at once.
    let at = index * stripe;
    const running: Promise<void>[] = [];
    for (let request = 0; at < (index + 1) * stripe && request < 12; request++) {
      at += Math.floor(random() * 5000);
      const size = Math.min(lengthOf(random, most), (index + 1) * stripe - at);
      if (size < 0) break;
      const offset = at;
      at += size;
      const what = `seed ${seed}, connection ${index}, batch ${batch}, request ${request}: [${offset}, +${size}]`;
      const kind = random();
      const fua = random() < 0.1 ? flag.fua : 0;
      if (kind < 0.4) {
        const df = client.form !== "simple" && random() < 0.3 ? flag.df : 0;
        const expected = Buffer.from(model.subarray(offset, offset + size));
        running.push(
          client.read(offset, size, df | fua).then((answer) => {
            expect(answer.error, what).toBe(0);
            expect(difference(bytesOf(answer), expected), `read ${what}`).toBe(-1);
          }),
        );
        continue;
      }
      if (kind < 0.45) {
        running.push(client.call(cmd.flush).then((answer) => expect(answer.error, what).toBe(0)));
        continue;
      }
      for (const [which, granularity] of granularities.entries()) {
        for (let granule = Math.floor(offset / granularity); granule * granularity < offset + size; granule++)
          if (size > 0) dirty[which].add(granule);
      }
      if (kind < 0.8) {
        const data = pattern(size, Math.floor(random() * 1e6));
        data.copy(model, offset);
        running.push(client.write(offset, data, fua).then((answer) => expect(answer.error, what).toBe(0)));
      } else {
        model.fill(0, offset, offset + size);
        const type = kind < 0.9 ? cmd.trim : cmd.zeroes;
        const flags = fua | (type === cmd.zeroes && random() < 0.5 ? flag.noHole : 0);
        running.push(
          client.call(type, { offset, length: size, flags }).then((answer) => expect(answer.error, what).toBe(0)),
        );
      }
    }
    await Promise.all(running);
  }
}

const seeds = (process.env.HEIRLOOM_NBD_SEEDS ?? "1,2").split(",").map(Number);

/** Plays on four connections, and compares the image and the bitmaps at the end. */
async function playAll(served: Served, disk: ServedDisk, image: Buffer, seed: number, most = stripe): Promise<void> {
  const recorders: Recorder[] = [];
  for (const granularity of granularities) recorders.push(await served.record(disk, granularity));
  const dirty = granularities.map(() => new Set<number>());
  const name = served.show(disk);
  const forms: Form[] = ["simple", "structured", "extended", "structured"];
  const clients = await Promise.all(forms.map((form) => served.client(name, form)));
  await Promise.all(clients.map((client, index) => play(client, image, dirty, index, seed, most)));
  expectSame(served.bytes(disk), image, `the image (seed ${seed})`);
  for (const [which, granularity] of granularities.entries()) {
    const found = new Set<number>();
    for (const extent of recorders[which].bitmap.extents()) {
      for (let at = extent.offset; at < extent.offset + extent.length; at += granularity) found.add(at / granularity);
    }
    expect(
      [...found].sort((x, y) => x - y),
      `seed ${seed}, granularity ${granularity}`,
    ).toEqual([...dirty[which]].sort((x, y) => x - y));
  }
}

/** One disk is served by the session itself, of the other every request goes through helpers. */
async function disks(served: Served, image: Buffer): Promise<[ServedDisk, ServedDisk]> {
  const rules = [{ kind: "any", armed: false, action: { error: "EIO" } }] as const;
  return [await served.disk("a", image), await served.disk("b", image, rules)];
}

test.for(seeds)("whatever valid requests do, the model does, seed %i", async (seed) => {
  const served = await Served.open();
  const model = pattern(length, seed);
  for (const disk of await disks(served, model)) await playAll(served, disk, Buffer.from(model), seed);
});

test.for(seeds)(
  "the same with one thread for two disks, and too few helpers and too little memory, seed %i",
  async (seed) => {
    const served = await Served.open({ threadsMax: 1, helpersMax: 1, payloadMemory: 33 * MiB });
    const model = pattern(length, seed);
    // Its reply is not read, and there is no other memory: all that the others have are their last places, a piece each.
    // (A reply of more than a piece that must not be in pieces waits for the deaf one.)
    const deaf = await served.client(served.show(await served.disk("deaf", 32 * MiB)), "simple");
    deaf.socket.pause();
    void deaf.read(0, 32 * MiB);
    const both = await disks(served, model);
    await Promise.all(both.map((disk) => playAll(served, disk, Buffer.from(model), seed + 1000, 256 * KiB)));
  },
);
