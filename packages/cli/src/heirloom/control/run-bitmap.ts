/** `heirloom bitmap` with its command line parsed. */
import type { CommandContext } from "@stricli/core";
import { CommandError } from "../command-error.ts";
import { formatBytes } from "../sizes.ts";
import { printable } from "../terminal/printable.ts";
import { alignRows } from "../terminal/rows.ts";
import { Screen } from "../terminal/screen.ts";
import type { AddFlags, MergeFlags, Verb } from "./bitmap-commands.ts";
import { type Bitmap, bitmapsOf } from "./bitmaps.ts";
import { ControlClient } from "./control-client.ts";
import type { ControlFlags } from "./control-flags.ts";
import { nextStepsForNode } from "./next-steps.ts";

export async function runList(this: CommandContext, flags: ControlFlags, node?: string): Promise<void> {
  using control = await ControlClient.connect(flags);
  const bitmaps = await bitmapsOf(control.qmp);
  const chosen = bitmaps.filter((bitmap) => node === undefined || bitmap.node === node);
  if (node !== undefined && chosen.length === 0) await refuseMissingNode(control, node);
  const screen = new Screen(process.stdout);
  if (flags.json === true) screen.print(JSON.stringify({ bitmaps: chosen }));
  else if (chosen.length === 0) screen.print("There are no bitmaps.");
  else screen.print(...alignRows([["NODE", "BITMAP", "DIRTY", "GRANULARITY", "STATE"], ...chosen.map(rowOf)]));
}

export async function runAdd(this: CommandContext, flags: AddFlags, node: string, name: string): Promise<void> {
  const { granularity, disabled = false, persistent = false } = flags;
  using control = await ControlClient.connect(flags);
  const size = granularity === undefined ? {} : { granularity };
  const args = { node, name, disabled, persistent, ...size };
  await control.run("block-dirty-bitmap-add", args, { node, bitmap: name });
  await tell(control, flags, node, name, disabled ? "added; it does not record yet" : "added; it records from now on");
}

const told: Readonly<Record<Verb, string>> = {
  remove: "removed",
  clear: "cleared: it begins anew",
  enable: "records from now on",
  disable: "does not record any more, and keeps what it says",
};

export function runChange(
  verb: Verb,
): (this: CommandContext, flags: ControlFlags, node: string, name: string) => Promise<void> {
  return async function (flags, node, name) {
    using control = await ControlClient.connect(flags);
    const before = verb === "remove" ? await find(control, node, name) : undefined;
    await control.run(`block-dirty-bitmap-${verb}`, { node, name }, { node, bitmap: name });
    await tell(control, flags, node, name, told[verb], before);
  };
}

export async function runMerge(this: CommandContext, flags: MergeFlags, ...words: string[]): Promise<void> {
  const [node, target, ...sources] = words;
  const { from } = flags;
  using control = await ControlClient.connect(flags);
  const bitmaps = sources.map((name) => (from === undefined ? name : { node: from, name }));
  await control.run("block-dirty-bitmap-merge", { node, target, bitmaps }, { node, bitmap: target });
  await tell(control, flags, node, target, `has what ${sources.map(printable).join(", ")} said as well`);
}

/** @param bitmap as it is to be told, where it is not there any more */
async function tell(
  control: ControlClient,
  { json }: ControlFlags,
  node: string,
  name: string,
  what: string,
  bitmap?: Bitmap,
): Promise<void> {
  const screen = new Screen(process.stdout);
  if (json === true) screen.print(JSON.stringify({ bitmap: bitmap ?? (await find(control, node, name)) ?? null }));
  else screen.print(`${printable(node)}: ${printable(name)}: ${what}`);
}

async function find(control: ControlClient, node: string, name: string): Promise<Bitmap | undefined> {
  return (await bitmapsOf(control.qmp)).find((bitmap) => bitmap.node === node && bitmap.name === name);
}

async function refuseMissingNode(control: ControlClient, node: string): Promise<void> {
  const nodes = await control.run("query-named-block-nodes", { flat: true });
  if (nodes.some((one) => one["node-name"] === node)) return;
  throw new CommandError(`there is no node '${node}'`, await nextStepsForNode(control.qmp));
}

function rowOf({ node, name, granularity, count, ...state }: Bitmap): readonly string[] {
  return [printable(node), printable(name), formatBytes(count), formatBytes(granularity), stateOf(state)];
}

function stateOf({
  recording,
  busy,
  persistent,
  inconsistent,
}: Omit<Bitmap, "node" | "name" | "granularity" | "count">): string {
  const words = [inconsistent ? "inconsistent" : recording ? "recording" : "disabled"];
  if (busy) words.push("busy");
  if (persistent) words.push("persistent");
  return words.join(", ");
}
