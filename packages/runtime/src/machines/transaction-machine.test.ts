import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { refusal } from "../errors.ts";
import { MachineActor } from "./machine-actor.ts";
import { refuseAction, transactionActions, type TransactionActionKind } from "./transaction-action.ts";
import {
  transactionMachine,
  type TransactionContext,
  type TransactionEffect,
  type TransactionEvent,
  type TransactionInput,
} from "./transaction-machine.ts";

type Transaction = MachineActor<TransactionInput, TransactionContext, TransactionEvent, TransactionEffect>;

const no = refusal("ERR_BITMAP_BUSY", "busy");
const make = (actions: readonly TransactionActionKind[], events: readonly TransactionEvent[] = []): Transaction => {
  const transaction = new MachineActor("t", transactionMachine, { id: 1, actions }, { now: () => 0 });
  for (const event of events) transaction.send(event);
  return transaction;
};
const prepared: TransactionEvent = { type: "prepared" };
const refused: TransactionEvent = { type: "refused", refusal: no };
const carriedOut: TransactionEvent = { type: "carriedOut" };

describe("a transaction", () => {
  const told = (effects: readonly TransactionEffect[]): readonly string[] =>
    effects.map((effect) => ("index" in effect ? `${effect.type} ${effect.index}` : effect.type));

  test("prepares in order and commits all in order; what was refused is not aborted, what was prepared is, in reverse", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 8 }),
        fc.integer({ min: 0, max: 9 }),
        fc.boolean(),
        (length, failing, engine) => {
          const transaction = make(Array.from({ length }, () => "block-dirty-bitmap-clear"));
          const log = [...transaction.initialEffects];
          for (let index = 0; index < length && transaction.state === "preparing"; index += 1) {
            expect(log.at(-1)).toEqual({ type: "prepare", index });
            log.push(...transaction.send(index === failing ? refused : prepared));
          }
          if (transaction.state === "ready") {
            expect(log.at(-1)).toEqual({ type: "carry-out" });
            log.push(...transaction.send(engine ? carriedOut : refused));
          }
          const succeeds = failing >= length && engine;
          expect(transaction.state).toBe(succeeds ? "committed" : "aborted");
          const done = Math.min(failing, length);
          const indexes = Array.from({ length: done }, (_, index) => index);
          expect(told(log)).toEqual([
            ...indexes.map((index) => `prepare ${index}`),
            ...(failing < length ? [`prepare ${failing}`] : ["carry-out"]),
            ...(succeeds ? indexes.map((i) => `commit ${i}`) : indexes.toReversed().map((i) => `abort ${i}`)),
            "reply",
          ]);
          expect(log.at(-1)).toEqual({ type: "reply", refusal: succeeds ? null : no });
        },
      ),
    );
  });

  test("every event in every state", () => {
    const conditions = {
      preparing: make(["abort", "abort"]),
      "preparing the last": make(["abort"]),
      ready: make([]),
      committed: make([], [carriedOut]),
      aborted: make([], [refused]),
    };
    const events = [prepared, refused, carriedOut];
    expect(new Set(Object.values(conditions).map(({ state }) => state))).toEqual(new Set(transactionMachine.states));
    expect(new Set(events.map(({ type }) => type))).toEqual(new Set(transactionMachine.events));
    const answers = Object.entries(conditions).map(([name, transaction]) => [
      name,
      ...events.map((event) => {
        const plan = transaction.plan(event);
        return plan.ok ? plan.next.state : plan.refusal.code;
      }),
    ]);
    const out = "ERR_TRANSACTION_STATE";
    expect(answers).toEqual([
      ["preparing", "preparing", "aborted", out],
      ["preparing the last", "ready", "aborted", out],
      ["ready", out, "aborted", "committed"],
      ["committed", out, out, out],
      ["aborted", out, out, out],
    ]);
  });

  test("the abort action always aborts, and a grouped transaction takes backups only", () => {
    for (const mode of ["individual", "grouped"] as const) {
      expect(refuseAction("abort", mode)).toMatchObject({ desc: "Transaction aborted using Abort action" });
      expect(refuseAction("blockdev-backup", mode)).toBeUndefined();
    }
    for (const kind of transactionActions.filter((name) => name.startsWith("block-dirty"))) {
      expect(refuseAction(kind, "individual")).toBeUndefined();
      expect(refuseAction(kind, "grouped")?.desc).toBe(
        `Action '${kind}' does not support Transaction property completion-mode = grouped`,
      );
    }
  });
});
