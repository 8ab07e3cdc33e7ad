/** Requests on their way to helpers: none is lost or done twice, whoever races, sleeps or dies. */
import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { expect, test } from "vitest";
import * as layout from "../../dist/session/work-layout.js";
import { WorkQueue } from "../../dist/session/work-queue.js";

const queueUrl = new URL("../../dist/session/work-queue.js", import.meta.url).href;
const EIO = 5;

function queueOf(slots: number): { queue: WorkQueue; buffer: SharedArrayBuffer } {
  const buffer = new SharedArrayBuffer(layout.workBytes(slots));
  return { queue: new WorkQueue(buffer, slots), buffer };
}

test("a slot goes from its session to one helper and back", () => {
  const { queue } = queueOf(70);
  expect(queue.take(3)).toBe(-1);
  for (const slot of [0, 31, 32, 69]) {
    queue.words[queue.field(slot, layout.operationField)] = slot + 100;
    queue.submit(slot);
    expect(queue.state(slot)).toBe(layout.slotReady);
    expect(queue.take(3)).toBe(slot);
    expect(queue.take(4)).toBe(-1);
    expect(queue.get(slot, layout.operationField)).toBe(slot + 100);
    queue.finish(slot, EIO);
    expect([queue.state(slot), queue.get(slot, layout.errnoField)]).toEqual([layout.slotDone, EIO]);
    queue.free(slot);
  }
});

test("slots neither overlap each other nor the words before them", () => {
  for (const slots of [1, 31, 32, 33, 64, 1024]) {
    const { queue } = queueOf(slots);
    queue.words.fill(-1, layout.slotsStart(slots), layout.numbersStart(slots) / 4);
    expect(queue.workSeen()).toBe(0);
    expect(queue.take(0)).toBe(-1);
    expect(queue.field(slots - 1, layout.bellField)).toBeLessThan(queue.words.length);
    expect(queue.numbers.length).toBe(slots * layout.slotNumbers);
    expect(queue.words.byteLength % 8).toBe(0);
  }
});

test("nobody's requests are always first", () => {
  const { queue } = queueOf(64);
  queue.submit(0);
  queue.submit(1);
  queue.submit(32);
  const order = [queue.take(0), queue.take(0), queue.take(0)];
  expect(order.indexOf(32)).toBeLessThan(2);
});

test("a helper that died after it took a slot: it is answered in its place, and the hint that it left does no harm", () => {
  const { queue } = queueOf(64);
  queue.submit(5);
  queue.submit(6);
  // It died between the compare-exchange and the clearing of the hint.
  Atomics.store(queue.words, queue.field(5, layout.stateField), layout.slotTaken + 9);
  queue.words[queue.field(5, layout.bellField)] = 77;
  expect(queue.answerFor(8, EIO)).toEqual([]);
  expect(queue.answerFor(9, EIO)).toEqual([77]);
  expect([queue.state(5), queue.get(5, layout.errnoField)]).toEqual([layout.slotDone, EIO]);
  expect(queue.take(1)).toBe(6);
  expect(queue.take(1)).toBe(-1);
  queue.free(5);
  expect(queue.take(1)).toBe(-1);
  queue.submit(5);
  expect(queue.take(1)).toBe(5);
});

test("a helper that died after it was done is not answered for a second time", () => {
  const { queue } = queueOf(64);
  queue.submit(5);
  expect(queue.take(9)).toBe(5);
  queue.finish(5, 0);
  expect(queue.answerFor(9, EIO)).toEqual([]);
  expect(queue.get(5, layout.errnoField)).toBe(0);
});

test("who submits before the sleep begins, wakes; who does not, lets the time pass", () => {
  const { queue } = queueOf(64);
  const seen = queue.workSeen();
  queue.submit(1);
  expect(queue.sleep(seen, 60_000)).toBe(true);
  expect(queue.sleep(queue.workSeen(), 1)).toBe(false);
  expect(queue.idleHelpers).toBe(0);
});

test("what is withdrawn is nobody's, and what a helper has cannot be", () => {
  const { queue } = queueOf(64);
  queue.submit(1);
  queue.submit(2);
  expect(queue.take(0)).toBe(1);
  expect([queue.withdraw(1), queue.withdraw(2)]).toEqual([false, true]);
  expect(queue.take(0)).toBe(-1);
  queue.submit(2);
  expect(queue.take(0)).toBe(2);
});

const helper = `
  const { workerData: { queueUrl, buffer, slots, participant, done }, parentPort } = require("node:worker_threads");
  import(queueUrl).then(({ WorkQueue }) => {
    const queue = new WorkQueue(buffer, slots);
    const counts = new Int32Array(done);
    let served = 0;
    for (;;) {
      const seen = queue.workSeen();
      const slot = queue.take(participant);
      if (slot === -1) {
        if (queue.stopping) break;
        queue.sleep(seen, 30_000);
        continue;
      }
      served++;
      Atomics.add(counts, queue.number(slot, 0), 1);
      queue.finish(slot, 0);
      Atomics.add(counts, 0, 1);
      Atomics.notify(counts, 0);
    }
    parentPort.postMessage(served);
  });`;
const session = `
  const { workerData: { queueUrl, buffer, slots, slotNumbers, index, each, requests, done }, parentPort } = require("node:worker_threads");
  import(queueUrl).then(({ WorkQueue }) => {
    const queue = new WorkQueue(buffer, slots);
    const counts = new Int32Array(done);
    const mine = Array.from({ length: each }, (_, slot) => index * each + slot);
    const free = [...mine];
    const out = new Set();
    let sent = 0;
    while (sent < requests || out.size > 0) {
      const before = Atomics.load(counts, 0);
      while (free.length > 0 && sent < requests) {
        const slot = free.pop();
        queue.numbers[slot * slotNumbers] = 1 + index * requests + sent++;
        queue.submit(slot);
        out.add(slot);
      }
      let found = 0;
      for (const slot of out) {
        if (queue.state(slot) !== 2) continue;
        queue.free(slot);
        out.delete(slot);
        free.push(slot);
        found++;
      }
      if (found === 0 && Atomics.wait(counts, 0, before, 20_000) === "timed-out") throw new Error("nobody came");
    }
    parentPort.postMessage("done");
  });`;

test("sessions and helpers that race: every request is done once, and nobody sleeps over one", async () => {
  const sessions = 3;
  const each = 8;
  const requests = 4000;
  const slots = sessions * each;
  const { queue, buffer } = queueOf(slots);
  const done = new SharedArrayBuffer((1 + sessions * requests) * 4);
  const { slotNumbers } = layout;
  const shared = { queueUrl, buffer, slots, slotNumbers, done };
  const helpers = Array.from({ length: 3 }, (_, participant) => {
    return new Worker(helper, { eval: true, workerData: { ...shared, participant } });
  });
  const served = helpers.map((worker) => once(worker, "message"));
  const threads = Array.from({ length: sessions }, (_, index) => {
    return new Worker(session, { eval: true, workerData: { ...shared, index, each, requests } });
  });
  await Promise.all(threads.map((worker) => once(worker, "message")));
  queue.stop();
  const counts = (await Promise.all(served)).map(([count]) => Number(count));
  expect(counts.reduce((sum, count) => sum + count, 0)).toBe(sessions * requests);
  expect(new Int32Array(done).subarray(1).every((count) => count === 1)).toBe(true);
  expect(queue.idleHelpers).toBe(0);
}, 60_000);
