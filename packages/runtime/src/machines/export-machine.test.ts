import { describe, expect, test } from "vitest";
import {
  type ExportContext,
  type ExportEffect,
  type ExportEvent,
  type ExportInput,
  exportMachine,
} from "./export-machine.ts";
import { MachineActor } from "./machine-actor.ts";

type Export = MachineActor<ExportInput, ExportContext, ExportEvent, ExportEffect>;

const connected: ExportEvent = { type: "connected", peer: "a" };
const disconnected: ExportEvent = { type: "disconnected", peer: "a", reason: "goodbye" };
const remove = (mode: "safe" | "soft" | "hard"): ExportEvent => ({ type: "remove", mode });
const letGo: ExportEvent = { type: "letGo" };

function exported(events: readonly ExportEvent[] = []): Export {
  const input = { id: "e", of: "disk0", bitmaps: ["daily"] };
  const actor = new MachineActor("export e", exportMachine, input, { now: () => 0 });
  for (const event of events) actor.send(event);
  return actor;
}

describe("an export", () => {
  test("every event in every state", () => {
    const conditions = {
      serving: exported(),
      "serving a client": exported([connected]),
      removing: exported([remove("safe")]),
      "removing with a client": exported([connected, remove("soft")]),
      removed: exported([remove("hard"), letGo]),
    };
    const events = [connected, disconnected, remove("safe"), remove("soft"), remove("hard"), letGo];
    expect(new Set(Object.values(conditions).map(({ state }) => state))).toEqual(new Set(exportMachine.states));
    expect(new Set(events.map(({ type }) => type))).toEqual(new Set(exportMachine.events));
    const answers = Object.entries(conditions).map(([name, actor]) => [
      name,
      events.map((event) => {
        const plan = actor.plan(event);
        if (plan.ok) return plan.next.state;
        expect(["ERR_EXPORT_STATE", "ERR_EXPORT_IN_USE"]).toContain(plan.refusal.code);
        return "-";
      }),
    ]);
    expect(Object.fromEntries(answers)).toEqual({
      serving: ["serving", "-", "removing", "removing", "removing", "-"],
      "serving a client": ["serving", "serving", "-", "removing", "removing", "-"],
      removing: ["removing", "-", "-", "-", "-", "removed"],
      "removing with a client": ["removing", "removing", "-", "-", "-", "removed"],
      removed: ["-", "-", "-", "-", "-", "-"],
    });
  });

  test("a removal with clients is refused in QEMU's words, unless it is forced", () => {
    const plan = exported([connected]).plan(remove("safe"));
    expect(plan).toMatchObject({
      ok: false,
      refusal: { code: "ERR_EXPORT_IN_USE", desc: "export 'e' still in use", fields: { clients: 1 } },
    });
    expect(exported([connected]).send(remove("hard"))).toEqual([{ type: "end", hard: true }]);
    expect(exported([connected]).send(remove("soft"))).toEqual([{ type: "end", hard: false }]);
  });

  test("its bitmaps are released when the last thread has let go, and not before", () => {
    const actor = exported([connected]);
    expect(actor.send(remove("hard"))).not.toContainEqual({ type: "release", bitmaps: ["daily"] });
    expect(actor.send(disconnected)).toEqual([]);
    expect(actor.send(letGo)).toEqual([{ type: "release", bitmaps: ["daily"] }]);
  });
});
