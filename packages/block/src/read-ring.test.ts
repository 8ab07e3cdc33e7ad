import { randomBytes } from "node:crypto";
import { openSync, closeSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { closeFile, errnoNumber, EventPoll, openDoorbell, POLLIN, ReadRing, silenceDoorbell } from "@heirloom/block";
import { expect, onTestFinished, test, type TestContext } from "vitest";
import { scratchDirectory } from "./tool.fixture.ts";

function ring(
  context: TestContext,
  entries: number,
): { ring: ReadRing; results: (count: number) => Map<number, number> } {
  const bell = openDoorbell();
  onTestFinished(() => void closeFile(bell));
  const opened = ReadRing.open(entries, bell);
  if (typeof opened === "number") return context.skip(`io_uring is not to be had here: errno ${-opened}`);
  onTestFinished(() => void closeFile(opened.fd));
  const poll = EventPoll.open() as EventPoll;
  onTestFinished(() => void closeFile(poll.fd));
  poll.add(bell, POLLIN, 1);
  const results = (count: number): Map<number, number> => {
    const found = new Map<number, number>();
    while (found.size < count) {
      expect(poll.wait(10_000)).toBe(1);
      silenceDoorbell(bell);
      opened.take((tag, result) => found.set(tag, result));
    }
    return found;
  };
  return { ring: opened, results };
}

test("many reads at once fill their buffers, each known by its tag, on shared memory and past 4 GiB", (context) => {
  const { ring: reads, results } = ring(context, 64);
  const path = join(scratchDirectory(), "file");
  const content = randomBytes(64 * 4096);
  const far = 5 * 2 ** 32;
  writeFileSync(path, content);
  const fd = openSync(path, "r+");
  onTestFinished(() => closeSync(fd));
  const shared = new Uint8Array(new SharedArrayBuffer(64 * 4096 + 100), 100);
  for (let page = 0; page < 64; page++) {
    const at = (63 - page) * 4096;
    expect(reads.read(fd, shared.subarray(at, at + 4096), at, 4_000_000_000 + page)).toBe(true);
  }
  expect(reads.read(fd, shared, 0, 1)).toBe(false); // full
  reads.submit();
  const found = results(64);
  expect([...found.values()].every((result) => result === 4096)).toBe(true);
  expect([...found.keys()].toSorted((a, b) => a - b)[63]).toBe(4_000_000_063);
  expect(Buffer.compare(shared, content)).toBe(0);
  expect(reads.inFlight).toBe(0);
  expect(reads.read(fd, shared.subarray(0, 10), far, 9)).toBe(true);
  reads.submit();
  expect(results(1)).toEqual(new Map([[9, 0]])); // past the end
});

test("a read that fails says its errno, and one at the end of a file says how much there was", (context) => {
  const { ring: reads, results } = ring(context, 4);
  const path = join(scratchDirectory(), "file");
  writeFileSync(path, "hello");
  const fd = openSync(path, "r");
  onTestFinished(() => closeSync(fd));
  const buffer = new Uint8Array(100);
  reads.read(fd, buffer, 2, 1);
  reads.read(1_000_000, buffer.subarray(50), 0, 2);
  reads.submit();
  expect(results(2)).toEqual(
    new Map([
      [1, 3],
      [2, -errnoNumber("EBADF")!],
    ]),
  );
  expect(Buffer.from(buffer.subarray(0, 3)).toString()).toBe("llo");
});
