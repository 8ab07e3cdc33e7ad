/** An export's life: every event in every state, accepted or refused in words. */
import { expect, test } from "vitest";
import {
  type ExportContext,
  type ExportEffect,
  type ExportEvent,
  type ExportInput,
  exportMachine,
} from "./export-machine.ts";
import { MachineActor } from "./machine-actor.ts";

const input: ExportInput = { id: "e", of: "a", bitmaps: ["daily"] };
const came: ExportEvent = { type: "connected", peer: "p" };
const went: ExportEvent = { type: "disconnected", peer: "p", reason: "r" };
const remove = (mode: "safe" | "soft" | "hard"): ExportEvent => ({ type: "remove", mode });

function after(...events: ExportEvent[]): MachineActor<ExportInput, ExportContext, ExportEvent, ExportEffect> {
  const actor = new MachineActor("export e", exportMachine, input, { now: () => 0 });
  for (const event of events) actor.send(event);
  return actor;
}

/** What becomes of it, from the table at the machine's top: the next state and its clients, or a refusal's code. */
function outcome(before: readonly ExportEvent[], event: ExportEvent): string {
  const actor = after(...before);
  const plan = actor.plan(event);
  if (!plan.ok) return plan.refusal.code;
  actor.commit(plan);
  return `${actor.state} ${actor.context.clients}`;
}

test("every event in every state", () => {
  const serving: ExportEvent[] = [];
  const used = [came];
  const removing = [came, remove("hard")];
  const removed = [remove("safe"), { type: "letGo" } as const];
  const table: [readonly ExportEvent[], ExportEvent, string][] = [
    [serving, came, "serving 1"],
    [serving, went, "ERR_EXPORT_STATE"],
    [serving, remove("safe"), "removing 0"],
    [serving, remove("soft"), "removing 0"],
    [serving, remove("hard"), "removing 0"],
    [serving, { type: "letGo" }, "ERR_EXPORT_STATE"],
    [used, came, "serving 2"],
    [used, went, "serving 0"],
    [used, remove("safe"), "ERR_EXPORT_IN_USE"],
    [used, remove("soft"), "removing 1"],
    [used, remove("hard"), "removing 1"],
    [removing, came, "removing 2"],
    [removing, went, "removing 0"],
    [removing, remove("hard"), "ERR_EXPORT_STATE"],
    [removing, { type: "letGo" }, "removed 1"],
    [removed, came, "ERR_EXPORT_STATE"],
    [removed, went, "ERR_EXPORT_STATE"],
    [removed, remove("hard"), "ERR_EXPORT_STATE"],
    [removed, { type: "letGo" }, "ERR_EXPORT_STATE"],
  ];
  for (const [before, event, expected] of table) {
    const told = `${before.map(({ type }) => type).join(", ")} and ${JSON.stringify(event)}`;
    expect(outcome(before, event), told).toBe(expected);
  }
});

test("a removal says whether clients are cut off, and its end gives the bitmaps back once", () => {
  for (const [mode, hard] of [
    ["safe", true],
    ["soft", false],
    ["hard", true],
  ] as const) {
    const actor = after();
    expect(actor.send(remove(mode))).toEqual([{ type: "end", hard }]);
    expect(actor.send({ type: "letGo" })).toEqual([{ type: "release", bitmaps: ["daily"] }]);
  }
});
