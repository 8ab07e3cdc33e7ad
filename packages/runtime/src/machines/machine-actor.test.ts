import { describe, expect, test } from "vitest";
import { bitmapMachine } from "./bitmap-machine.ts";
import { toMermaid } from "./diagram.ts";
import { diskMachine } from "./disk-machine.ts";
import { groupMachine } from "./group-machine.ts";
import { jobMachine } from "./job-machine.ts";
import { MachineActor } from "./machine-actor.ts";
import { poolMachine } from "./pool-machine.ts";
import { transactionMachine } from "./transaction-machine.ts";

let clock = 0;
const options = { now: () => (clock += 1) };
const input = { node: "a", name: "b", recording: true };

describe("an actor", () => {
  test("plans without changing, commits chained plans in order, and nothing else", () => {
    const actor = new MachineActor("b", bitmapMachine, input, options);
    const first = actor.plan({ type: "disable" });
    if (!first.ok) throw new Error("planned");
    const second = actor.plan({ type: "enable" }, first);
    if (!second.ok) throw new Error("planned");
    expect(second.effects).toEqual([{ type: "record", recording: true }]);
    expect(actor.state).toBe("recording");
    expect(() => actor.commit(second)).toThrow("was made for another snapshot");
    actor.commit(first);
    expect(actor.state).toBe("disabled");
    expect(() => actor.commit(first)).toThrow("was made for another snapshot");
    actor.commit(second);
    expect(actor.state).toBe("recording");
  });

  test("keeps a bounded history with the injected clock", () => {
    clock = 0;
    const actor = new MachineActor("b", bitmapMachine, input, { ...options, historyMax: 2 });
    actor.send({ type: "disable" });
    actor.send({ type: "break", reason: "the sidecar cannot be read" });
    expect(actor.history).toEqual([
      { at: 2, event: "disable", from: "recording", to: "disabled" },
      { at: 3, event: "break", from: "disabled", to: "inconsistent", reason: "the sidecar cannot be read" },
    ]);
    expect(actor.inspect()).toMatchObject({
      id: "b",
      machine: "bitmap",
      state: "inconsistent",
      history: actor.history,
    });
  });

  test("tells its listeners after each commit, until they leave", () => {
    const actor = new MachineActor("b", bitmapMachine, input, options);
    const seen: string[] = [];
    const leave = actor.onTransition((entry, snapshot) => seen.push(`${entry.event} ${entry.to} ${snapshot.state}`));
    actor.send({ type: "disable" });
    actor.plan({ type: "enable" });
    leave();
    actor.send({ type: "enable" });
    expect(seen).toEqual(["disable disabled disabled"]);
  });

  test("names the state and what it accepts when an event is out of place", () => {
    const actor = new MachineActor("b", bitmapMachine, { ...input, inconsistent: "in use" }, options);
    const plan = actor.plan({ type: "release" });
    expect(plan).toMatchObject({
      ok: false,
      refusal: {
        code: "ERR_BITMAP_STATE",
        desc: "Bitmap 'b' in state 'inconsistent' cannot accept 'release' (it accepts: removing, remove, break, setFlags)",
      },
    });
  });
});

describe("the diagram of a machine", () => {
  test.each([bitmapMachine, jobMachine, groupMachine, transactionMachine, poolMachine, diskMachine])(
    "names every state and every event of $name, and is always the same",
    (machine) => {
      const diagram = toMermaid(machine);
      const lines = diagram.trimEnd().split("\n");
      expect(lines[0]).toBe("stateDiagram-v2");
      for (const line of lines.slice(1)) expect(line).toMatch(/^ {2}(\[\*\]|\w+) --> (\[\*\]|\w+)( : [^:;]+)?$/);
      const drawn = new Set(
        lines.flatMap((line) => [...line.matchAll(/\w+(?= -->)|(?<=--> )\w+/g)].map(([state]) => state)),
      );
      expect(drawn).toEqual(new Set(machine.states));
      const labels = new Set(lines.map((line) => line.split(" : ")[1]?.split(" ")[0]));
      for (const event of machine.events) expect(labels).toContain(event);
      expect(toMermaid(machine)).toBe(diagram);
    },
  );

  test("of a disk", () => {
    expect(toMermaid(diskMachine)).toBe(`stateDiagram-v2
  [*] --> open
  open --> open : use [new user]
  open --> open : unuse [a user]
  open --> detaching : detach [nobody uses it]
  open --> detaching : detach [force]
  detaching --> detaching : unuse [last user]
  detaching --> detaching : unuse [a user]
  detaching --> closed : closed [nobody uses it]
  closed --> [*]
`);
  });
});
