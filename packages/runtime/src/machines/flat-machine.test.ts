/** Each machine's steps against XState's own interpreter: everything reachable, with every event. */
import { isDeepStrictEqual } from "node:util";
import { expect, test } from "vitest";
import { initialTransition, setup, transition } from "xstate";
import { bitmapMachine } from "./bitmap-machine.ts";
import { diskMachine } from "./disk-machine.ts";
import { exportMachine } from "./export-machine.ts";
import { effectsAction, FlatMachine } from "./flat-machine.ts";
import { groupMachine } from "./group-machine.ts";
import { jobMachine } from "./job-machine.ts";
import type { Machine, MachineSnapshot, Tagged } from "./machine.ts";
import { poolMachine } from "./pool-machine.ts";
import { transactionMachine } from "./transaction-machine.ts";

const booleans = [true, false];
const user = { kind: "job", id: "j" } as const;
const other = { node: "a", name: "c" };

type AnyMachine = Machine<unknown, object, Tagged, Tagged>;
interface Subject {
  readonly machine: AnyMachine;
  readonly inputs: readonly unknown[];
  readonly events: readonly Tagged[];
}
function subject<Input, Context extends object, Event extends Tagged, Effect extends Tagged>(
  machine: Machine<Input, Context, Event, Effect>,
  inputs: readonly Input[],
  events: readonly Event[],
): Subject {
  return { machine, inputs, events };
}

const subjects: readonly Subject[] = [
  subject(
    bitmapMachine,
    [
      { node: "a", name: "b", recording: true },
      { node: "a", name: "b", recording: true, inconsistent: "i" },
    ],
    [
      ...[1, 2].flatMap((command) => [
        { type: "enable", command } as const,
        { type: "disable", command } as const,
        { type: "clear", command } as const,
        { type: "mergeTarget", sources: [other], command } as const,
        { type: "mergeSource", into: other, command } as const,
        { type: "freeze", user, mode: "on-success", command } as const,
        { type: "freeze", user, mode: "never", command } as const,
        { type: "take", user: { kind: "export", id: "e" }, command } as const,
        { type: "removing", command } as const,
        { type: "remove", command } as const,
      ]),
      { type: "abdicate" },
      { type: "abdicate", uncopied: true },
      { type: "reclaim" },
      { type: "folded" },
      { type: "release" },
      { type: "keep" },
      { type: "break", reason: "r" },
      ...booleans.flatMap((readonly) => [{ type: "setFlags", readonly } as const]),
    ],
  ),
  subject(
    jobMachine,
    booleans.flatMap((autoFinalize) =>
      booleans.flatMap((autoDismiss) => [
        { id: "j", autoFinalize, autoDismiss },
        { id: "j", autoFinalize, autoDismiss, group: "g" },
      ]),
    ),
    [
      { type: "start" },
      { type: "refuse", error: "e" },
      ...booleans.flatMap((byUser) => [
        { type: "pause", user: byUser } as const,
        { type: "resume", user: byUser } as const,
        { type: "cancel", force: byUser } as const,
      ]),
      { type: "setSpeed", speed: 5 },
      { type: "setSpeed", speed: -1 },
      { type: "finalize" },
      { type: "dismiss" },
      { type: "allCopied" },
      { type: "groupReady" },
      { type: "commit" },
      { type: "settled" },
      { type: "recordFailed", error: "e" },
      { type: "fail", error: "e" },
      ...(["stop", "report", "ignore"] as const).map(
        (action) => ({ type: "ioError", operation: "read", action, noSpace: true, error: "e" }) as const,
      ),
      { type: "peerFailed" },
    ],
  ),
  subject(
    groupMachine,
    booleans.map((autoFinalize) => ({ id: "g", members: ["a", "b"].map((job) => ({ job, manual: !autoFinalize })) })),
    ["a", "b", "nobody"]
      .flatMap((job) => [
        { type: "memberWaiting", job } as const,
        { type: "memberFailed", job } as const,
        { type: "memberSettled", job } as const,
      ])
      .concat([{ type: "finalize" } as never]),
  ),
  subject(
    transactionMachine,
    [0, 1, 3].map((count) => ({ id: 1, actions: Array.from({ length: count }, () => "abort" as never) })),
    [{ type: "prepared" }, { type: "refused", refusal: { code: "ERR", desc: "d" } as never }, { type: "carriedOut" }],
  ),
  subject(
    poolMachine,
    [undefined as never],
    [
      { type: "taskStarted" },
      { type: "taskEnded" },
      { type: "threadDied", reason: "r" },
      { type: "close" },
      { type: "closed" },
    ],
  ),
  subject(
    diskMachine,
    [{ name: "d" } as never],
    [
      ...["a", "b"].flatMap((id) => [
        { type: "use", user: { kind: "job", id } } as const,
        { type: "unuse", user: { kind: "job", id } } as const,
      ]),
      ...booleans.map((force) => ({ type: "detach", force }) as const),
      { type: "closed" },
    ],
  ),
  subject(
    exportMachine,
    [{ id: "e", bitmaps: ["b"] } as never],
    [
      { type: "connected", peer: "p" },
      { type: "disconnected", peer: "p", reason: "r" },
      ...(["safe", "soft", "hard"] as const).map((mode) => ({ type: "remove", mode }) as const),
      { type: "letGo" },
    ],
  ),
];

