import { describe, expect, test } from "vitest";
import { bitmapMachine } from "./bitmap-machine.ts";
import { isBitmapBusy } from "./bitmap-refusal.ts";
import type { BitmapContext, BitmapEffect, BitmapEvent, BitmapInput } from "./bitmap-types.ts";
import { MachineActor } from "./machine-actor.ts";
import { bitmapOperations, refuseBitmapOperation } from "../validation/bitmap-operation.ts";

type Bitmap = MachineActor<BitmapInput, BitmapContext, BitmapEvent, BitmapEffect>;
type EventType = BitmapEvent["type"];

const job = { kind: "job", id: "j" } as const;
const other = { node: "a", name: "c" };

function make(input: Partial<BitmapInput> = {}, events: readonly BitmapEvent[] = []): Bitmap {
  const bitmap: Bitmap = new MachineActor(
    "b",
    bitmapMachine,
    { node: "a", name: "b", recording: true, ...input },
    { now: () => 0 },
  );
  for (const event of events) bitmap.send(event);
  return bitmap;
}

/** One event of each type, belonging to command 1. */
const samples: Readonly<Record<EventType, BitmapEvent>> = {
  enable: { type: "enable", command: 1 },
  disable: { type: "disable", command: 1 },
  clear: { type: "clear", command: 1 },
  mergeTarget: { type: "mergeTarget", sources: [other], command: 1 },
  mergeSource: { type: "mergeSource", into: other, command: 1 },
  freeze: { type: "freeze", user: job, mode: "on-success", command: 1 },
  abdicate: { type: "abdicate" },
  reclaim: { type: "reclaim" },
  folded: { type: "folded" },
  take: { type: "take", user: { kind: "export", id: "e" }, command: 1 },
  release: { type: "release" },
  removing: { type: "removing", command: 1 },
  keep: { type: "keep" },
  remove: { type: "remove", command: 1 },
  break: { type: "break", reason: "the journal cannot be written" },
  setFlags: { type: "setFlags", persistent: true },
};
const types = Object.keys(samples) as EventType[];

const freeze: BitmapEvent = { type: "freeze", user: job, mode: "on-success" };
const fold = (command: number): BitmapEvent => ({ type: "mergeSource", into: other, command });

/** How to get into a condition, and which state of the machine that is. */
const conditions = {
  recording: { state: "recording", make: () => make() },
  disabled: { state: "disabled", make: () => make({ recording: false }) },
  "recording, readonly": { state: "recording", make: () => make({ readonly: true }) },
  "folding, the same command": { state: "folding", make: () => make({}, [fold(1)]) },
  "folding, another command": { state: "folding", make: () => make({}, [fold(2)]) },
  "folding, readonly, the same command": { state: "folding", make: () => make({ readonly: true }, [fold(1)]) },
  frozen: { state: "frozen", make: () => make({}, [freeze]) },
  "frozen, disabled": { state: "frozen", make: () => make({ recording: false }, [freeze]) },
  "frozen, fold outstanding": { state: "frozen", make: () => make({}, [fold(1), { ...freeze, command: 1 }]) },
  "frozen, broken": { state: "frozen", make: () => make({}, [freeze, samples.break]) },
  exported: { state: "exported", make: () => make({}, [samples.take]) },
  "exported, disabled": { state: "exported", make: () => make({ recording: false }, [samples.take]) },
  "exported, broken": { state: "exported", make: () => make({}, [samples.take, samples.break]) },
  removing: { state: "removing", make: () => make({}, [samples.removing]) },
  "removing, fold outstanding": { state: "removing", make: () => make({}, [fold(1), samples.removing]) },
  "removing, inconsistent": { state: "removing", make: () => make({}, [samples.break, samples.removing]) },
  inconsistent: { state: "inconsistent", make: () => make({ inconsistent: "in use on disk" }) },
  "inconsistent, readonly": {
    state: "inconsistent",
    make: () => make({ inconsistent: "in use on disk", readonly: true }),
  },
  removed: { state: "removed", make: () => make({}, [samples.remove]) },
} as const;
type Condition = keyof typeof conditions;

const texts: Readonly<Record<string, string>> = {
  B: "Bitmap 'b' is currently in use by another operation and cannot be used",
  R: "Bitmap 'b' is readonly and cannot be modified",
  I: "Bitmap 'b' is inconsistent and cannot be used",
  N: "Dirty bitmap 'b' not found",
};

