import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it, vi } from "vitest";
import { type PreparedTransition, TransitionTimeout } from "@heirloom/engine";
import { closedWord, operationDiscard, operationField, operationWrite, slotWord } from "../dist/gate-layout.js";
import type { Stack } from "../dist/stack.js";
import { Lab, type LabDisk } from "./lab.fixture.ts";

const nothing: PreparedTransition = { tables: new Map() };

/** Somebody who is inside and stays there. */
function hold(disk: LabDisk, lab: Lab, operation = operationWrite): () => void {
  const participant = lab.engine.registry.reserve()?.participant ?? -1;
  const { words } = disk.layer.stack;
  Atomics.store(words, slotWord(participant, operationField), operation);
  return () => {
    Atomics.store(words, slotWord(participant, operationField), 0);
    Atomics.notify(words, slotWord(participant, operationField));
  };
}

const isClosed = (stack: Stack): boolean => Atomics.load(stack.words, closedWord) !== 0;

describe("a transition", () => {
  it("of an idle disk is over in the call that asked", async () => {
    await using lab = new Lab();
    const { layer } = await lab.memory(65536);
    const order: string[] = [];
    const done = lab.engine.transitions.run({
      name: "test",
      stacks: [layer.stack],
      prepare: () => ({
        tables: new Map(),
        commit: () => order.push(isClosed(layer.stack) ? "commit, closed" : "commit, open"),
        observe: () => order.push(isClosed(layer.stack) ? "observe, closed" : "observe, open"),
        committed: () => order.push(isClosed(layer.stack) ? "committed, closed" : "committed, open"),
      }),
    });
    order.push("called");
    expect(order).toEqual(["commit, closed", "observe, closed", "committed, open", "called"]);
    expect((await done).tries).toBe(1);
  });

  it("does not count what the look at its instant takes", async () => {
    await using lab = new Lab();
    const { layer } = await lab.memory(65536);
    const { closedMs } = await lab.engine.transitions.run({
      name: "test",
      stacks: [layer.stack],
      prepare: () => ({
        tables: new Map(),
        observe: () => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 50),
      }),
    });
    expect(closedMs).toBeLessThan(40);
  });

  it("waits behind those of its own stacks and not behind others", async () => {
    await using lab = new Lab();
    const [a, b, c] = [await lab.memory(65536), await lab.memory(65536), await lab.memory(65536)];
    const letGo = hold(a, lab);
    const order: string[] = [];
    const run = (name: string, ...disks: LabDisk[]): Promise<unknown> =>
      lab.engine.transitions.run({
        name,
        stacks: disks.map((disk) => disk.layer.stack),
        prepare: () => {
          order.push(`${name} prepared`);
          return { tables: new Map(), commit: () => order.push(name) };
        },
      });
    const all = [run("a", a), run("group of a and b", a, b), run("b behind the group", b), run("c", c)];
    expect(order).toEqual(["a prepared", "c prepared", "c"]);
    letGo();
    await Promise.all(all);
    expect(order.slice(3)).toEqual([
      "a",
      "group of a and b prepared",
      "group of a and b",
      "b behind the group prepared",
      "b behind the group",
    ]);
  });

  it("of a group closes every gate at once", async () => {
    await using lab = new Lab();
    const disks = [await lab.memory(65536), await lab.memory(65536), await lab.memory(65536)];
    const stacks = disks.map((disk) => disk.layer.stack);
    let closed: boolean[] = [];
    await lab.engine.transitions.run({
      name: "test",
      stacks,
      prepare: () => ({ tables: new Map(), commit: () => (closed = stacks.map(isClosed)) }),
    });
    expect(closed).toEqual([true, true, true]);
    expect(stacks.map(isClosed)).toEqual([false, false, false]);
  });

  it("is refused at its deadline with the name of what holds the gate, and undone", async () => {
    await using lab = new Lab();
    const disk = await lab.memory(65536);
    const letGo = hold(disk, lab, operationDiscard);
    const told: string[] = [];
    const before = lab.engine.arenas.bytesInUse;
    const refused = await lab.engine.transitions
      .run({
        name: "freeze",
        stacks: [disk.layer.stack],
        deadlineMs: 30,
        prepare: () => ({
          tables: new Map(),
          commit: () => told.push("commit"),
          abandoned: () => told.push("abandoned"),
          committed: () => told.push("committed"),
        }),
      })
      .catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(TransitionTimeout);
    expect(refused).toMatchObject({ code: "ERR_GATE_HELD", operation: "discard" });
    expect((refused as Error).message).toMatch(/^freeze: .*discard/);
    expect(told).toEqual(["abandoned"]);
    expect(lab.engine.arenas.bytesInUse).toBe(before);
    expect(isClosed(disk.layer.stack)).toBe(false);
    letGo();
    await lab.change(disk.layer, {}); // and the next one goes through
  });

  it("without a deadline goes on trying, with the gate open at least twice as long as closed", async () => {
    await using lab = new Lab();
    const disk = await lab.memory(65536);
    const letGo = hold(disk, lab);
    const waits: number[] = [];
    const timers = vi.spyOn(globalThis, "setTimeout");
    const done = lab.engine.transitions.run({ name: "reclaim", stacks: [disk.layer.stack], prepare: () => nothing });
    const opened: boolean[] = [];
    while (waits.length < 5) {
      await sleep(1);
      opened.push(!isClosed(disk.layer.stack));
      waits.splice(
        0,
        waits.length,
        ...timers.mock.calls
          .filter(([run]) => String(run).includes("#try") || String(run).includes("try("))
          .map(([, ms]) => Number(ms)),
      );
    }
    letGo();
    const { closedMs, tries } = await done;
    timers.mockRestore();
    expect(opened).not.toContain(false); // no gate is closed across a turn of the event loop
    expect(tries).toBeGreaterThanOrEqual(6);
    const open = waits.reduce((sum, ms) => sum + ms, 0);
    expect(open).toBeGreaterThanOrEqual(2 * (closedMs - 5));
    expect(waits[4]).toBeGreaterThan(waits[0]); // holds grow, or they starve
  });

  it("that is refused by its own preparation frees its stacks for the next", async () => {
    await using lab = new Lab();
    const { layer } = await lab.memory(65536);
    const request = { name: "test", stacks: [layer.stack] };
    await expect(
      lab.engine.transitions.run({
        ...request,
        prepare: () => {
          throw new Error("no");
        },
      }),
    ).rejects.toThrow("no");
    expect(lab.engine.transitions.isHeld(layer.stack)).toBe(false);
    await lab.change(layer, {});
  });

  for (const where of ["commit", "observe", "committed"] as const) {
    it(`whose ${where} throws leaves no gate closed and nobody behind it waiting`, async () => {
      await using lab = new Lab();
      const { layer } = await lab.memory(65536);
      const letGo = hold({ layer } as LabDisk, lab);
      const fails = lab.engine.transitions.run({
        name: "test",
        stacks: [layer.stack],
        prepare: () => ({
          tables: new Map(),
          [where]: () => {
            throw new Error(`${where} threw`);
          },
        }),
      });
      const behind = lab.change(layer, {});
      letGo();
      await expect(fails).rejects.toThrow(`${where} threw`);
      expect(isClosed(layer.stack)).toBe(false);
      await behind;
      expect(lab.engine.transitions.isHeld(layer.stack)).toBe(false);
    });
  }

  it("whose look at the instant throws is carried out all the same: its tables are in force", async () => {
    await using lab = new Lab();
    const { layer } = await lab.memory(65536);
    let committed = false;
    const run = lab.engine.transitions.run({
      name: "test",
      stacks: [layer.stack],
      prepare: () => ({
        tables: new Map([[layer, { ...layer.table, length: 4096 }]]),
        observe: () => {
          throw new Error("observe threw");
        },
        committed: () => (committed = true),
      }),
    });
    await expect(run).rejects.toThrow("observe threw");
    expect([layer.table.length, committed]).toEqual([4096, true]);
  });

  it("may be asked for while another is carried out", async () => {
    await using lab = new Lab();
    const { layer } = await lab.memory(65536);
    const order: string[] = [];
    let inner: Promise<unknown> | undefined;
    await lab.engine.transitions.run({
      name: "outer",
      stacks: [layer.stack],
      prepare: () => ({
        tables: new Map(),
        committed: () => {
          order.push("outer");
          inner = lab.engine.transitions.run({
            name: "inner",
            stacks: [layer.stack],
            prepare: () => ({ tables: new Map(), committed: () => order.push("inner") }),
          });
        },
      }),
    });
    await inner;
    expect(order).toEqual(["outer", "inner"]);
  });
});
