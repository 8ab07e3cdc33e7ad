import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { within, withResolvers } from "../dist/waiting.js";

describe("a wait for what may not come", () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  it("leaves no timer behind when it came: one that ran on would keep alive what waited", async () => {
    await within(60_000, Promise.resolve());
    expect(vi.getTimerCount()).toBe(0);
    await expect(within(60_000, Promise.reject(new Error("no")))).rejects.toThrow("no");
    expect(vi.getTimerCount()).toBe(0);
  });

  it("is over after its time", async () => {
    let over = false;
    const waiting = within(50, withResolvers<void>().promise).then(() => (over = true));
    await vi.advanceTimersByTimeAsync(49);
    expect(over).toBe(false);
    await vi.advanceTimersByTimeAsync(1);
    await waiting;
    expect(vi.getTimerCount()).toBe(0);
  });
});
