import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import { describe, expect, it, vi } from "vitest";
import { type PreparedTransition, TransitionTimeout } from "@heirloom/engine";
import {
  closedWord,
  gateBytes,
  operationDiscard,
  operationField,
  operationWrite,
  requestsField,
  slotWord,
} from "../dist/gate-layout.js";
import { guestsMove } from "../dist/gatekeeper.js";
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

/** Words of a gate whose participant 3 is in the middle of a write. */
function gateWithGuest(): Int32Array {
  const words = new Int32Array(new SharedArrayBuffer(gateBytes));
  Atomics.store(words, slotWord(3, operationField), operationWrite);
  return words;
}

describe("a look before a transition", () => {
  it("finds that nobody is inside", () => {
    expect(guestsMove([new Int32Array(new SharedArrayBuffer(gateBytes))], 8)).toBe(true);
  });

  it("finds a guest that stands, at whichever of the gates", () => {
    const empty = new Int32Array(new SharedArrayBuffer(gateBytes));
    expect(guestsMove([empty, gateWithGuest()], 8)).toBe(false);
    expect(guestsMove([gateWithGuest(), empty], 8)).toBe(false);
  });

  for (const [what, field] of [
    ["is at one request after the other", requestsField],
    ["leaves", operationField],
  ] as const) {
    it(`finds that a guest ${what}`, async () => {
      const words = gateWithGuest();
      const source = `
        const { parentPort, workerData: { words, word, leaves } } = require("node:worker_threads");
        parentPort.postMessage("ready");
        for (let count = 0; Atomics.load(words, 0) === 0; count++) Atomics.store(words, word, leaves ? count & 1 : count);
      `;
      const workerData = { words, word: slotWord(3, field), leaves: field === operationField };
      const worker = new Worker(source, { eval: true, workerData });
      await once(worker, "message");
      // One look may come while this thread's core is all there is; a guest that moves is seen by one of them.
      await vi.waitUntil(() => guestsMove([words], 8), { interval: 0, timeout: 10_000 });
      const exit = once(worker, "exit");
      Atomics.store(words, closedWord, 1); // ends it
      await exit;
    });
  }
});

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
    while (waits.length < 8) {
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
    expect(tries).toBeGreaterThanOrEqual(9);
    const open = waits.reduce((sum, ms) => sum + ms, 0);
    expect(open).toBeGreaterThanOrEqual(2 * (closedMs - 5));
    expect(waits[7]).toBeGreaterThan(waits[0]); // holds grow, or they starve
  });

  it("is put off, its gate open, while somebody inside does not move", async () => {
    await using lab = new Lab();
    const disk = await lab.memory(65536);
    const letGo = hold(disk, lab);
    const done = lab.engine.transitions.run({ name: "freeze", stacks: [disk.layer.stack], prepare: () => nothing });
    setTimeout(letGo, 0); // due before the first look after the one that was made in the call above
    expect((await done).tries).toBe(1);
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
