import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { requestsField, slotWord, gateBytes } from "../dist/gate-layout.js";
import { GuestActivity } from "../dist/guest-activity.js";
import { jobWords } from "../dist/job-layout.js";
import { chargeRun, setSpeed, startWait } from "../dist/pacing.js";
import { KiB, MiB } from "./lab.fixture.ts";

const job = (): Int32Array => new Int32Array(new SharedArrayBuffer(jobWords * 4));

/** What a copy of `bytes` in chunks takes by the fake clock, milliseconds: each chunk starts when it may. */
function copyTakes(words: Int32Array, bytes: number, chunk: number): number {
  const begun = Date.now();
  for (let copied = 0; copied < bytes; copied += chunk) {
    for (let wait = startWait(words); wait > 0; wait = startWait(words)) vi.advanceTimersByTime(wait);
    chargeRun(words, chunk);
  }
  return Date.now() - begun;
}

describe("a speed limit", () => {
  beforeEach(() => {
    vi.useFakeTimers({ now: 1_700_000_000_000 });
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  it("copies 4 MiB at 1 MiB/s in 3 s with chunks of 1 MiB, and in 3.9 s with chunks of 64 KiB", () => {
    const words = job();
    setSpeed(words, MiB);
    expect(copyTakes(words, 4 * MiB, MiB)).toBeCloseTo(3000, -2);
    setSpeed(words, MiB);
    expect(copyTakes(words, 4 * MiB, 64 * KiB)).toBeCloseTo(3937, -2);
  });

  it("holds for chunks that take less than a millisecond each", () => {
    const words = job();
    setSpeed(words, 100e6);
    const ms = copyTakes(words, 64 * MiB, 64 * KiB); // 0.66 ms a chunk: 671 ms
    expect(ms).toBeGreaterThan(570);
    expect(ms).toBeLessThan(770);
  });

  it("of 1 byte a second copies the first chunk at once", () => {
    const words = job();
    setSpeed(words, 1);
    expect(startWait(words)).toBe(0);
    chargeRun(words, MiB);
    expect(startWait(words)).toBeGreaterThan(1000 * 1000);
  });

  it("that is changed holds at once, and 0 lifts it", () => {
    const words = job();
    setSpeed(words, 1);
    chargeRun(words, MiB);
    setSpeed(words, 10 * MiB);
    expect(startWait(words)).toBe(0);
    chargeRun(words, MiB);
    expect(startWait(words)).toBeGreaterThan(90);
    setSpeed(words, 0);
    expect(startWait(words)).toBe(0);
  });

  it("counts from now after a pause: what was not used is not saved up", () => {
    const words = job();
    setSpeed(words, MiB);
    vi.advanceTimersByTime(60_000);
    expect(copyTakes(words, 2 * MiB, MiB)).toBeGreaterThan(990);
  });

  it("survives the clock's wrapping and a small step back", () => {
    const words = job();
    vi.setSystemTime(Math.ceil(Date.now() / 2 ** 30) * 2 ** 30 - 500);
    setSpeed(words, MiB);
    expect(copyTakes(words, 4 * MiB, MiB)).toBeCloseTo(3000, -2);
    setSpeed(words, MiB);
    chargeRun(words, MiB);
    vi.setSystemTime(Date.now() - 200);
    expect(startWait(words)).toBeLessThanOrEqual(1300);
  });
});

describe("a job that yields to guests", () => {
  it("leaves them a time by what they do, at most the maximum, every other look, and none while they are quiet", () => {
    const gate = new Int32Array(new SharedArrayBuffer(gateBytes));
    let now = 1000;
    const clock = vi.spyOn(performance, "now").mockImplementation(() => now);
    const activity = new GuestActivity(gate, () => 3, 1);
    const look = (requests: number, ms: number): number => {
      gate[slotWord(2, requestsField)] = (gate[slotWord(2, requestsField)] + requests) | 0;
      now += ms;
      return activity.yieldMs();
    };
    look(0, 1);
    expect(look(0, 10)).toBe(0);
    expect(look(100, 10)).toBe(0); // right after one, so that the job goes on
    const some = look(100, 10); // 20 requests/ms since the last count
    expect(some).toBeGreaterThan(0);
    expect(some).toBeLessThan(1);
    look(0, 1);
    expect(look(1_000_000, 10)).toBe(1);
    clock.mockRestore();
  });

  it("is not confused by counts that wrap", () => {
    const gate = new Int32Array(new SharedArrayBuffer(gateBytes));
    gate[slotWord(0, requestsField)] = 2 ** 31 - 1;
    const activity = new GuestActivity(gate, () => 1, 1000);
    activity.yieldMs();
    gate[slotWord(0, requestsField)] = -(2 ** 31) + 9;
    const ms = activity.yieldMs();
    expect(ms).toBeGreaterThan(0);
    expect(ms).toBeLessThan(10);
  });
});
