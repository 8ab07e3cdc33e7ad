import { describe, expect, it } from "vitest";
import { participantCapacity, participantFree, participantGone, participantLive, participantReserved, Registry } from "../dist/registry.js";

describe("participants", () => {
  it("are reserved lowest first, and again after their release", () => {
    const registry = new Registry();
    expect([registry.reserve(), registry.reserve(), registry.reserve()]).toEqual([0, 1, 2]);
    expect(registry.participantMax).toBe(3);
    expect(registry.state(1)).toBe(participantReserved);
    registry.release(1);
    expect(registry.state(1)).toBe(participantFree);
    expect(registry.reserve()).toBe(1);
    expect(registry.participantMax).toBe(3);
  });

  it("run out at their capacity, with an answer and not with a slot outside of the gate", () => {
    const registry = new Registry();
    for (let index = 0; index < participantCapacity; index++) expect(registry.reserve()).toBe(index);
    expect(registry.reserve()).toBe(-1);
    expect(registry.participantMax).toBe(participantCapacity);
    registry.release(77);
    expect(registry.reserve()).toBe(77);
  });

  it("go live once, on the thread that came first", () => {
    const registry = new Registry();
    const other = new Registry(registry.buffer); // another thread's sight of it
    const participant = registry.reserve();
    expect(other.goLive(participant, 7)).toBe(true);
    expect(other.goLive(participant, 8)).toBe(false);
    expect(other.goLive(participant, 7)).toBe(false);
    expect(registry.state(participant)).toBe(participantLive);
    expect(registry.threadOf(participant)).toBe(7);
    expect(other.goLive(participant + 1, 9)).toBe(false); // nobody reserved it
  });

  it("are taken back only while nobody has taken them", () => {
    const registry = new Registry();
    const taken = registry.reserve();
    const left = registry.reserve();
    registry.goLive(taken, 7);
    expect(registry.revoke(taken)).toBe(false);
    expect(registry.revoke(left)).toBe(true);
    expect(registry.goLive(left, 8)).toBe(false);
  });

  it("that leave are gone, and not free before the main thread says so", () => {
    const registry = new Registry();
    const participant = registry.reserve();
    registry.goLive(participant, 7);
    registry.leave(participant);
    expect(registry.state(participant)).toBe(participantGone);
    expect(registry.reserve()).not.toBe(participant);
    registry.release(participant);
    expect(registry.threadOf(participant)).toBeLessThanOrEqual(0);
    expect(registry.reserve()).toBe(participant);
  });
});

describe("registered threads", () => {
  it("are known until they are unregistered", () => {
    const registry = new Registry();
    expect(registry.isRegistered(5)).toBe(false);
    expect(registry.registerThread(5)).toBe(true);
    expect(registry.isRegistered(5)).toBe(true);
    registry.unregisterThread(5);
    expect(registry.isRegistered(5)).toBe(false);
  });

  it("have 256 places, and the 257th is an answer", () => {
    const registry = new Registry();
    for (let id = 1; id <= 256; id++) expect(registry.registerThread(id)).toBe(true);
    expect(registry.registerThread(257)).toBe(false);
    registry.unregisterThread(100);
    expect(registry.registerThread(257)).toBe(true);
  });

  it("never include the main thread, whose number is that of an empty place", () => {
    expect(new Registry().isRegistered(0)).toBe(false);
  });
});
