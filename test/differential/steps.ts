/** What a sequence is made of: commands, and what a guest does between them. All of it plain data, so that it can be shown. */
import type { TransactionAction } from "@heirloom/qmp";
import type { Choice } from "./random.ts";
import { cluster, diskLength } from "./scene.ts";

export type Step =
  | { readonly kind: "command"; readonly name: string; readonly args: Readonly<Record<string, unknown>> }
  | { readonly kind: "write"; readonly offset: number; readonly length: number; readonly value: number }
  | { readonly kind: "zeroes"; readonly offset: number; readonly length: number };

const nodes = ["d", "d", "d", "e"];
const bitmaps = ["a", "b", "c"];
const jobs = ["j", "k"];
const granularities = [512, 4096, 65536, 131072, 2 ** 20];

export function makeSequence(choice: Choice, length: number): Step[] {
  const steps: Step[] = [];
  // A few bitmaps at the start: most sequences want some.
  for (const name of bitmaps)
    if (choice.maybe(0.6)) steps.push(command("block-dirty-bitmap-add", addArguments(choice, name)));
  while (steps.length < length) steps.push(step(choice));
  return steps;
}

function command(name: string, args: Readonly<Record<string, unknown>>): Step {
  return { kind: "command", name, args };
}

function step(choice: Choice): Step {
  const roll = choice.random();
  if (roll < 0.3) return guestStep(choice);
  if (roll < 0.52) return bitmapStep(choice);
  if (roll < 0.7) return command("blockdev-backup", backupArguments(choice));
  if (roll < 0.8) return command("transaction", transactionArguments(choice));
  return jobStep(choice);
}

function guestStep(choice: Choice): Step {
  const length = choice.of([512, 4096, cluster, 3 * cluster]);
  const offset = Math.floor((choice.below(diskLength - length) + 1) / 512) * 512;
  if (choice.maybe(0.2)) return { kind: "zeroes", offset, length };
  return { kind: "write", offset, length, value: 1 + choice.below(255) };
}

function addArguments(choice: Choice, name: string): Record<string, unknown> {
  return {
    node: choice.of(nodes),
    name,
    ...(choice.maybe(0.5)
      ? { granularity: choice.maybe(0.05) ? choice.of([0, 3000, 256]) : choice.of(granularities) }
      : {}),
    ...(choice.maybe(0.2) ? { disabled: true } : {}),
    ...(choice.maybe(0.03) ? { persistent: true } : {}),
  };
}

function someBitmap(choice: Choice): { node: string; name: string } {
  return {
    node: choice.maybe(0.02) ? "nosuch" : choice.of(nodes),
    name: choice.maybe(0.03) ? "nosuch" : choice.of(bitmaps),
  };
}

function mergeArguments(choice: Choice): Record<string, unknown> {
  const { node, name } = someBitmap(choice);
  // An empty list ends QEMU 7.2 (reference 0.1).
  const sources = Array.from({ length: 1 + choice.below(2) }, () =>
    choice.maybe(0.6) ? choice.of(bitmaps) : someBitmap(choice),
  );
  return { node, target: name, bitmaps: sources };
}

function bitmapStep(choice: Choice): Step {
  const roll = choice.random();
  if (roll < 0.35) return command("block-dirty-bitmap-add", addArguments(choice, choice.of(bitmaps)));
  if (roll < 0.55) return command("block-dirty-bitmap-merge", mergeArguments(choice));
  return command(`block-dirty-bitmap-${choice.of(["remove", "clear", "enable", "disable"])}`, someBitmap(choice));
}

function backupArguments(choice: Choice): Record<string, unknown> {
  const sync = choice.of(["full", "top", "none", "incremental", "incremental", "bitmap", "bitmap"]);
  const needsBitmap = sync === "incremental" || sync === "bitmap";
  const withBitmap = needsBitmap ? choice.maybe(0.97) : choice.maybe(0.3);
  const withMode = sync === "incremental" ? choice.maybe(0.1) : withBitmap ? choice.maybe(0.95) : choice.maybe(0.03);
  return {
    "job-id": choice.of(jobs),
    device: choice.maybe(0.9) ? "d" : choice.of(["e", "t", "nosuch"]),
    target: choice.of(["t", "t", "u", "f", ...(choice.maybe(0.1) ? ["d", "nosuch"] : [])]),
    sync,
    ...(withBitmap ? { bitmap: choice.of(bitmaps) } : {}),
    ...(withMode ? { "bitmap-mode": choice.of(["on-success", "never", "always"]) } : {}),
    ...(choice.maybe(0.4) ? { "auto-finalize": false } : {}),
    ...(choice.maybe(0.4) ? { "auto-dismiss": false } : {}),
    ...(choice.maybe(0.3) ? { "on-target-error": choice.of(["report", "stop", "enospc"]) } : {}),
    ...(choice.maybe(0.03) ? { compress: true } : {}),
    ...(choice.maybe(0.03) ? { speed: -1 } : {}),
    ...(choice.maybe(0.03) ? { "filter-node-name": choice.of(["t", "1"]) } : {}),
    ...(choice.maybe(0.05)
      ? { "x-perf": choice.of([{ "max-workers": 0 }, { "max-chunk": 4096 }, { "max-chunk": -1 }]) }
      : {}),
  };
}

function transactionArguments(choice: Choice): Record<string, unknown> {
  const grouped = choice.maybe(0.3);
  const actions = Array.from({ length: 1 + choice.below(4) }, () => action(choice, grouped));
  return { actions, ...(grouped ? { properties: { "completion-mode": "grouped" } } : {}) };
}

function action(choice: Choice, grouped: boolean): TransactionAction {
  const roll = choice.random();
  if (roll < 0.04) return { type: "abort", data: {} };
  if (roll < (grouped ? 0.9 : 0.3)) {
    return { type: "blockdev-backup", data: backupArguments(choice) } as unknown as TransactionAction;
  }
  if (roll < 0.55) {
    return {
      type: "block-dirty-bitmap-add",
      data: addArguments(choice, choice.of(bitmaps)),
    } as unknown as TransactionAction;
  }
  if (roll < 0.7)
    return { type: "block-dirty-bitmap-merge", data: mergeArguments(choice) } as unknown as TransactionAction;
  // An enable that cannot be prepared ends QEMU 7.2 (reference 0.2).
  const verb = choice.of(["remove", "clear", "disable"] as const);
  return { type: `block-dirty-bitmap-${verb}`, data: someBitmap(choice) };
}

function jobStep(choice: Choice): Step {
  const id = choice.maybe(0.03) ? "nosuch" : choice.of(jobs);
  const verb = choice.of(["cancel", "finalize", "finalize", "dismiss", "dismiss", "pause", "resume", "complete"]);
  if (choice.maybe(0.25)) {
    if (verb === "finalize" || verb === "dismiss") return command(`block-job-${verb}`, { id });
    return command(`block-job-${verb}`, {
      device: id,
      ...(verb === "cancel" && choice.maybe(0.5) ? { force: true } : {}),
    });
  }
  if (choice.maybe(0.1)) return command("block-job-set-speed", { device: id, speed: choice.of([0, 2 ** 30, -1]) });
  return command(`job-${verb}`, { id });
}
