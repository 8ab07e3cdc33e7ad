/** The table of what becomes of a bitmap, against the sentences of DESIGN 3.5 and a bitmap as a set of granules. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { bitmapMachine } from "../machines/bitmap-machine.ts";
import { MachineActor } from "../machines/machine-actor.ts";
import {
  bitmapModes,
  bitmapOutcome,
  isBitmapPair,
  outcomeBits,
  outcomeEvent,
  syncs,
  type BitmapMode,
  type Sync,
} from "./outcome.ts";

const pairs: readonly (readonly [Sync, BitmapMode])[] = [
  ["incremental", "on-success"],
  ["bitmap", "on-success"],
  ["bitmap", "never"],
  ["bitmap", "always"],
  ["full", "on-success"],
  ["full", "always"],
  ["top", "on-success"],
  ["top", "always"],
];

describe("what becomes of a job's bitmap", () => {
  test("exactly the eight pairs exist", () => {
    for (const sync of syncs) {
      for (const mode of bitmapModes) {
        expect(isBitmapPair(sync, mode), `${sync} ${mode}`).toBe(pairs.some(([s, m]) => s === sync && m === mode));
      }
    }
    expect(bitmapOutcome("none", "always", "success")).toBeUndefined();
  });

  test.each(pairs)("%s with bitmap-mode %s", (sync, mode) => {
    // DESIGN 3.5, said again: on-success: W, else P and W; never: both; always: W, else W and U.
    const success = mode === "never" ? "P|W" : "W";
    const failure = mode === "always" ? "W|U" : "P|W";
    expect(bitmapOutcome(sync, mode, "success")).toBe(success);
    expect(bitmapOutcome(sync, mode, "failure")).toBe(failure);
    expect(bitmapOutcome(sync, mode, "refused")).toBe("P");
  });

  test.each(pairs)("the bitmap machine brings %s with bitmap-mode %s about", (sync, mode) => {
    const granules = fc.uniqueArray(fc.integer({ min: 0, max: 15 })).map((list) => new Set(list));
    const union = (a: ReadonlySet<number>, b: ReadonlySet<number>): ReadonlySet<number> => new Set([...a, ...b]);
    fc.assert(
      fc.property(granules, granules, granules, fc.boolean(), fc.boolean(), (P, written, U, recording, succeeds) => {
        const bitmap = new MachineActor("b", bitmapMachine, { node: "a", name: "b", recording }, { now: () => 0 });
        const W = recording ? written : new Set<number>();
        const outcome = bitmapOutcome(sync, mode, succeeds ? "success" : "failure");
        const event = outcome === undefined ? undefined : outcomeEvent(outcome);
        if (outcome === undefined || event === undefined) throw new Error("a job that ran has an outcome");
        // What the effects do to sets of granules: a parent, a successor and what is folded.
        const bits = { parent: P as ReadonlySet<number>, successor: W as ReadonlySet<number> };
        bitmap.send({ type: "freeze", user: { kind: "job", id: "j" }, mode });
        for (const effect of bitmap.send(event)) {
          if (effect.type === "abdicate") bits.parent = bits.successor;
          else if (effect.type === "fold") {
            bits.parent = union(bits.parent, effect.from.kind === "uncopied" ? U : bits.successor);
            bitmap.send({ type: "folded" });
          }
        }
        const expected = outcomeBits(outcome, { P, W, U }, union);
        expect(new Set(bits.parent)).toEqual(expected);
        expect(bitmap.state).toBe(recording ? "recording" : "disabled");
      }),
    );
  });

  test("a job that never started leaves its bitmap alone", () => {
    expect(outcomeEvent("P")).toBeUndefined();
    expect(outcomeBits("P", { P: 1, W: 2, U: 4 }, (a, b) => a | b)).toBe(1);
  });
});
