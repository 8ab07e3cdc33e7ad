import assert from "node:assert/strict";
import { describe, expect, it } from "vitest";
import {
  participantCapacity,
  participantFree,
  participantGone,
  participantLive,
  participantReserved,
  Registry,
  type Seat,
} from "../dist/registry.js";

function reserve(registry: Registry): Seat {
  const seat = registry.reserve();
  assert(seat !== undefined);
  return seat;
}

describe("participants", () => {
  it("are reserved lowest first, and again after their release", () => {
    const registry = new Registry();
    expect([reserve(registry), reserve(registry), reserve(registry)].map((seat) => seat.participant)).toEqual([
      0, 1, 2,
    ]);
    expect(registry.participantMax).toBe(3);
    expect(registry.state(1)).toBe(participantReserved);
    registry.release(1);
    expect(registry.state(1)).toBe(participantFree);
    expect(reserve(registry).participant).toBe(1);
    expect(registry.participantMax).toBe(3);
  });

  it("run out at their capacity, with an answer and not with a slot outside of the gate", () => {
    const registry = new Registry();
    for (let index = 0; index < participantCapacity; index++) expect(reserve(registry).participant).toBe(index);
    expect(registry.reserve()).toBe(undefined);
    expect(registry.participantMax).toBe(participantCapacity);
    registry.release(77);
    expect(reserve(registry).participant).toBe(77);
  });

  it("go live once, on the thread that came first", () => {
    const registry = new Registry();
    const other = new Registry(registry.buffer); // another thread's sight of it
    const seat = reserve(registry);
    expect(registry.threadOf(seat.participant)).toBe(undefined);
    expect(other.goLive(seat, 7)).toBe(true);
    expect(other.goLive(seat, 8)).toBe(false);
    expect(other.goLive(seat, 7)).toBe(false);
    expect(registry.state(seat.participant)).toBe(participantLive);
    expect(registry.threadOf(seat.participant)).toBe(7);
    expect(other.goLive({ participant: seat.participant + 1, reservation: seat.reservation }, 9)).toBe(false);
  });

  it("are taken back only while nobody has taken them", () => {
    const registry = new Registry();
    const taken = reserve(registry);
    const left = reserve(registry);
    registry.goLive(taken, 7);
    expect(registry.revoke(taken)).toBe(false);
    expect(registry.revoke(left)).toBe(true);
    expect(registry.goLive(left, 8)).toBe(false);
  });

  it("whose number is somebody else's by now are not taken by a handle from before", () => {
    const registry = new Registry();
    const stale = reserve(registry);
    expect(registry.revoke(stale)).toBe(true);
    registry.release(stale.participant);
    const fresh = reserve(registry);
    expect(fresh.participant).toBe(stale.participant);
    expect(registry.goLive(stale, 7)).toBe(false);
    expect(registry.revoke(stale)).toBe(false);
    expect(registry.goLive(fresh, 8)).toBe(true);
  });

  it("that leave are gone, and not free before the main thread says so", () => {
    const registry = new Registry();
    const seat = reserve(registry);
    registry.goLive(seat, 7);
    registry.leave(seat.participant);
    expect(registry.state(seat.participant)).toBe(participantGone);
    expect(reserve(registry).participant).not.toBe(seat.participant);
    registry.release(seat.participant);
    expect(registry.threadOf(seat.participant)).toBe(undefined);
    expect(reserve(registry).participant).toBe(seat.participant);
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
