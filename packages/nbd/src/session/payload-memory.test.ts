/** Payload memory: no two hold the same byte, all of it comes back, and a dead thread's can be taken back. */
import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { expect, test } from "vitest";
import { makePayloadBudget, PayloadMemory, releaseSlabs, SLAB_BYTES } from "../../dist/session/payload-memory.js";
import { seeded } from "./served.fixture.ts";

const url = new URL("../../dist/session/payload-memory.js", import.meta.url).href;
const MiB = 1024 * 1024;

test("pieces of any length, in any order, never overlap, and leave nothing behind (seeded)", () => {
  const seed = 21;
  const random = seeded(seed);
  const budget = makePayloadBudget(24 * MiB);
  const threads = [1, 2, 3].map((owner) => new PayloadMemory(budget, owner));
  const held: { thread: PayloadMemory; place: number; length: number }[] = [];
  let refused = 0;
  for (let step = 0; step < 4000; step++) {
    if (random() < 0.55) {
      const thread = threads[Math.floor(random() * 3)];
      const length = 1 + Math.floor(random() ** 6 * 9 * MiB);
      const place = thread.allocate(length);
      if (place === -1) {
        refused++;
        continue;
      }
      expect(place % 8, "numbers of 64 bits may lie there").toBe(0);
      expect(place + length).toBeLessThanOrEqual(thread.bytes.length);
      for (const other of held) {
        const apart = place + length <= other.place || other.place + other.length <= place;
        expect(apart, `step ${step} of seed ${seed}`).toBe(true);
      }
      held.push({ thread, place, length });
    } else if (held.length > 0) {
      const [{ thread, place, length }] = held.splice(Math.floor(random() * held.length), 1);
      thread.free(place, length);
    }
  }
  expect(refused).toBeGreaterThan(0);
  for (const { thread, place, length } of held) thread.free(place, length);
  expect([...new Int32Array(budget.owners)]).toEqual(Array<number>(24).fill(0));
  expect(threads[0].allocate(24 * MiB)).toBe(0);
});

test("a thread that holds nothing keeps nothing from others", () => {
  const budget = makePayloadBudget(3 * MiB);
  const [one, other] = [new PayloadMemory(budget, 1), new PayloadMemory(budget, 2)];
  const place = one.allocate(100);
  expect(other.allocate(3 * MiB)).toBe(-1);
  one.free(place, 100);
  const all = other.allocate(3 * MiB);
  expect(all).toBe(0);
  expect(one.allocate(1)).toBe(-1);
  other.free(all, 3 * MiB);
  expect(one.allocate(2 * MiB + 1)).toBe(0);
});

test("what a thread had that died comes back, and nothing of others", () => {
  const budget = makePayloadBudget(8 * MiB);
  const [dead, living] = [new PayloadMemory(budget, 1), new PayloadMemory(budget, 2)];
  dead.allocate(5 * MiB);
  living.allocate(10);
  dead.allocate(10);
  expect(living.allocate(2 * MiB)).toBe(-1);
  releaseSlabs(budget, 1);
  expect(living.allocate(5 * MiB)).not.toBe(-1);
  expect(new PayloadMemory(budget, 1).allocate(2 * MiB)).not.toBe(-1);
});

const racer = `
  const { workerData: { url, budget, owner, rounds }, parentPort } = require("node:worker_threads");
  import(url).then(({ PayloadMemory }) => {
    const memory = new PayloadMemory(budget, owner);
    let state = owner;
    const random = () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 32;
    let torn = 0, got = 0;
    const held = [];
    const release = () => {
      const { place, length, mark } = held.splice(Math.floor(random() * held.length), 1)[0];
      for (const at of [place, place + (length >> 1), place + length - 1]) if (memory.bytes[at] !== mark) torn++;
      memory.free(place, length);
    };
    for (let round = 0; round < rounds; round++) {
      const length = 1 + Math.floor(random() ** 4 * 4 * 1024 * 1024);
      const place = memory.allocate(length);
      if (place === -1) { if (held.length > 0) release(); continue; }
      got++;
      const mark = 1 + (round * 4 + owner) % 255;
      for (const at of [place, place + (length >> 1), place + length - 1]) memory.bytes[at] = mark;
      held.push({ place, length, mark });
      if (held.length > 4) release();
    }
    while (held.length > 0) release();
    parentPort.postMessage({ torn, got });
  });`;

test("threads that race for it never hold the same bytes", async () => {
  const budget = makePayloadBudget(16 * SLAB_BYTES);
  const workers = [1, 2, 3].map((owner) => {
    return new Worker(racer, { eval: true, workerData: { url, budget, owner, rounds: 20_000 } });
  });
  const results = (await Promise.all(workers.map((worker) => once(worker, "message")))) as [
    { torn: number; got: number },
  ][];
  for (const [{ torn, got }] of results) {
    expect(torn).toBe(0);
    expect(got).toBeGreaterThan(100);
  }
  expect(new Int32Array(budget.owners).every((owner) => owner === 0)).toBe(true);
});