/** Counters grow without end: this many situations of a machine say all. */
const situationsMax = 500;

type Told = readonly [Pick<MachineSnapshot<unknown>, "state" | "context" | "done">, readonly unknown[]];

function told([next, actions]: ReturnType<typeof transition>): Told {
  const effects = actions.flatMap((action: { readonly params?: unknown }) => action.params as readonly unknown[]);
  return [{ state: String(next.value), context: next.context as unknown, done: next.status === "done" }, effects];
}

for (const { machine, inputs, events } of subjects) {
  test(`${machine.name}: a step is XState's own`, () => {
    const { logic } = machine;
    const seen = new Map<string, MachineSnapshot<object>>();
    const queue: MachineSnapshot<object>[] = [];
    const meet = (snapshot: MachineSnapshot<object>): void => {
      const key = JSON.stringify(snapshot);
      if (seen.has(key) || seen.size >= situationsMax) return;
      seen.set(key, snapshot);
      queue.push(snapshot);
    };
    for (const input of inputs) {
      const { snapshot, effects } = machine.initial(input);
      expect([snapshot, effects]).toEqual(told(initialTransition(logic, input)));
      meet(snapshot);
    }
    let steps = 0;
    for (let at = queue.shift(); at !== undefined; at = queue.shift()) {
      if (at.done) {
        for (const event of events) expect(machine.can(at, event)).toBe(false);
        continue;
      }
      const resolved = logic.resolveState({ value: at.state, context: at.context });
      for (const event of events) {
        const can = resolved.can(event);
        if (machine.can(at, event) !== can)
          expect.fail(`${at.state} ${JSON.stringify(event)}: ${can ? "can" : "cannot"}`);
        if (!can) continue;
        const { snapshot, effects } = machine.step(at, event);
        const theirs = told(transition(logic, resolved, event));
        if (!isDeepStrictEqual([snapshot, effects], theirs)) expect([snapshot, effects]).toEqual(theirs);
        meet(snapshot);
        steps++;
      }
    }
    expect(steps).toBeGreaterThan(events.length);
    const reached = new Set([...seen.values()].map(({ state }) => state));
    if (seen.size < situationsMax) expect([...reached].sort()).toEqual([...machine.states].sort());
  });
}

const base = setup({
  types: { context: {} as { n: number }, events: {} as { type: "go" } },
  actions: { [effectsAction]: () => {} },
});
test.each([
  ["nested states", { initial: "a", states: { a: { initial: "b", states: { b: {} } } } }, "a machine is flat"],
  ["an exit action", { initial: "a", states: { a: { exit: "effects" } } }, "nothing on its exit"],
  [
    "a guard without a name",
    { initial: "a", states: { a: { on: { go: { guard: () => true } } } } },
    "a guard has a name",
  ],
  [
    "an action of another kind",
    { initial: "a", states: { a: { on: { go: { actions: () => {} } } } } },
    "an action assigns",
  ],
])("%s: refused when the definition is read", (_what, config, text) => {
  const logic = base.createMachine({ context: { n: 0 }, ...config } as never);
  expect(() => new FlatMachine(logic as never)).toThrow(text);
});
