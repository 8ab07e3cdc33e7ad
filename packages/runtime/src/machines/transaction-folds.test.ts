/**
 * Transactions of merges, clears and freezes: the machines' effects, carried out by the rules in `bitmap-types.ts` with
 * guests writing between the folds, leave every bitmap as if each action had been done at once at the instant.
 */
import fc from "fast-check";
import { expect, test } from "vitest";
import { bitmapMachine } from "./bitmap-machine.ts";
import type { BitmapContext, BitmapEffect, BitmapEvent, BitmapInput } from "./bitmap-types.ts";
import { MachineActor, type Plan } from "./machine-actor.ts";

type Bits = Set<number>;
const names = ["a", "b", "c"] as const;
type Name = (typeof names)[number];
type Action =
  | { readonly type: "merge"; readonly target: Name; readonly sources: readonly Name[] }
  | { readonly type: "clear" | "freeze" | "disable" | "enable"; readonly name: Name };

const name = fc.constantFrom(...names);
const bits = fc.uniqueArray(fc.integer({ min: 0, max: 30 }), { maxLength: 4 });
const action: fc.Arbitrary<Action> = fc.oneof(
  fc.record({ type: fc.constant("merge" as const), target: name, sources: fc.array(name, { maxLength: 3 }) }),
  fc.record({
    type: fc.constantFrom("clear" as const, "freeze" as const, "disable" as const, "enable" as const),
    name,
  }),
);

/** A bitmap in memory: the layer that stands for it, the one set aside for merges, its heir. */
class Memory {
  layer: Bits;
  old: Bits | undefined;
  successor: Bits | undefined;
  constructor(initial: readonly number[]) {
    this.layer = new Set(initial);
  }
}

class Transaction {
  readonly actors = new Map(
    names.map((id) => [
      id,
      new MachineActor<BitmapInput, BitmapContext, BitmapEvent, BitmapEffect>(
        id,
        bitmapMachine,
        { node: "n", name: id, recording: true },
        { now: () => 0 },
      ),
    ]),
  );
  readonly memory: Map<Name, Memory>;
  readonly plans = new Map<Name, Plan<BitmapContext, BitmapEvent, BitmapEffect>[]>();
  readonly folds: { readonly into: Bits; readonly from: Bits }[] = [];

  constructor(initial: readonly (readonly number[])[]) {
    this.memory = new Map(names.map((id, index) => [id, new Memory(initial[index])]));
  }

  /** False: refused, and nothing has happened. */
  plan(id: Name, event: BitmapEvent): boolean {
    const chain = this.plans.get(id) ?? [];
    const plan = this.actors.get(id)?.plan({ ...event, command: 1 } as BitmapEvent, chain.at(-1));
    if (plan === undefined || !plan.ok) return false;
    this.plans.set(id, [...chain, plan]);
    for (const effect of plan.effects) this.#apply(id, effect);
    return true;
  }

  #of(id: string): Memory {
    const memory = this.memory.get(id as Name);
    if (memory === undefined) throw new Error(id);
    return memory;
  }

  #apply(id: Name, effect: BitmapEffect): void {
    const memory = this.#of(id);
    if (effect.type === "fresh-layer") {
      memory.old = memory.layer;
      memory.layer = new Set();
    } else if (effect.type === "swap-empty") {
      memory.layer = new Set();
    } else if (effect.type === "freeze") {
      memory.successor = new Set();
    } else if (effect.type === "fold") {
      const source = effect.from.kind === "bitmap" ? this.#of(effect.from.name) : memory;
      if (source.old === undefined) throw new Error("bits that are folded stand still in an old layer");
      this.folds.push({ into: memory.layer, from: source.old });
    }
  }

  /** A guest's write after the instant. */
  write(granule: number): void {
    for (const [id, memory] of this.memory) {
      if (this.actors.get(id)?.context.recording === true) (memory.successor ?? memory.layer).add(granule);
    }
  }
}

test("merges, clears and freezes of one transaction are as if done at once, while guests write", () => {
  fc.assert(
    fc.property(
      fc.tuple(bits, bits, bits),
      fc.array(action, { maxLength: 8 }),
      fc.array(fc.integer({ min: 31, max: 60 }), { maxLength: 20 }),
      (initial, actions, writes) => {
        const transaction = new Transaction(initial);
        // The plain model: sets at the instant.
        const model = new Map(names.map((id, index) => [id, new Set<number>(initial[index])]));
        for (const each of actions) {
          if (each.type === "merge") {
            const involved = [each.target, ...each.sources];
            const frozen = involved.some((id) => transaction.memory.get(id)?.successor !== undefined);
            const sources = each.sources.filter((id) => id !== each.target);
            if (frozen || sources.length === 0) continue;
            for (const source of sources) {
              expect(transaction.plan(source, { type: "mergeSource", into: { node: "n", name: each.target } })).toBe(
                true,
              );
            }
            const references = sources.map((id) => ({ node: "n", name: id }));
            expect(transaction.plan(each.target, { type: "mergeTarget", sources: references })).toBe(true);
            for (const source of sources) for (const bit of model.get(source) ?? []) model.get(each.target)?.add(bit);
          } else {
            const event: BitmapEvent =
              each.type === "freeze"
                ? { type: "freeze", user: { kind: "job", id: "j" }, mode: "on-success" }
                : { type: each.type };
            const frozen = transaction.memory.get(each.name)?.successor !== undefined;
            expect(transaction.plan(each.name, event)).toBe(!frozen);
            if (!frozen && each.type === "clear") model.get(each.name)?.clear();
          }
        }
        for (const [id, plans] of transaction.plans) for (const plan of plans) transaction.actors.get(id)?.commit(plan);
        const written = new Map(names.map((id) => [id, new Set<number>()]));
        const guests = [...writes];
        const guest = (): void => {
          const granule = guests.pop();
          if (granule === undefined) return;
          transaction.write(granule);
          for (const id of names)
            if (transaction.actors.get(id)?.context.recording === true) written.get(id)?.add(granule);
        };
        for (const fold of transaction.folds) {
          guest();
          for (const bit of fold.from) fold.into.add(bit);
        }
        while (guests.length > 0) guest();
        for (const id of names) {
          const actor = transaction.actors.get(id);
          const memory = transaction.memory.get(id);
          if (actor === undefined || memory === undefined) throw new Error(id);
          while (actor.can({ type: "folded" })) actor.send({ type: "folded" });
          const frozen = memory.successor !== undefined;
          expect(memory.layer).toEqual(
            frozen ? model.get(id) : new Set([...(model.get(id) ?? []), ...(written.get(id) ?? [])]),
          );
          expect(memory.successor ?? written.get(id)).toEqual(written.get(id));
          expect(actor.state).toBe(frozen ? "frozen" : actor.context.recording ? "recording" : "disabled");
        }
      },
    ),
    { numRuns: 500 },
  );
});
