/** `heirloom backup` with its command line parsed, and what it prints. */
import type { CommandContext } from "@stricli/core";
import { formatBytes } from "../sizes.ts";
import { StopSignals } from "../stop-signals.ts";
import { paintFor } from "../terminal/colours.ts";
import { printable } from "../terminal/printable.ts";
import { ProgressDisplay } from "../terminal/progress-display.ts";
import { Screen } from "../terminal/screen.ts";
import { type BackupResult, failure, keep, removeUnfinished, runJob } from "./backup.ts";
import type { BackupFlags } from "./backup-command.ts";
import { type BackupPlan, planBackup, type Target } from "./backup-plan.ts";
import { ControlClient } from "./control-client.ts";
import { jobsOf } from "./jobs.ts";
import { CommandError } from "../command-error.ts";
import { nextStepsForNode } from "./next-steps.ts";

export async function runBackup(this: CommandContext, flags: BackupFlags, node: string, target: string): Promise<void> {
  using control = await ControlClient.connect(flags);
  const nodes = await control.run("query-named-block-nodes", { flat: true });
  const source = nodes.find((one) => one["node-name"] === node);
  if (source === undefined) throw new CommandError(`there is no node '${node}'`, await nextStepsForNode(control.qmp));
  const disk = { node, length: source.image["virtual-size"] };
  const plan = planBackup(flags, disk, target, (name) => nodes.some((one) => one["node-name"] === name));
  const job = flags.job ?? (await freeJobId(control));
  using signals = new StopSignals();
  const progress = new ProgressDisplay(new Screen(process.stderr), paintFor(process.stderr));
  let result: BackupResult;
  try {
    result = await runJob(control, plan, job, signals, progress);
  } finally {
    progress.end();
  }
  conclude(plan, disk.length, result, flags.json === true);
}

/** Its copy gets its name, or is removed, and both are told. @throws CommandError where it came to nothing */
export function conclude(plan: BackupPlan, diskLength: number, result: BackupResult, json: boolean): void {
  if (result.end.how === "completed") keep(plan);
  else removeUnfinished(plan);
  const screen = new Screen(process.stdout);
  if (json) screen.print(JSON.stringify(asJson(plan, diskLength, result)));
  if (result.end.how !== "completed") throw failure(plan, result);
  if (!json) screen.print(...asText(plan, result));
}

/** One that no job has, and none of those that have ended of late. */
async function freeJobId({ qmp }: ControlClient): Promise<string> {
  const actors = await qmp.execute("x-heirloom-query-actors").catch(() => []);
  const ended = actors.filter(({ kind }) => kind === "job").map(({ name }) => name);
  const taken = [...(await jobsOf(qmp)).map(({ id }) => id), ...ended];
  const numbers = taken.map((id) => Number(/^backup-(\d{1,9})$/.exec(id)?.[1] ?? 0));
  return `backup-${Math.max(0, ...numbers) + 1}`;
}

function asText({ target, node, sync, bitmap }: BackupPlan, { end, seconds, dirty }: BackupResult): readonly string[] {
  const byBitmap = sync === "incremental" || sync === "bitmap";
  const what = byBitmap ? `what ${bitmap} said of ${node}` : `all of ${node}`;
  const rate = `${formatBytes(end.offset / Math.max(seconds, 0.001))}/s`;
  const lines = [`${nameOf(target)}: ${what}, ${formatBytes(end.offset)} (${seconds.toFixed(1)} s, ${rate})`];
  if (bitmap !== undefined && dirty !== undefined) {
    lines.push(`${bitmap} says what was written since it began: ${formatBytes(dirty)}`);
  }
  return lines.map(printable);
}

function asJson(plan: BackupPlan, diskLength: number, { job, end, seconds, dirty }: BackupResult): object {
  const { node, target, sync, bitmap = null, bitmapMode } = plan;
  return {
    job,
    node,
    target: nameOf(target),
    sync,
    bitmap,
    bitmapMode: bitmap === null ? null : (bitmapMode ?? "on-success"),
    status: end.how,
    error: end.error,
    diskLength,
    offset: end.offset,
    length: end.length,
    seconds,
    dirty: dirty ?? null,
  };
}

function nameOf(target: Target): string {
  return target.kind === "node" ? target.name : target.path;
}
