import {
  type BlockNode,
  type NodeHandle,
  openNode,
  connectNode,
  setThrottle,
  type ThrottleLimits,
} from "@heirloom/block";
import { expect, test } from "vitest";
import { RemoteNode } from "./remote-node.fixture.ts";

async function throttled(limits: ThrottleLimits): Promise<{ handle: NodeHandle; node: BlockNode }> {
  const handle = await openNode({ driver: "throttle", file: { driver: "null-co", size: 2 ** 40 }, ...limits });
  return { handle, node: connectNode(handle) };
}

function pause(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

/** Sends requests as fast as they are admitted, for `ms`; how many were. */
function admittedWithin(ms: number, admit: () => number): number {
  const end = performance.now() + ms;
  let count = 0;
  while (performance.now() < end) {
    const wait = admit();
    if (wait === 0) count++;
    else pause(Math.min(wait, end - performance.now()));
  }
  return count;
}

test("without limits everything is admitted at once", async () => {
  const { node } = await throttled({});
  for (let count = 0; count < 1000; count++) expect(node.admit("write", 2 ** 30)).toBe(0);
});

test("bytes a second are held over time, whoever asks", async () => {
  // 10 MB/s for 300 ms in requests of 10 KB: 300, and the one that the burst of 1 byte lets start.
  const { handle, node } = await throttled({ bytesPerSecond: 10e6, burstBytes: 1 });
  const remote = await RemoteNode.start(handle);
  let turn = 0;
  const count = admittedWithin(300, () => (turn++ % 2 === 0 ? node : remote).admit("read", 10_000));
  await remote.end();
  expect(count).toBeLessThanOrEqual(305);
  // Waits are whole milliseconds and timers late: a lower bound with room.
  expect(count).toBeGreaterThanOrEqual(10);
});

test("requests a second are held over time", async () => {
  const { node } = await throttled({ requestsPerSecond: 200, burstRequests: 1 });
  const count = admittedWithin(250, () => node.admit("discard", 1));
  expect(count).toBeLessThanOrEqual(53);
  expect(count).toBeGreaterThanOrEqual(5);
});

test("a burst passes at once after a quiet time, and then the rate holds", async () => {
  const { node } = await throttled({ requestsPerSecond: 1, burstRequests: 10 });
  const answers = Array.from({ length: 20 }, () => node.admit("write", 512));
  expect(answers.slice(0, 10).every((wait) => wait === 0)).toBe(true);
  expect(answers.slice(11).every((wait) => wait > 0 && wait <= 1000)).toBe(true);
});

test("a request larger than the burst starts, and those after it wait for its debt", async () => {
  const { node } = await throttled({ bytesPerSecond: 1000, burstBytes: 1000 });
  expect(node.admit("write", 10_000)).toBe(0);
  const wait = node.admit("write", 1);
  expect(wait).toBeGreaterThan(8000);
  expect(wait).toBeLessThanOrEqual(9000);
});

test("what is refused is not charged", async () => {
  const { node } = await throttled({ bytesPerSecond: 1000, burstBytes: 1 });
  expect(node.admit("write", 1000)).toBe(0);
  const first = node.admit("write", 100_000);
  expect(node.admit("write", 100_000)).toBeLessThanOrEqual(first);
});

test("flushes and status are free", async () => {
  const { node } = await throttled({ requestsPerSecond: 1, burstRequests: 1 });
  for (let count = 0; count < 100; count++) {
    expect(node.admit("flush", 0)).toBe(0);
    expect(node.admit("status", 2 ** 40)).toBe(0);
  }
});

test("changed limits help at once, on every thread", async () => {
  const { handle, node } = await throttled({ bytesPerSecond: 1, burstBytes: 1 });
  const remote = await RemoteNode.start(handle);
  expect(node.admit("write", 2 ** 30)).toBe(0);
  expect(remote.admit("write", 1)).toBeGreaterThan(1e6);
  setThrottle(handle, { bytesPerSecond: 2 ** 40 });
  expect(remote.admit("write", 2 ** 20)).toBe(0);
  setThrottle(handle, {});
  for (let count = 0; count < 10; count++) expect(remote.admit("write", 2 ** 40)).toBe(0);
  expect(() => setThrottle(handle, { bytesPerSecond: -1 })).toThrow(
    "'bytesPerSecond' must be an integer of at least 0",
  );
  await remote.end();
});

test("the limits of stacked throttles both hold", async () => {
  const handle = await openNode({
    driver: "throttle",
    requestsPerSecond: 1000,
    file: { driver: "throttle", requestsPerSecond: 1, burstRequests: 1, file: { driver: "null-co", size: 1024 } },
  });
  const node = connectNode(handle);
  const waits = [node.admit("read", 1), node.admit("read", 1), node.admit("read", 1)];
  expect(waits.at(-1)).toBeGreaterThan(500);
});
