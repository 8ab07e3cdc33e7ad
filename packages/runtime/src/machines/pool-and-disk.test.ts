import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { diskMachine, type DiskContext, type DiskEffect, type DiskEvent } from "./disk-machine.ts";
import { MachineActor } from "./machine-actor.ts";
import { poolMachine, type PoolContext, type PoolEffect, type PoolEvent, type PoolInput } from "./pool-machine.ts";

type Pool = MachineActor<PoolInput, PoolContext, PoolEvent, PoolEffect>;
type Disk = MachineActor<{ readonly name: string }, DiskContext, DiskEvent, DiskEffect>;

const pool = (threads: number, events: readonly PoolEvent[] = []): Pool => {
  const actor = new MachineActor("pool", poolMachine, { threads }, { now: () => 0 });
  for (const event of events) actor.send(event);
  return actor;
};
const ready = (thread: number): PoolEvent => ({ type: "threadReady", thread });
const exited = (thread: number): PoolEvent => ({ type: "threadExited", thread, reason: "killed" });
const failed: PoolEvent = { type: "threadFailed", reason: "no memory" };

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
    const conditions = {
      starting: pool(1),
      "starting, two": pool(2),
      serving: pool(1, [ready(1)]),
      degraded: pool(2, [ready(1), ready(2), exited(2)]),
      "degraded, nothing on its way": pool(1, [failed]),
      closing: pool(1, [ready(1), { type: "close" }]),
      "closing while one starts": pool(1, [{ type: "close" }]),
      closed: pool(0, [{ type: "close" }]),
    };
    const events: readonly PoolEvent[] = [
      { type: "grow", threads: 3 },
      ready(9),
      failed,
      exited(1),
      { type: "close" },
      { type: "grow", threads: 0 },
    ];
    expect(new Set(Object.values(conditions).map(({ state }) => state))).toEqual(new Set(poolMachine.states));
    expect(new Set(events.map(({ type }) => type))).toEqual(new Set(poolMachine.events));
    expect(
      Object.fromEntries(
        Object.entries(conditions).map(([name, actor]) => [name, answers(actor, events, ["ERR_POOL_STATE"])]),
      ),
    ).toEqual({
      starting: ["starting", "serving", "degraded", "-", "closing", "-"],
      "starting, two": ["starting", "starting", "degraded", "-", "closing", "-"],
      serving: ["starting", "-", "-", "degraded", "closing", "-"],
      degraded: ["degraded", "serving", "degraded", "degraded", "closing", "-"],
      "degraded, nothing on its way": ["degraded", "-", "-", "-", "closed", "-"],
      closing: ["-", "-", "-", "closed", "-", "-"],
      "closing while one starts": ["-", "closing", "closed", "-", "-", "-"],
      closed: ["-", "-", "-", "-", "-", "-"],
    });
  });

  test("a thread that died is released and replaced, one that never served is not", () => {
    const actor = pool(1, [ready(1)]);
    expect(actor.send(exited(1))).toEqual([
      { type: "release-thread", thread: 1, reason: "killed" },
      { type: "start-threads", count: 1 },
    ]);
    expect(actor.send(failed)).toEqual([]);
    expect(actor.context).toMatchObject({ deaths: 2, lastDeath: "no memory", starting: 0 });
    expect(actor.send({ type: "grow", threads: 1 })).toEqual([{ type: "start-threads", count: 1 }]);
    actor.send(ready(2));
    expect(actor.state).toBe("serving");
  });

  test("closing stops all, those that become ready late too, and is over when the last has left", () => {
    const actor = pool(2, [ready(1)]);
    expect(actor.send({ type: "close" })).toEqual([{ type: "stop-thread", thread: 1 }]);
    expect(actor.send(ready(2))).toEqual([{ type: "stop-thread", thread: 2 }]);
    expect(actor.send(exited(1))).toEqual([{ type: "release-thread", thread: 1, reason: "killed" }]);
    expect(actor.send(exited(2)).at(-1)).toEqual({ type: "closed" });
    expect(actor.state).toBe("closed");
  });

  test("whatever happens, asked for is wanted: threads on their way and serving are those that were started", () => {
    const event = fc.oneof(
      fc.record({ type: fc.constant("grow" as const), threads: fc.integer({ min: 1, max: 5 }) }),
      fc.integer({ min: 1, max: 6 }).map(ready),
      fc.integer({ min: 1, max: 6 }).map(exited),
      fc.constant(failed),
    );
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 3 }), fc.array(event, { maxLength: 40 }), (threads, events) => {
        const actor = pool(threads);
        let alive = 0;
        const count = (effects: readonly PoolEffect[]): void => {
          for (const effect of effects) if (effect.type === "start-threads") alive += effect.count;
        };
        count(actor.initialEffects);
        for (const next of events) {
          const plan = actor.plan(next);
          if (!plan.ok) continue;
          actor.commit(plan);
          if (next.type === "threadFailed" || next.type === "threadExited") alive -= 1;
          count(plan.effects);
          expect(actor.context.serving.length + actor.context.starting).toBe(alive);
          expect(alive).toBeLessThanOrEqual(actor.context.wanted);
          expect(actor.state === "serving").toBe(actor.context.serving.length === actor.context.wanted);
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