/** Next state; B, R, I, N: refused with that text; "-": an event out of place. */
// prettier-ignore
const table: Readonly<Record<Condition, string>> = {
  //                                     enable    disable  clear     mergeT   mergeS  freeze abdic   recl    folded  take  rel  removing keep  remove  break setFlags
  recording:                             "recording disabled recording folding folding frozen - - - exported - removing - removed inconsistent recording",
  disabled:                              "recording disabled disabled folding folding frozen - - - exported - removing - removed inconsistent disabled",
  "recording, readonly":                 "recording disabled R R folding R - - - exported - R - R inconsistent recording",
  "folding, the same command":           "folding folding recording folding folding frozen - - recording B - removing - removed folding folding",
  "folding, another command":            "B B B B B B - - recording B - B - B folding folding",
  "folding, readonly, the same command": "folding folding R R folding R - - recording B - R - R folding folding",
  frozen:                                "B B B B B B recording folding - B - B - B frozen frozen",
  "frozen, disabled":                    "B B B B B B disabled folding - B - B - B frozen frozen",
  "frozen, fold outstanding":            "B B B B B B folding folding frozen B - B - B frozen frozen",
  "frozen, broken":                      "B B B B B B inconsistent inconsistent - B - B - B frozen frozen",
  exported:                              "B B B B B B - - - B recording B - B exported exported",
  "exported, disabled":                  "B B B B B B - - - B disabled B - B exported exported",
  "exported, broken":                    "B B B B B B - - - B inconsistent B - B exported exported",
  removing:                              "B B B B B B - - - B - B recording removed removing removing",
  "removing, fold outstanding":          "B B B B B B - - removing B - B folding removed removing removing",
  "removing, inconsistent":              "B B B B B B - - - B - B inconsistent removed removing removing",
  inconsistent:                          "I I I I I I - - - I - removing - removed inconsistent inconsistent",
  "inconsistent, readonly":              "I I R R I R - - - I - R - R inconsistent inconsistent",
  removed:                               "N N N N N N N N N N N N N N N N",
};

describe("every event in every condition", () => {
  test("the table covers every state and every event of the machine", () => {
    expect(new Set(Object.values(conditions).map(({ state }) => state))).toEqual(new Set(bitmapMachine.states));
    expect(new Set(types)).toEqual(new Set(bitmapMachine.events));
    for (const row of Object.values(table)) expect(row.split(" ")).toHaveLength(types.length);
  });

  for (const condition of Object.keys(conditions) as Condition[]) {
    for (const [index, type] of types.entries()) {
      const expected = table[condition].split(" ")[index];
      test(`${condition}: ${type} -> ${expected}`, () => {
        const bitmap = conditions[condition].make();
        expect(bitmap.state).toBe(conditions[condition].state);
        const before = bitmap.snapshot;
        const plan = bitmap.plan(samples[type]);
        expect(bitmap.snapshot).toBe(before);
        if (plan.ok) {
          expect(plan.next.state).toBe(expected);
          bitmap.commit(plan);
          expect(bitmap.history.at(-1)).toMatchObject({ event: type, from: before.state, to: expected });
        } else if (expected === "-") {
          expect(plan.refusal.code).toBe("ERR_BITMAP_STATE");
          expect(plan.refusal.desc).toContain(`in state '${before.state}' cannot accept '${type}'`);
          expect(plan.refusal.fields).toMatchObject({ state: before.state, event: type });
        } else {
          expect(plan.refusal.desc).toBe(texts[expected]);
        }
      });
    }
  }
});

describe("refusals", () => {
  test("a readonly bitmap may be frozen by mode never, and by no other", () => {
    const bitmap = make({ readonly: true });
    expect(bitmap.can({ type: "freeze", user: job, mode: "never" })).toBe(true);
    for (const mode of ["on-success", "always"] as const) {
      expect(bitmap.plan({ type: "freeze", user: job, mode })).toMatchObject({
        ok: false,
        refusal: { code: "ERR_BITMAP_READONLY", desc: texts["R"] },
      });
    }
  });

  test("busy is named before readonly, readonly before inconsistent", () => {
    const all = { busy: true, readonly: true, inconsistent: true };
    for (const operation of bitmapOperations) {
      expect(refuseBitmapOperation("b", all, operation)?.desc).toBe(texts["B"]);
    }
    expect(refuseBitmapOperation("b", { ...all, busy: false }, "clear")?.desc).toBe(texts["R"]);
    expect(refuseBitmapOperation("b", { ...all, busy: false }, "enable")?.desc).toBe(texts["I"]);
    expect(refuseBitmapOperation("b", { ...all, busy: false, readonly: false }, "clear")?.desc).toBe(texts["I"]);
    expect(refuseBitmapOperation("b", { ...all, busy: false, readonly: false }, "remove")).toBeUndefined();
  });

  test("send throws what plan refuses, with the operation first", () => {
    expect(() => make({}, [freeze]).send({ type: "clear" })).toThrow(
      expect.objectContaining({ code: "ERR_BITMAP_BUSY", message: `bitmap clear: ${texts["B"]}`, desc: texts["B"] }),
    );
  });

  test("an inconsistent bitmap says why in its history", () => {
    const bitmap = make({}, [samples.break]);
    expect(bitmap.history.at(-1)).toMatchObject({ to: "inconsistent", reason: "the journal cannot be written" });
  });
});

