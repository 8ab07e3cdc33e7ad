/** `heirloom explain` with its command line parsed. */
import type { HeirloomActor } from "@heirloom/qmp";
import type { CommandContext } from "@stricli/core";
import { CommandError } from "../command-error.ts";
import { type Paint, paintFor } from "../terminal/colours.ts";
import { printable } from "../terminal/printable.ts";
import { alignRows } from "../terminal/rows.ts";
import { Screen } from "../terminal/screen.ts";
import { ControlClient } from "./control-client.ts";
import type { ControlFlags } from "./control-flags.ts";

export async function runExplain(this: CommandContext, flags: ControlFlags, name?: string): Promise<void> {
  using control = await ControlClient.connect(flags);
  const actors = await actorsOf(control);
  const chosen = actors.filter((actor) => name === undefined || isCalled(actor, name));
  if (chosen.length === 0) throw nobody(actors, name ?? "");
  const screen = new Screen(process.stdout);
  if (flags.json === true) {
    screen.print(JSON.stringify({ actors: chosen }));
    return;
  }
  const paint = paintFor(process.stdout);
  // Without a name, transactions and the pool are too many words about too little.
  const told = chosen.filter(({ kind }) => name !== undefined || (kind !== "transaction" && kind !== "pool"));
  told.forEach((actor, index) => screen.print(...(index === 0 ? [] : [""]), ...describe(actor, paint)));
}

async function actorsOf(control: ControlClient): Promise<readonly HeirloomActor[]> {
  try {
    return await control.run("x-heirloom-query-actors", {});
  } catch (error) {
    if (!(error instanceof CommandError) || !error.message.endsWith("has not been found")) throw error;
    throw new CommandError(
      `who answers on '${control.path}' keeps no history`,
      ["It speaks QMP, and is not Heirloom: 'heirloom bitmap list' and 'heirloom jobs' say what it knows."],
      { cause: error },
    );
  }
}

function isCalled({ kind, name, node }: HeirloomActor, asked: string): boolean {
  return name === asked || node === asked || (kind === "bitmap" && `${node}/${name}` === asked);
}

function nobody(actors: readonly HeirloomActor[], name: string): CommandError {
  const known = actors.filter(({ kind }) => kind !== "transaction" && kind !== "pool");
  const names = [...new Set(known.map((actor) => title(actor)))];
  return new CommandError(`nothing is called '${name}'`, [
    names.length === 0 ? "There are no disks, bitmaps, jobs or exports yet." : `There are: ${names.join(", ")}`,
  ]);
}

function title({ kind, name, node }: HeirloomActor): string {
  return printable(kind === "bitmap" ? `bitmap ${node}/${name}` : `${kind} ${name}`);
}

function describe(actor: HeirloomActor, paint: Paint): readonly string[] {
  const { state, ended, history } = actor;
  const lines = [`${paint("bold", title(actor))}: ${state === "null" || ended ? outcome(actor) : state}`];
  for (const line of facts(actor)) lines.push(`  ${printable(line)}`);
  const rows = alignRows(
    history.map(({ at, event, from, to, reason = "" }) => [
      timeOf(at),
      event === "init" ? "begins" : event,
      event === "init" ? to : `${from} -> ${to}`,
      reason,
    ]),
  );
  return [...lines, ...rows.map((row) => paint("dim", `  ${printable(row)}`))];
}

/** Of a job that is over, how it ended rather than that it is gone. */
function outcome({ context, state }: HeirloomActor): string {
  const { error = null, cancelled = false } = (context ?? {}) as { error?: string | null; cancelled?: boolean };
  if (cancelled) return "cancelled";
  if (error !== null) return `failed: ${printable(error)}`;
  return state === "null" ? "completed" : state;
}

function facts({ kind, node, target, because, context }: HeirloomActor): readonly string[] {
  const lines: string[] = [];
  if (because !== undefined) lines.push(`why: ${because}`);
  if (target !== undefined) lines.push(`from ${node} to ${target}`);
  const { user = null, broken = null } = (context ?? {}) as {
    user?: { kind: string; id: string } | null;
    broken?: string | null;
  };
  if (kind === "bitmap" && user !== null) lines.push(`in use by the ${user.kind} ${user.id}`);
  if (kind === "bitmap" && broken !== null) lines.push(`says nothing any more: ${broken}`);
  return lines;
}

function timeOf(at: number): string {
  const date = new Date(at);
  const two = (number: number): string => String(number).padStart(2, "0");
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  const milliseconds = String(date.getMilliseconds()).padStart(3, "0");
  return `${day} ${date.toTimeString().slice(0, 8)}.${milliseconds}`;
}
