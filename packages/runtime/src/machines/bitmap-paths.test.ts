/** The bitmap machine along all its simple paths, against a plain model of a parent, a successor and pending folds. */
import { getSimplePaths } from "xstate/graph";
import { expect, test } from "vitest";
import { bitmapMachine } from "./bitmap-machine.ts";
import type { BitmapContext, BitmapEffect, BitmapEvent, BitmapInput } from "./bitmap-types.ts";
import { MachineActor } from "./machine-actor.ts";

const user = { kind: "job", id: "j" } as const;
const other = { node: "a", name: "c" };
const events: readonly BitmapEvent[] = [
  { type: "enable", command: 1 },
  { type: "disable", command: 1 },
  { type: "clear", command: 1 },
  { type: "mergeTarget", sources: [other], command: 1 },
  { type: "freeze", user, mode: "on-success", command: 1 },
  { type: "abdicate" },
  { type: "abdicate", uncopied: true },
  { type: "reclaim" },
  { type: "folded" },
  { type: "take", user: { kind: "export", id: "e" }, command: 1 },
  { type: "release" },
  { type: "removing", command: 1 },
  { type: "keep" },
  { type: "remove", command: 1 },
  { type: "break", reason: "r" },
];

/** What the engine has: written from DESIGN 3.1 and reference 1.4, not from the machine. */
class PlainBitmap {
  parent: boolean;
  successor: boolean | null = null;
  folds = 0;
  held = false;
  gone = false;

  constructor(recording: boolean) {
    this.parent = recording;
  }

  get recording(): boolean {
    return this.parent || this.successor === true;
  }

  apply(effect: BitmapEffect): void {
    expect(this.gone).toBe(false);
    switch (effect.type) {
      case "record":
        if (this.successor === null) this.parent = effect.recording;
        else this.successor = effect.recording;
        break;
      case "swap-empty":
        expect([this.successor, this.held]).toEqual([null, false]);
        expect(effect.voidedFolds).toBe(this.folds);
        this.folds = 0;
        break;
      case "fold":
        this.folds += 1;
        break;
      case "freeze":
        expect([this.successor, this.held]).toEqual([null, false]);
        expect(effect.successorRecording).toBe(this.parent);
        expect(effect.unsettled).toBe(this.folds > 0);
        this.successor = this.parent;
        this.parent = false;
        break;
      case "abdicate":
        expect(this.successor).not.toBeNull();
        this.parent = this.successor === true;
        this.successor = null;
        break;
      case "reclaim":
        expect(effect.recording).toBe(this.successor);
        this.parent = this.successor === true;
        this.successor = null;
        break;
      case "hold":
        expect(this.held).toBe(false);
        this.held = true;
        break;
      case "unhold":
        expect(this.held).toBe(true);
        this.held = false;
        break;
      case "discard-bits":
        expect(this.folds).toBe(0);
        this.parent = false;
        this.successor = null;
        break;
      case "drop":
        expect([this.successor, this.held]).toEqual([null, false]);
        this.gone = true;
        break;
      default:
        break;
    }
  }
}

const key = (state: string, context: BitmapContext): string =>
  [state, context.recording, context.folds, context.broken, context.user?.kind, context.foldCommand].join();

for (const recording of [true, false]) {
  test(`along every simple path of a bitmap that is ${recording ? "enabled" : "disabled"} at first`, () => {
    const input: BitmapInput = { node: "a", name: "b", recording };
    const paths = getSimplePaths(bitmapMachine.logic, {
      input,
      events,
      // One fold at a time, so that the number of paths stays in the thousands.
      filterEvents: (snapshot, event) =>
        snapshot.context.folds === 0 ||
        (event.type !== "mergeTarget" && event.type !== "abdicate" && event.type !== "reclaim"),
      serializeState: (snapshot) => key(String(snapshot.value), snapshot.context as BitmapContext),
    });
    const reached = new Set<string>([recording ? "recording" : "disabled"]);
    for (const path of paths) {
      const bitmap = new MachineActor("b", bitmapMachine, input, { now: () => 0 });
      const plain = new PlainBitmap(recording);
      for (const step of path.steps.slice(1)) {
        const event = step.event as BitmapEvent;
        if (event.type === "folded") plain.folds -= 1;
        for (const effect of bitmap.send(event)) plain.apply(effect);
        reached.add(bitmap.state);
        expect(bitmap.context.folds).toBe(plain.gone ? bitmap.context.folds : plain.folds);
        if (!plain.gone) expect(bitmap.context.recording).toBe(plain.recording);
        expect(bitmap.state === "frozen").toBe(plain.successor !== null);
        expect(bitmap.state === "exported").toBe(plain.held);
        if (bitmap.state === "inconsistent") expect(plain.recording).toBe(false);
        if (["recording", "disabled", "inconsistent"].includes(bitmap.state)) expect(plain.folds).toBe(0);
      }
    }
    expect(paths.length).toBeGreaterThan(1000);
    expect(reached).toEqual(new Set(bitmapMachine.states));
  });
}