describe("effects", () => {
  test("freeze hands recording to a successor that inherits it", () => {
    expect(make().send(freeze)).toEqual([{ type: "freeze", user: job, successorRecording: true, unsettled: false }]);
    expect(make({ recording: false }).send(freeze)).toMatchObject([{ successorRecording: false }]);
  });

  test("abdicate leaves nothing to fold, reclaim folds the successor, always after a failure what was not copied", () => {
    const success = make({}, [freeze]);
    expect(success.send({ type: "abdicate" })).toEqual([{ type: "abdicate" }]);
    expect(success.context).toMatchObject({ folds: 0, user: null, recording: true });
    const failure = make({}, [freeze]);
    expect(failure.send({ type: "reclaim" })).toEqual([
      { type: "reclaim", recording: true },
      { type: "fold", from: { kind: "successor" } },
    ]);
    expect(failure.state).toBe("folding");
    failure.send({ type: "folded" });
    expect(failure.state).toBe("recording");
    const always = make({}, [freeze]);
    expect(always.send({ type: "abdicate", uncopied: true })).toEqual([
      { type: "abdicate" },
      { type: "fold", from: { kind: "uncopied" } },
    ]);
    expect(isBitmapBusy(always.snapshot)).toBe(true);
  });

  test("add disabled, merge and clear work within one transaction: an atomic rename", () => {
    const target = make({ name: "c", recording: false });
    const source = make();
    const merged = target.plan({ type: "mergeTarget", sources: [{ node: "a", name: "b" }], command: 7 });
    const read = source.plan({ type: "mergeSource", into: other, command: 7 });
    if (!merged.ok || !read.ok) throw new Error("planned");
    const cleared = source.plan({ type: "clear", command: 7 }, read);
    if (!cleared.ok) throw new Error("planned");
    expect(source.plan({ type: "clear", command: 8 }, read)).toMatchObject({ refusal: { desc: texts["B"] } });
    expect([...read.effects, ...cleared.effects]).toEqual([
      { type: "fresh-layer", into: other },
      { type: "fold", from: { kind: "old-layer" } },
      { type: "swap-empty", voidedFolds: 1 },
    ]);
    expect(source.state).toBe("recording");
    source.commit(read);
    source.commit(cleared);
    target.commit(merged);
    expect(source).toMatchObject({ state: "recording", context: { folds: 0 } });
    expect(target).toMatchObject({ state: "folding", context: { folds: 1 } });
  });

  test("a backup may freeze what the same transaction merged, and its set is then not known at the instant", () => {
    const bitmap = make({ recording: false }, [{ type: "mergeTarget", sources: [other, other], command: 3 }]);
    expect(bitmap.send({ ...freeze, command: 3 })).toMatchObject([{ type: "freeze", unsettled: true }]);
    bitmap.send({ type: "folded" });
    bitmap.send({ type: "folded" });
    expect(bitmap).toMatchObject({ state: "frozen", context: { folds: 0 } });
    expect(bitmap.can({ type: "folded" })).toBe(false);
  });

  test("enabling what is enabled changes nothing", () => {
    expect(make().send({ type: "enable" })).toEqual([]);
    expect(make().send({ type: "disable" })).toEqual([{ type: "record", recording: false }]);
  });

  test("breaking a frozen bitmap: it stays with its job, and neither heir nor parent is folded afterwards", () => {
    for (const end of ["abdicate", "reclaim"] as const) {
      const bitmap = make({}, [freeze]);
      expect(bitmap.send(samples.break)).toEqual([{ type: "record", recording: false }]);
      expect(bitmap.send({ type: end })).toEqual([{ type: "discard-bits", reason: "the journal cannot be written" }]);
      expect(bitmap).toMatchObject({ state: "inconsistent", context: { user: null, recording: false } });
    }
  });
});
