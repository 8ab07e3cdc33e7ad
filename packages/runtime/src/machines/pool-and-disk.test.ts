import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { diskMachine, type DiskContext, type DiskEffect, type DiskEvent } from "./disk-machine.ts";
import { MachineActor } from "./machine-actor.ts";
import { poolMachine, type PoolContext, type PoolEffect, type PoolEvent } from "./pool-machine.ts";

type Pool = MachineActor<undefined, PoolContext, PoolEvent, PoolEffect>;
type Disk = MachineActor<{ readonly name: string }, DiskContext, DiskEvent, DiskEffect>;

const pool = (events: readonly PoolEvent[] = []): Pool => {
  const actor = new MachineActor("pool", poolMachine, undefined, { now: () => 0 });
  for (const event of events) actor.send(event);
  return actor;
};
const died: PoolEvent = { type: "threadDied", reason: "killed" };

/** The answer to each event: the state that follows, or "-" for a refusal with the machine's code. */
function answers<Context, Event extends { type: string }, Effect extends { type: string }, Input>(
  actor: MachineActor<Input, Context, Event, Effect>,
  events: readonly Event[],
  codes: readonly string[],
): readonly string[] {
  return events.map((event) => {
    const plan = actor.plan(event);
    if (plan.ok) return plan.next.state;
    expect(codes).toContain(plan.refusal.code);
    return "-";
  });
}

describe("the pool", () => {
  test("every event in every state", () => {
    const started: PoolEvent = { type: "taskStarted" };
    const close: PoolEvent = { type: "close" };
    const conditions = {
      idle: pool(),
      serving: pool([started]),
      "serving two": pool([started, started]),
      closing: pool([started, close]),
      closed: pool([close, { type: "closed" }]),
    };
    const events: readonly PoolEvent[] = [started, { type: "taskEnded" }, died, close, { type: "closed" }];
    expect(new Set(Object.values(conditions).map(({ state }) => state))).toEqual(new Set(poolMachine.states));
    expect(new Set(events.map(({ type }) => type))).toEqual(new Set(poolMachine.events));
    expect(
      Object.fromEntries(
        Object.entries(conditions).map(([name, actor]) => [name, answers(actor, events, ["ERR_POOL_STATE"])]),
      ),
    ).toEqual({
      idle: ["serving", "-", "-", "closing", "-"],
      serving: ["serving", "idle", "idle", "closing", "-"],
      "serving two": ["serving", "serving", "serving", "closing", "-"],
      closing: ["-", "closing", "closing", "-", "closed"],
      closed: ["-", "-", "-", "-", "-"],
    });
  });

  test("a death is told, and remembered", () => {
    const actor = pool([{ type: "taskStarted" }, { type: "taskStarted" }]);
    expect(actor.send(died)).toEqual([{ type: "tell-death", reason: "killed", deaths: 1 }]);
    expect(actor.context).toEqual({ tasks: 1, deaths: 1, lastDeath: "killed" });
    expect(actor.history.at(-1)?.reason).toBe("killed");
  });

  test("tasks are counted, whatever their order", () => {
    const event = fc.constantFrom<PoolEvent>({ type: "taskStarted" }, { type: "taskEnded" }, died);
    fc.assert(
      fc.property(fc.array(event, { maxLength: 40 }), (events) => {
        const actor = pool();
        let tasks = 0;
        for (const next of events) {
          const possible = next.type === "taskStarted" || tasks > 0;
          expect(actor.can(next)).toBe(possible);
          if (!possible) continue;
          actor.send(next);
          tasks += next.type === "taskStarted" ? 1 : -1;
          expect(actor.context.tasks).toBe(tasks);
          expect(actor.state).toBe(tasks === 0 ? "idle" : "serving");
        }
      }),
    );
  });
});

describe("a disk", () => {
  const job = { kind: "job", id: "j" } as const;
  const view = { kind: "view", id: "v" } as const;
  const disk = (events: readonly DiskEvent[] = []): Disk => {
    const actor = new MachineActor("a", diskMachine, { name: "a" }, { now: () => 0 });
    for (const event of events) actor.send(event);
    return actor;
  };
  const use = (user: typeof job | typeof view): DiskEvent => ({ type: "use", user });
  const force: DiskEvent = { type: "detach", force: true };

  test("every event in every state", () => {
    const conditions = {
      open: disk(),
      "open, used": disk([use(job)]),
      detaching: disk([force]),
      "detaching, used": disk([use(job), force]),
      closed: disk([force, { type: "closed" }]),
    };
    const events: readonly DiskEvent[] = [
      use(job),
      { type: "unuse", user: job },
      { type: "detach", force: false },
      force,
      { type: "closed" },
    ];
    expect(new Set(Object.values(conditions).map(({ state }) => state))).toEqual(new Set(diskMachine.states));
    expect(new Set(events.map(({ type }) => type))).toEqual(new Set(diskMachine.events));
    expect(
      Object.fromEntries(
        Object.entries(conditions).map(([name, actor]) => [
          name,
          answers(actor, events, ["ERR_DISK_STATE", "ERR_DISK_IN_USE"]),
        ]),
      ),
    ).toEqual({
      open: ["open", "-", "detaching", "detaching", "-"],
      "open, used": ["-", "open", "-", "detaching", "-"],
      detaching: ["-", "-", "-", "-", "closed"],
      "detaching, used": ["-", "detaching", "-", "-", "-"],
      closed: ["-", "-", "-", "-", "-"],
    });
  });

  test("is not detached while somebody uses it, and says who", () => {
    expect(disk([use(job), use(view)]).plan({ type: "detach", force: false })).toMatchObject({
      refusal: { code: "ERR_DISK_IN_USE", desc: "Disk 'a' is in use by job 'j', view 'v'" },
    });
  });

  test("a forced detach ends its users, and closes when the last has let go", () => {
    const actor = disk([use(job), use(view)]);
    expect(actor.send(force)).toEqual([
      { type: "end", user: job },
      { type: "end", user: view },
    ]);
    expect(actor.send({ type: "unuse", user: job })).toEqual([]);
    expect(actor.send({ type: "unuse", user: view })).toEqual([{ type: "close" }]);
    expect(disk().send(force)).toContainEqual({ type: "close" });
  });
});
